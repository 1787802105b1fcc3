// The page: which model answers, the picture, and everything that is asked about it.

import { getJson, getPicture, hasToken, post, setToken, TOKEN_REFUSED } from "./api.js";
import { announce, byId, make } from "./dom.js";
import { Judge } from "./judge.js";
import { showCard } from "./model_card.js";
import { Panel, stopAll } from "./panel.js";
import { firstFile, openPicture } from "./picture.js";
import * as results from "./results.js";
import { Search } from "./search.js";
import { Stage } from "./stage.js";

// What a model may be able to do: what one gets of it, and why it may be missing.
const ABILITIES = {
  caption: ["a sentence about it", "Captions: these weights have no captioner."],
  answer: ["answers to your questions", "Questions: these weights have no head for answers."],
  detect: ["its objects, each with a box", "Objects: these weights have no detector."],
  segment: ["a class for every pixel", "Semantic regions: these weights have no segmenter."],
  panoptic: ["things and regions at once", "Panoptic segments: these weights have no panoptic segmenter."],
  classify: ["the class that it shows most likely", "Trained classes: these weights have no classifier."],
  classify_by_names: [
    "how well words of your own fit",
    "Words of your own: these weights are no dual encoder, which compares pictures with words.",
  ],
  judge: [
    "whether a statement about it and another picture is true",
    "Statements about two pictures: these weights have no head for them.",
  ],
};
// Asked of each picture in one request. Objects less sure than the slider's least are never shown.
const AT_ONCE = { caption: {}, detect: { min_score: 0.1 }, segment: {}, panoptic: {}, classify: { num_classes: 5 } };
const BOUNDLESS = { bytes: Infinity, pixels: Infinity };

const stage = new Stage();
const panels = Object.fromEntries(
  ["model", "samples", "intake", "answer", "names"].map((name) => [name, new Panel(byId(`${name}-panel`))]),
);
panels.look = new Panel(byId("look-panel"), byId("answers"));
const page = { model: null, picture: null, objects: [], ownQuestion: false };
const limits = () => page.model?.limits ?? BOUNDLESS;
const judge = new Judge({ picture: () => page.picture, limits });
const search = new Search({ currentPicture: () => page.picture?.file ?? null, take: receive });

function start() {
  page.model = null;
  panels.model.run(
    knownModel,
    () => {
      if (page.picture && !page.picture.looked) look();
    },
    { busyText: "Looking for the model" },
  );
}

async function knownModel(signal) {
  if (page.model) return;
  const [model, health] = await Promise.all([getJson("v1/model", signal), getJson("health", signal)]);
  showModel(model, health);
  loadSamples();
}

function showModel(model, health) {
  page.model = model;
  byId("model-name").replaceChildren("Answers come from ", make("b", {}, model.name));
  byId("open-card").hidden = !model.card;
  byId("token-form").hidden = true;
  byId("open-token").hidden = !hasToken();
  byId("notice").textContent = model.notice ?? "";
  byId("notice").hidden = !model.notice;
  byId("version").textContent = `imglish ${health.version}`;
  const offers = [];
  const reasons = [];
  for (const [ability, [what, whyNot]] of Object.entries(ABILITIES)) {
    const offered = model.abilities.includes(ability);
    document.querySelector(`[data-ability=${ability}]`).hidden = !offered;
    const classes = model.classes?.[ability]?.length;
    if (offered) offers.push([what, classes ? ` · ${classes} classes` : ""]);
    else reasons.push(whyNot);
  }
  if (model.index) search.offer(model.index);
  else if (model.abilities.includes("embed")) reasons.push("Search: the server was started without the index of a folder (imglish serve --index FILE).");
  else reasons.push("Search: these weights are no dual encoder, which compares pictures with words.");
  listIn("intro", offers.map(([what, count]) => make("li", {}, what, make("small", {}, count))));
  listIn("absent", reasons.map((why) => make("li", {}, why)));
}

function listIn(id, items) {
  byId(id).querySelector("ul").replaceChildren(...items);
  byId(id).hidden = !items.length;
}

function loadSamples() {
  panels.samples.run(
    async (signal) => {
      const samples = await getJson("v1/samples", signal);
      return Promise.all(samples.map(async (sample) => {
        const blob = await getPicture(sample.url, signal);
        return { ...sample, file: new File([blob], sample.name, { type: blob.type }) };
      }));
    },
    (samples) => {
      byId("samples").hidden = !samples.length;
      byId("samples").querySelector("ul").replaceChildren(...samples.map(sampleButton));
      judge.offer(samples);
    },
    { busyText: "Fetching pictures to try" },
  );
}

function sampleButton({ name, question, file }) {
  const take = () => {
    if (!page.ownQuestion) byId("question").value = question ?? "";
    receive(file);
  };
  const image = make("img", { src: URL.createObjectURL(file), alt: name });
  return make("li", {}, make("button", { type: "button", title: name, on: { click: take } }, image));
}

// A file becomes the picture. What this browser cannot show becomes it only if the server takes it; until then
// the picture before it stays.
function receive(file) {
  if (!file) return;
  panels.intake.run(
    async (signal) => {
      const picture = await openPicture(file, limits());
      return { picture, answer: picture.shown ? null : await ask(picture, signal) };
    },
    ({ picture, answer }) => {
      setPicture(picture);
      if (!answer) return look();
      byId("picture-note").textContent = "This browser cannot show the file; what is found is drawn on a blank sheet.";
      byId("picture-note").hidden = false;
      showLook(answer);
      panels.look.tell(answer);
    },
    { busyText: `Reading ${file.name || "the picture"}` },
  );
}

function setPicture(picture) {
  if (page.picture?.url) URL.revokeObjectURL(page.picture.url);
  page.picture = { ...picture, looked: false };
  for (const name of ["look", "answer", "names"]) panels[name].clear();
  results.emptyCards("caption", "answer", "detect", "segment", "panoptic", "classify", "named");
  stage.show(picture);
  judge.showLeft(picture);
  byId("main").classList.remove("no-picture");
  byId("about-picture").hidden = false;
  byId("picture-name").textContent = picture.shown ? `${picture.name} · ${picture.width} × ${picture.height}` : picture.name;
  byId("picture-note").textContent = picture.note;
  byId("picture-note").hidden = !picture.note;
}

async function ask(picture, signal) {
  if (!page.model) {
    await knownModel(signal);
    panels.model.clear();
  }
  const tasks = Object.fromEntries(Object.entries(AT_ONCE).filter(([task]) => page.model.abilities.includes(task)));
  if (!Object.keys(tasks).length) return { result: {} };
  try {
    return await post("v1/predict", { picture: picture.file, tasks: JSON.stringify(tasks) }, signal);
  } catch (error) {
    // The server does not repeat the file's name.
    if (error.status >= 400 && error.status < 500 && error.status !== 401) error.message = `${picture.name}: ${error.message}`;
    throw error;
  }
}

function look() {
  const picture = page.picture;
  panels.look.run((signal) => ask(picture, signal), showLook, { busyText: "Looking at the picture" });
}

function showLook({ result, picture }) {
  page.picture.looked = true;
  stage.clear();
  if (picture) stage.setSize(picture);
  const told = [];
  if (result.caption) {
    results.showCaption(byId("caption"), result.caption);
    told.push(result.caption.caption);
  }
  if (result.classify) results.showBars(byId("classify"), result.classify.classes);
  const layers = [
    ["detect", "Objects", results.objectMarks, "No objects."],
    ["segment", "Regions", results.segmentMarks, "No regions."],
    ["panoptic", "Panoptic", results.panopticMarks, "No segments."],
  ].filter(([task]) => result[task]);
  layers.forEach(([task, title, marksOf, none], number) => {
    const marks = marksOf(result[task]);
    stage.addLayer(task, title, marks, number === 0);
    results.showMarks(byId(task), marks, stage, none);
    if (task === "detect") {
      page.objects = marks;
      told.push(`${showEnough()} objects`);
    }
  });
  announce(told.join(" "));
}

// Only objects that are sure enough; returns how many.
function showEnough() {
  const least = Number(byId("min-score").value);
  byId("min-score-told").textContent = least.toFixed(2);
  return results.atLeast(page.objects, least, stage);
}

// A form asks the server something about the picture, in the words of its field.
function onWords(form, field, panel, missing, work, show) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId(field).value.trim();
    const reason = page.picture ? missing(words) : "Choose a picture first.";
    panels[panel].clear();
    if (reason) return panels[panel].fail(reason);
    const { file } = page.picture;
    panels[panel].run((signal) => work(file, words, signal), show, { busyText: "Thinking" });
  });
}

function listenToForms() {
  onWords(
    "answer-form", "question", "answer",
    (question) => (question ? "" : "Write a question."),
    (picture, question, signal) => post("v1/answer", { picture, question, num_answers: 3 }, signal),
    ({ result: { answers } }) => {
      results.showBars(byId("answer"), answers.map(({ text, probability }) => ({ name: text, probability })));
      announce(`Answer: ${answers[0]?.text ?? "none"}`);
    },
  );
  const split = (words) => [...new Set(words.split(",").map((name) => name.trim()).filter(Boolean))];
  onWords(
    "names-form", "names", "names",
    (words) => (split(words).length < 2 ? "Write at least two names, with a comma between." : ""),
    (picture, words, signal) =>
      post("v1/classify", { picture, classes: split(words).join(","), num_classes: split(words).length }, signal),
    ({ result: { classes } }) => {
      results.showBars(byId("named"), classes);
      announce(`Most like ${classes[0]?.name ?? "none"}`);
    },
  );
  byId("question").addEventListener("input", () => { page.ownQuestion = byId("question").value !== ""; });
  byId("min-score").addEventListener("input", showEnough);
}

function listenToPictures() {
  const file = byId("file");
  for (const button of document.querySelectorAll(".choose")) button.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    receive(file.files[0]);
    file.value = ""; // the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const pasted = firstFile(event.clipboardData);
    if (pasted) receive(pasted);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.figure.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) stage.figure.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.figure.classList.remove("over");
    const dropped = firstFile(event.dataTransfer);
    if (dropped) return event.target.closest?.("#right-thumb") ? judge.open(dropped) : receive(dropped);
    panels.intake.clear();
    panels.intake.fail("That was no file. Pictures of other pages are not fetched: save the picture, then drop it.");
  });
}

function listenToTheRest() {
  const card = byId("card");
  byId("open-card").addEventListener("click", () => {
    showCard(byId("card-text"), page.model.card);
    card.showModal();
  });
  byId("close-card").addEventListener("click", () => card.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || card.open) return;
    stopAll();
    stage.light(null);
  });
  byId("open-token").addEventListener("click", () => askForToken(""));
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token").value.trim());
    byId("token").value = "";
    byId("token-wrong").textContent = "";
    start();
  });
  document.addEventListener(TOKEN_REFUSED, (event) => askForToken(hasToken() ? event.detail.message : ""));
}

function askForToken(why) {
  byId("token-form").hidden = false;
  byId("token-wrong").textContent = why;
  byId("token").focus();
}

listenToForms();
listenToPictures();
listenToTheRest();
start();
