// Elements made from text, never from markup: whatever a server or a file name says stays text.

const MANY_PIXELS = 128;

export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

// make("p", { class: "note" }, "text", make("b", {}, "more")): properties that the element has are set,
// others become attributes; `on` holds listeners by event name.
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, ...children);
}

export function makeSvg(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function fill(element, { on = {}, ...properties }, ...children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children);
  return element;
}

// A picture that stands beside its name. The pixels of small ones are shown as squares, not blurred.
export function thumbnail(src) {
  const image = make("img", { src, alt: "" });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < MANY_PIXELS));
  return image;
}

// Tells people who do not see the page what has changed.
export function announce(text) {
  byId("live").textContent = text;
}

export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1%";
  if (value < 100 && value > 99.9) return "> 99.9%";
  return `${value.toFixed(1)}%`;
}

export function seconds(value) {
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(1)} s`;
}
