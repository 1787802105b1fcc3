// A part of the page that asks one thing at a time: it says that it is busy, how long the answer took, or
// what went wrong. A newer request stops the older one, whose answer is then never shown.

import { make, seconds } from "./dom.js";
import { Failure } from "./api.js";

const PATIENCE = 700; // milliseconds without a word about waiting

const panels = new Set();

export class Panel {
  #told;
  #failure;
  #turn = null;
  #clock = null;
  #again = null;

  // element: holds a .told and a .failure; area: what is marked as busy meanwhile.
  constructor(element, area = element.parentElement) {
    this.home = element.parentElement;
    this.#told = element.querySelector(".told");
    this.#failure = element.querySelector(".failure");
    this.#failure.setAttribute("role", "alert");
    this.area = area;
    panels.add(this);
  }

  get busy() {
    return this.#turn !== null;
  }

  // Do `work(signal)`, then `show(answer)`; an answer with `seconds` and `model` is told with them.
  async run(work, show, { busyText = "Looking" } = {}) {
    this.clear();
    this.#again = () => this.run(work, show, { busyText });
    const turn = (this.#turn = new AbortController());
    this.#wait(busyText);
    try {
      const answer = await work(turn.signal);
      if (this.#turn !== turn) return;
      show(answer);
      this.tell(answer);
    } catch (error) {
      if (this.#turn === turn) this.fail(inWords(error), maySucceedLater(error) ? this.#again : null);
    } finally {
      if (this.#turn === turn) this.#end();
    }
  }

  // Which model answered, and what that took; nothing where the answer does not say.
  tell(answer) {
    this.#told.textContent = answer?.seconds ? timing(answer) : "";
  }

  // Forget what was asked, without a word.
  clear() {
    this.#turn?.abort();
    this.#end();
    this.#told.textContent = "";
    this.#failure.replaceChildren();
  }

  // Stop what runs, and offer to begin again.
  stop() {
    const again = this.#again;
    this.clear();
    this.fail("Stopped.", again);
  }

  fail(text, again = null) {
    this.#told.textContent = "";
    this.#failure.replaceChildren(make("p", {}, text));
    if (!again) return;
    const once = () => {
      this.home.tabIndex = -1; // the button goes away; the focus stays near
      this.home.focus({ preventScroll: true });
      again();
    };
    this.#failure.append(make("button", { type: "button", class: "plain", on: { click: once } }, "Try again"));
  }

  #wait(text) {
    const start = performance.now();
    this.area.setAttribute("aria-busy", "true");
    this.#clock = setInterval(() => {
      const passed = performance.now() - start;
      if (passed > PATIENCE) this.#told.textContent = `${text} … ${Math.floor(passed / 1000)} s (Escape stops)`;
    }, 250);
  }

  #end() {
    this.#turn = null;
    clearInterval(this.#clock);
    this.area.removeAttribute("aria-busy");
  }
}

// Stop whatever runs; returns whether anything did.
export function stopAll() {
  const running = [...panels].filter((panel) => panel.busy);
  for (const panel of running) panel.stop();
  return running.length > 0;
}

function timing({ model, seconds: took }) {
  const parts = ["queued", "computed", "total"].map((part) => `${part} ${seconds(took[part])}`);
  return [model, ...parts].join(" · ");
}

// What was refused for what it is will be refused again.
function maySucceedLater({ status = 0 }) {
  return status < 400 || status >= 500 || [401, 408, 429].includes(status);
}

function inWords(error) {
  if (!(error instanceof Failure)) {
    console.error(error);
    return `The page could not show the answer: ${error.message}`;
  }
  if (error.retryAfter !== null) return `${error.message} Try again in ${error.retryAfter} s.`;
  return error.message;
}
