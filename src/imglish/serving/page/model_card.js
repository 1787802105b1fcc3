// The card of a model: the few forms of Markdown that cards use, as elements made from text. Links are shown
// by their words and addresses, not followed.

import { make } from "./dom.js";

export function showCard(place, markdown) {
  const lines = markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const blocks = [];
  while (lines.length) {
    if (!lines[0].trim()) lines.shift();
    else blocks.push(readBlock(lines));
  }
  place.replaceChildren(...blocks);
}

// Takes the lines of one block from the front.
function readBlock(lines) {
  const heading = /^(#{1,6})\s+(.*)$/.exec(lines[0]);
  if (heading) {
    lines.shift();
    return make(heading[1].length < 2 ? "h3" : "h4", {}, ...inline(heading[2]));
  }
  if (lines[0].startsWith("```")) {
    lines.shift();
    const code = takeWhile(lines, (line) => !line.startsWith("```"));
    lines.shift();
    return make("pre", { tabIndex: 0 }, make("code", {}, code.join("\n")));
  }
  if (lines[0].startsWith("|")) return table(takeWhile(lines, (line) => line.startsWith("|")));
  if (isItem(lines[0])) return list(lines);
  const words = [lines.shift(), ...takeWhile(lines, (line) => line.trim() && !/^(#|```|\|)/.test(line) && !isItem(line))];
  return make("p", {}, ...inline(words.join(" ")));
}

function isItem(line) {
  return /^\s*([-*]|\d+\.)\s+/.test(line);
}

function list(lines) {
  const ordered = /^\s*\d/.test(lines[0]);
  const items = [];
  while (lines.length && lines[0].trim()) {
    const line = lines.shift();
    if (isItem(line)) items.push(line.replace(/^\s*([-*]|\d+\.)\s+/, ""));
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return make(ordered ? "ol" : "ul", {}, ...items.map((item) => make("li", {}, ...inline(item))));
}

function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim()));
  const [head, ...rest] = rows.filter((cells) => !cells.every((cell) => /^:?-+:?$/.test(cell)));
  const row = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, {}, ...inline(cell))));
  const body = make("tbody", {}, ...rest.map((cells) => row(cells, "td")));
  return make("div", { class: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, row(head, "th")), body));
}

// Bold words, code and links within a line.
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return make("b", {}, part.slice(2, -2));
    const link = /^\[([^\]]+)\]\(([^)]+)\)$/.exec(part);
    return link ? `${link[1]} (${link[2]})` : part;
  });
}

function takeWhile(lines, fits) {
  const taken = [];
  while (lines.length && fits(lines[0])) taken.push(lines.shift());
  return taken;
}
