// A statement about two pictures: the picture at the left, another one at the right.

import { post } from "./api.js";
import { announce, byId, make, thumbnail } from "./dom.js";
import { Panel } from "./panel.js";
import { openPicture } from "./picture.js";
import { showStatement } from "./results.js";

export class Judge {
  #right = null;

  // picture: gives the current one, or null; limits: those of the server.
  constructor({ picture, limits }) {
    this.picture = picture;
    this.limits = limits;
    this.panel = new Panel(byId("judge-panel"));
    const file = byId("right-file");
    byId("choose-right").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      this.open(file.files[0]);
      file.value = ""; // the same file can be chosen again
    });
    byId("judge-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#judge();
    });
  }

  // samples: [{ name, file }]
  offer(samples) {
    const choice = byId("right-sample");
    const options = samples.map(({ name }, number) => make("option", { value: String(number) }, name));
    choice.replaceChildren(make("option", { value: "" }, "try …"), ...options);
    choice.onchange = () => choice.value && this.open(samples[Number(choice.value)].file);
  }

  showLeft({ url, shown }) {
    byId("left-thumb").replaceChildren(...(shown ? [thumbnail(url)] : []));
    byId("judged").replaceChildren();
    this.panel.clear();
  }

  // A file becomes the right picture.
  open(file) {
    if (!file) return;
    byId("judged").replaceChildren();
    this.panel.run(
      () => openPicture(file, this.limits()),
      (picture) => {
        if (this.#right?.url) URL.revokeObjectURL(this.#right.url);
        this.#right = picture;
        const inside = picture.shown ? thumbnail(picture.url) : make("small", {}, picture.name);
        byId("right-thumb").replaceChildren(inside);
        announce(`Right picture: ${picture.name}. ${picture.note}`);
      },
    );
  }

  #judge() {
    const left = this.picture();
    const statement = byId("statement").value.trim();
    const missing = !left ? "Choose a picture first." : !this.#right ? "Choose the right picture." : !statement ? "Write a statement." : "";
    byId("judged").replaceChildren();
    this.panel.clear();
    if (missing) return this.panel.fail(missing);
    const right = this.#right;
    this.panel.run(
      (signal) => post("v1/judge", { left: left.file, right: right.file, statement }, signal),
      ({ result }) => announce(showStatement(byId("judged"), result)),
      { busyText: "Judging" },
    );
  }
}
