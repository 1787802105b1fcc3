// What the model said, as lists.

import { byId, make, percent } from "./dom.js";
import { maskShare } from "./masks.js";
import { Mark } from "./stage.js";

export function showCaption(place, { caption }) {
  place.replaceChildren(make("blockquote", { class: "caption" }, caption || "(no words)"));
}

// rows: [{ name, probability }], best first.
export function showBars(place, rows) {
  if (!rows.length) return place.replaceChildren(make("p", { class: "quiet" }, "Nothing."));
  const items = rows.map(({ name, probability }) => {
    const bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", probability);
    return make("li", {}, make("span", { class: "name" }, name), bar, make("span", { class: "value" }, percent(probability)));
  });
  place.replaceChildren(make("ol", { class: "bars" }, ...items));
}

// The marks of an answer, each with a row that switches it and lights it.
export function objectMarks({ objects }) {
  return objects.map(({ name, score, box, mask }, number) =>
    Object.assign(new Mark({ name, detail: score.toFixed(2), number, mask, box }), { score, value: score }));
}

// A class has the same colour in every picture.
export function segmentMarks({ classes, names }) {
  return [...classes]
    .sort((one, other) => other.share - one.share)
    .map(({ name, share, mask }) =>
      Object.assign(new Mark({ name, detail: percent(share), number: names.indexOf(name), mask, share }), { value: share }));
}

export function panopticMarks({ segments }) {
  return segments.map(({ name, score, is_thing: isThing, mask }, number) =>
    Object.assign(
      new Mark({ name, detail: score.toFixed(2), number, mask, share: maskShare(mask) }),
      { value: score, kind: isThing ? "object" : "region" },
    ));
}

export function showMarks(place, marks, stage, none) {
  if (!marks.length) return place.replaceChildren(make("p", { class: "quiet" }, none));
  const rows = marks.map((mark) => {
    const box = make("input", { type: "checkbox", checked: mark.on });
    box.addEventListener("change", () => {
      mark.on = box.checked;
      stage.refresh();
    });
    const swatch = make("i", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--colour", mark.colour);
    const bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", mark.value);
    bar.style.setProperty("--colour", mark.colour);
    const name = make("span", { class: "name" }, mark.name);
    if (mark.kind) name.append(make("small", {}, ` ${mark.kind}`));
    mark.row = make("li", {}, make("label", {}, box, swatch, name, bar, make("span", { class: "value" }, mark.detail)));
    for (const event of ["pointerenter", "focusin"]) mark.row.addEventListener(event, () => stage.light(mark));
    for (const event of ["pointerleave", "focusout"]) mark.row.addEventListener(event, () => stage.light(null));
    return mark.row;
  });
  place.replaceChildren(make("ul", { class: "marks" }, ...rows));
}

// Rows and marks of objects that are less sure are put away. Returns how many are left.
export function atLeast(marks, minScore, stage) {
  for (const mark of marks) {
    mark.allowed = mark.score >= minScore;
    if (mark.row) mark.row.hidden = !mark.allowed;
  }
  stage.refresh();
  return marks.filter((mark) => mark.allowed).length;
}

export function showStatement(place, { probability_true: probability }) {
  const bar = make("i", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", probability);
  const word = probability >= 0.5 ? "True" : "False";
  const sure = percent(Math.max(probability, 1 - probability));
  place.replaceChildren(make("p", { class: "verdict" }, make("b", {}, word), bar, make("span", { class: "value" }, sure)));
  return `${word}, ${sure}`;
}

export function emptyCards(...ids) {
  for (const id of ids) byId(id).replaceChildren();
}
