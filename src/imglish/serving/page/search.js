// Search of the folder that the server has an index of, by words or by the picture.

import { getPicture, post } from "./api.js";
import { announce, byId, make, thumbnail } from "./dom.js";
import { Panel } from "./panel.js";

const MATCHES = 12;

export class Search {
  #urls = [];

  // currentPicture: gives the picture's file, or null; take(file): makes a match the picture.
  constructor({ currentPicture, take }) {
    this.currentPicture = currentPicture;
    this.take = take;
    this.panel = new Panel(byId("search-panel"));
    byId("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.byWords();
    });
    byId("search-like").addEventListener("click", () => this.byPicture());
  }

  offer({ folder, count }) {
    byId("search").hidden = false;
    byId("search-folder").textContent = `${folder} · ${count.toLocaleString("en")} pictures`;
  }

  byWords() {
    const text = byId("search-text").value.trim();
    if (!text) {
      this.panel.clear();
      return this.panel.fail("Write what to search for.");
    }
    this.#find({ text }, `“${text}”`);
  }

  byPicture() {
    const like = this.currentPicture();
    if (!like) {
      this.panel.clear();
      return this.panel.fail("Choose a picture first.");
    }
    this.#find({ like }, `like ${like.name}`);
  }

  #find(query, title) {
    this.panel.run(
      (signal) => post("v1/search", { ...query, num_matches: MATCHES }, signal),
      ({ result }) => this.#show(result.matches, title),
      { busyText: "Searching" },
    );
  }

  #show(matches, title) {
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    byId("found").replaceChildren(...matches.map((match) => this.#item(match)));
    byId("found").setAttribute("aria-label", `Matches, ${title}`);
    announce(matches.length ? `${matches.length} matches; the first is ${matches[0].path}` : "No matches.");
    if (!matches.length) byId("found").append(make("li", { class: "quiet" }, "No picture in the folder."));
  }

  #item({ path, similarity, url }) {
    const thumb = make("span", { class: "thumb" });
    const name = make("span", { class: "name", title: path }, path);
    const words = make("span", { class: "quiet small" }, `similarity ${similarity.toFixed(2)}`);
    const button = make("button", { type: "button", title: `Look at ${path}`, disabled: true }, thumb, name, words);
    this.#load(url, path, thumb).then(
      (file) => {
        button.disabled = false;
        button.addEventListener("click", () => this.take(file));
      },
      (error) => thumb.append(make("small", {}, error.message)),
    );
    return make("li", {}, button);
  }

  async #load(url, path, thumb) {
    const blob = await getPicture(url);
    const shown = URL.createObjectURL(blob);
    this.#urls.push(shown);
    thumb.append(thumbnail(shown));
    return new File([blob], path, { type: blob.type });
  }
}
