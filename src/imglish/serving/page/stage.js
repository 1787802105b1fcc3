// The picture, and what is drawn over it: layers of marks (outlines, boxes and their names) that are switched
// on and off, one by one or a layer at a time, and lit from here or from their rows in the lists.

import { byId, make, makeSvg } from "./dom.js";
import { decodeMask, maskPath } from "./masks.js";

const ENLARGED = 2; // from this factor on pixels are shown as squares
const LEAST_SHARE = 0.03; // of the picture; the names of smaller regions are shown when lit
const CROWD = 12; // of more marks names are shown only when lit
const GOLDEN_ANGLE = 137.508; // neighbouring numbers get colours far from each other

export function colour(number) {
  return `oklch(0.78 0.16 ${(25 + number * GOLDEN_ANGLE) % 360})`;
}

// One thing drawn on the picture. mask: COCO's run lengths, or null; box: [left, top, right, bottom] in pixels,
// or null; share: of the picture that it takes, or null.
export class Mark {
  constructor({ name, detail, number, mask = null, box = null, share = null }) {
    Object.assign(this, { name, detail, mask, box, share, colour: colour(number), on: true, allowed: true });
    this.shape = null;
    this.tag = null;
    this.row = null;
  }
}

export class Stage {
  #layers = new Map(); // id -> { title, marks, on, group }
  #size = { width: 1, height: 1 };
  #lit = null;

  constructor() {
    this.figure = byId("stage");
    this.sheet = byId("sheet");
    this.image = byId("shown");
    this.svg = byId("marks");
    this.tags = byId("tags");
    byId("opacity").addEventListener("input", (event) => {
      this.sheet.style.setProperty("--opacity", event.target.value / 100);
    });
    this.figure.addEventListener("click", (event) => {
      if (!event.target.closest(".mark")) this.light(null);
    });
    new ResizeObserver(() => this.#sharpen()).observe(this.sheet);
  }

  // A new picture, without any marks.
  show({ url, name, shown, width, height }) {
    this.clear();
    this.figure.classList.remove("empty");
    this.sheet.hidden = false;
    this.sheet.classList.toggle("blank", !shown);
    this.image.hidden = !shown;
    if (shown) this.image.src = url;
    this.image.alt = `The picture: ${name}`;
    this.setSize({ width, height });
  }

  setSize({ width, height }) {
    if (!width || !height) return;
    this.#size = { width, height };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.sheet.style.setProperty("--ratio", width / height);
    this.#sharpen();
  }

  clear() {
    this.#layers.clear();
    this.light(null);
    this.svg.replaceChildren();
    this.tags.replaceChildren();
    byId("layer-switches").replaceChildren();
    byId("layers").hidden = true;
  }

  // A mask that cannot be read raises RangeError.
  addLayer(id, title, marks, on) {
    const group = makeSvg("g", { "data-layer": id });
    // The large ones lie below, so that each can be reached.
    for (const mark of [...marks].sort((one, other) => area(other) - area(one))) {
      mark.shape = this.#draw(mark);
      mark.tag = this.#name(mark);
      group.append(mark.shape);
      this.tags.append(mark.tag);
    }
    this.svg.append(group);
    const layer = { marks, on, group };
    this.#layers.set(id, layer);
    const box = make("input", { type: "checkbox", checked: on });
    box.addEventListener("change", () => {
      layer.on = box.checked;
      this.refresh();
    });
    byId("layer-switches").append(make("label", { class: "switch" }, box, make("span", {}, title)));
    byId("layers").hidden = false;
    this.refresh();
  }

  // Show those marks that are on, are sure enough, and lie in a layer that is on.
  refresh() {
    let seen = 0;
    for (const { marks, on } of this.#layers.values()) {
      for (const mark of marks) {
        const hidden = !(on && mark.on && mark.allowed);
        mark.shape.classList.toggle("off", hidden);
        mark.tag.classList.toggle("off", hidden);
        seen += hidden ? 0 : 1;
      }
    }
    this.sheet.classList.toggle("crowded", seen > CROWD);
  }

  // Lift one mark out of the others, or none. What is switched off is shown for as long as it is lit.
  light(mark) {
    for (const part of [this.#lit?.shape, this.#lit?.tag, this.#lit?.row]) part?.classList.remove("lit");
    this.#lit = mark;
    for (const part of [mark?.shape, mark?.tag, mark?.row]) part?.classList.add("lit");
    this.sheet.classList.toggle("one-lit", Boolean(mark));
  }

  #draw(mark) {
    const group = makeSvg("g", { class: "mark" });
    group.style.setProperty("--colour", mark.colour);
    if (mark.mask) {
      const d = maskPath(mark.mask);
      group.append(makeSvg("path", { d, class: "halo" }), makeSvg("path", { d, class: "area", "fill-rule": "evenodd" }));
    }
    if (mark.box) {
      const [left, top, right, bottom] = mark.box;
      const place = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
      group.append(makeSvg("rect", { ...place, class: mark.mask ? "frame" : "frame alone" }));
    }
    group.addEventListener("pointerenter", () => this.light(mark));
    group.addEventListener("pointerleave", () => this.light(null));
    group.addEventListener("click", () => this.light(mark));
    return group;
  }

  #name(mark) {
    const tag = make("span", { class: "tag" }, make("b", {}, mark.name), ` ${mark.detail}`);
    const { width, height } = this.#size;
    tag.style.setProperty("--colour", mark.colour);
    if (mark.box) {
      const [left, top, right] = mark.box;
      const atRight = left / width > 0.6;
      tag.style.setProperty(atRight ? "right" : "left", `${100 * (atRight ? 1 - right / width : left / width)}%`);
      tag.style.setProperty("top", `${100 * Math.max(0, top / height)}%`);
      tag.classList.toggle("above", top / height > 0.08);
    } else {
      const [x, y] = widest(mark.mask);
      tag.style.setProperty("left", `${100 * x}%`);
      tag.style.setProperty("top", `${100 * y}%`);
      tag.classList.add("middle");
      tag.classList.toggle("small", mark.share !== null && mark.share < LEAST_SHARE);
    }
    return tag;
  }

  #sharpen() {
    this.sheet.classList.toggle("pixels", this.sheet.clientWidth >= ENLARGED * this.#size.width);
  }
}

function area({ box, share }) {
  return box ? (box[2] - box[0]) * (box[3] - box[1]) : share ?? 0;
}

// The middle of the longest stretch of a row that lies in the mask, as shares of width and height: a place for
// a name. Of equal ones, that in the middle.
function widest(mask) {
  const step = Math.max(1, Math.ceil(Math.max(...mask.size) / 128));
  const { width, height, pixels } = decodeMask(mask, step);
  let longest = 0;
  let places = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0, run = 0; x < width; x++) {
      run = pixels[y * width + x] ? run + 1 : 0;
      if (run > longest) [longest, places] = [run, []];
      if (run && run === longest) places.push([(x + 1 - run / 2) / width, (y + 0.5) / height]);
    }
  }
  return places[Math.floor(places.length / 2)] ?? [0.5, 0.5];
}
