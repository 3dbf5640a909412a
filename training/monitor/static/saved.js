// The saved samples of the run that is looked at: which one is shown, stepping through them, and its pictures.

import { choice, h, refresh } from "./dom.js";
import { whole } from "./format.js";
import { ask, focused, store } from "./store.js";

const state = { run: null, saved: [], kind: "", at: null, follow: true, sample: null, place: 0, problem: "" };
const listeners = new Set();
let asking = "", looked = "";

export const onSample = (listener) => listeners.add(listener);
export const saved = state;
export const pictureShown = () => state.sample?.pictures[state.place];
const tell = () => { for (const listener of listeners) listener(); };
const wanted = () => state.saved.filter((one) => !state.kind || one.kind === state.kind);

// Called with every news: the list is asked for again when the run has written something since.
export async function freshen() {
  const run = focused();
  if (!run) return;
  if (state.run !== run.name) {
    Object.assign(state, { run: run.name, saved: [], sample: null, at: null, follow: true, problem: "" });
    looked = "";
  }
  const sign = [run.name, run.state.updated_at, run.state.step, run.health].join();
  if (looked === sign || asking) return;
  looked = asking = sign;
  try {
    const told = (await ask("api/samples", { run: run.name })).saved;
    if (state.run !== run.name) return;
    const before = state.saved.at(-1)?.name;
    state.saved = told;
    if (state.kind && !wanted().length) state.kind = "";
    if (before !== told.at(-1)?.name || !state.sample) await show();
    tell();
  } catch { looked = ""; } finally { asking = ""; }
}

async function show() {
  const list = wanted();
  if (state.follow || !list.some((one) => one.name === state.at)) state.at = list.at(-1)?.name ?? null;
  const { run, at } = state;
  if (!at) { state.sample = null; return; }
  if (state.sample?.name === at && state.sample.run === run) return;
  try {
    const sample = await ask("api/sample", { run, name: at });
    if (state.run !== run || state.at !== at) return;
    const id = pictureShown()?.id;
    state.sample = { ...sample, run };
    const same = sample.pictures.findIndex((picture) => picture.id && picture.id === id);
    state.place = same >= 0 ? same : Math.min(state.place, Math.max(sample.pictures.length - 1, 0));
    state.problem = "";
  } catch (error) {
    Object.assign(state, { sample: null, problem: error.message });
  }
}

async function goTo(index) {
  const list = wanted(), next = list[Math.min(Math.max(index, 0), list.length - 1)];
  if (!next) return;
  state.at = next.name;
  state.follow = next === list.at(-1);
  await show();
  tell();
}

const index = () => wanted().findIndex((one) => one.name === state.at);

export function choosePicture(place) {
  const many = state.sample?.pictures.length ?? 0;
  if (!many) return;
  state.place = (place + many) % many;
  tell();
}

export function key(event) {
  if (event.key === "ArrowLeft") goTo(index() - 1);
  else if (event.key === "ArrowRight") goTo(index() + 1);
  else if (event.key === "Home") goTo(0);
  else if (event.key === "End") goTo(Infinity);
  else if (event.key.toLowerCase() === "j") choosePicture(state.place + 1);
  else if (event.key.toLowerCase() === "k") choosePicture(state.place - 1);
  else return;
  event.preventDefault();
}

// the bar with which people step through what was saved

export function navigator() {
  const kinds = h("span");
  const earlier = h("button", { type: "button", class: "button button-icon", "aria-label": "Earlier sample" }, "‹");
  const later = h("button", { type: "button", class: "button button-icon", "aria-label": "Later sample" }, "›");
  const slider = h("input", { type: "range", min: "0", step: "1", class: "saved-slider", "aria-label": "Saved samples, from the first to the newest" });
  const where = h("span", { class: "saved-where number", role: "status" });
  const newest = h("button", { type: "button", class: "button button-small" }, "Newest");
  earlier.addEventListener("click", () => goTo(index() - 1));
  later.addEventListener("click", () => goTo(index() + 1));
  newest.addEventListener("click", () => goTo(Infinity));
  slider.addEventListener("input", () => goTo(Number(slider.value)));
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Pictures of this sample" });
  const element = h("div", { class: "card saved" },
    h("div", { class: "row" }, kinds, h("span", { class: "saved-steps" }, earlier, slider, later), newest, where), strip,
    h("p", { class: "small muted only-wide" }, "Keys: ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " earlier and later, ", h("kbd", {}, "J"), " ", h("kbd", {}, "K"), " next and previous picture"));
  element.draw = () => {
    const list = wanted(), at = index(), names = [...new Set(state.saved.map((one) => one.kind))].sort();
    refresh(kinds, [names, state.kind], () => (names.length > 1 ? choice("Which samples",
      [["", "all"], ...names.map((name) => [name, name === "train" ? "training" : name])], state.kind, (value) => { state.kind = value; goTo(Infinity); }) : []));
    slider.max = Math.max(list.length - 1, 0);
    slider.value = Math.max(at, 0);
    slider.disabled = list.length < 2;
    earlier.disabled = at <= 0;
    later.disabled = newest.disabled = at >= list.length - 1;
    const one = state.sample;
    where.textContent = one ? `Step ${whole(one.step)}${one.epoch === null ? "" : ` · epoch ${whole(one.epoch)}`} · ${one.kind === "train" ? "training" : one.kind} · ${at + 1} of ${list.length}` : "";
    slider.setAttribute("aria-valuetext", where.textContent);
    drawStrip(strip);
  };
  return element;
}

export const pictureAddress = (picture) => `picture?${new URLSearchParams({ run: state.run, name: picture.picture })}`;

function drawStrip(strip) {
  const pictures = state.sample?.pictures ?? [];
  refresh(strip, [state.run, pictures.map((one) => one.picture ?? one.id)], () => pictures.map((picture, place) => {
    const button = h("button", { type: "button", "aria-label": `Picture ${place + 1}` },
      picture.picture ? h("img", { src: pictureAddress(picture), alt: "", loading: "lazy" }) : h("span", { class: "small muted" }, String(place + 1)));
    button.addEventListener("click", () => choosePicture(place));
    return button;
  }));
  [...strip.children].forEach((button, place) => button.setAttribute("aria-current", String(place === state.place)));
}

// What stands in a page's place while there is nothing to show.
export function nothing() {
  if (state.sample?.pictures.length) return null;
  const run = focused();
  const [title, text] = state.problem ? ["These samples cannot be shown", state.problem]
    : run?.health === "finished" ? ["No samples were saved", "This run kept no pictures with predictions; newer runs do."]
      : ["No samples yet", "The first pictures with predictions appear here by themselves with the run's first report."];
  return h("section", { class: "empty" }, h("h1", {}, title), h("p", {}, text));
}

export const heard = () => store.heard;
