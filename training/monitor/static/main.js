// The frame around the pages: the list of runs, the pages by address, colours, keys, and whether news come.

import { recolour, setRange } from "./charts.js";
import { h, icon, keep, refresh } from "./dom.js";
import { percent } from "./format.js";
import { overview } from "./overview.js";
import { predictions } from "./predictions.js";
import { selection } from "./selection.js";
import { progressOf, statusOf } from "./status.js";
import { colourOf, compare, focused, look, onNews, start, store } from "./store.js";

const pages = { overview, predictions, selection };
const main = document.getElementById("main");
const byId = (id) => document.getElementById(id);
const empty = h("section", { class: "empty" });
let current = null;

// pages by address: #predictions?run=NAME

function address() {
  const [name, words] = location.hash.slice(1).split("?");
  return { name: name in pages ? name : "overview", run: new URLSearchParams(words ?? "").get("run") };
}

const link = (page, run = store.focus) => `#${page}${run ? `?${new URLSearchParams({ run })}` : ""}`;

function route() {
  const { name, run } = address();
  if (run && run !== store.focus) look(run);
  current = pages[name];
  document.title = `${current.title} · Training monitor`;
  for (const tab of document.querySelectorAll("[data-page]")) {
    if (tab.dataset.page === name) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  }
  draw();
}

function draw() {
  if (!store.heard) return;
  const body = store.runs.length ? current.open() : empty;
  if (!store.runs.length) drawEmpty();
  if (main.firstElementChild !== body || main.children.length > 1) main.replaceChildren(body);
  drawRuns();
  if (store.runs.length) current.draw();
}

function drawEmpty() {
  refresh(empty, store.folders, () => [
    h("h1", {}, "No runs yet"),
    h("p", {}, `Looking in ${store.folders.join(", ")}. A training that starts there appears here by itself:`),
    h("pre", {}, `python3 manage.py python -m training.train finetune --dataset DATASET --release RELEASE --run ${store.folders[0] ?? "runs"}/first`),
  ]);
}

// the list of runs

function drawRuns() {
  const list = byId("runs");
  const told = store.runs.map((run) => [run.name, run.health, run.state.status, Math.round(progressOf(run) * 200), store.compared.has(run.name)]);
  for (const tab of document.querySelectorAll("[data-page]")) tab.href = link(tab.dataset.page);
  byId("runs-count").textContent = store.runs.length ? String(store.runs.length) : "";
  byId("runs-focus").textContent = store.focus ?? "";
  const had = document.activeElement?.dataset.run && [document.activeElement.dataset.run, document.activeElement.tagName];
  refresh(list, [told, store.focus], () => store.runs.map(runItem));
  if (had && !document.activeElement?.dataset.run) {
    [...list.querySelectorAll(had[1])].find((element) => element.dataset.run === had[0])?.focus();
  }
}

function runItem(run) {
  const focus = run.name === store.focus;
  const box = h("input", { type: "checkbox", checked: focus || store.compared.has(run.name), disabled: focus, "aria-label": `Compare ${run.name} in the charts` });
  box.addEventListener("change", () => compare(run.name, box.checked));
  const button = h("button", { type: "button", title: run.name, "aria-current": focus ? "true" : null },
    h("span", { class: "run-name" }, run.name),
    h("span", { class: "run-line" }, h("span", { class: `badge badge-${run.health}` }, statusOf(run)),
      run.health === "running" && h("span", { class: "bar" }, h("span", { style: { width: percent(progressOf(run)).replace(" ", "") } })),
      run.health === "running" && h("span", { class: "number" }, percent(progressOf(run)))));
  button.addEventListener("click", () => { location.hash = link(address().name, run.name); });
  for (const element of [box, button]) element.dataset.run = run.name;
  return h("li", { class: `run run-${colourOf(run.name)}${focus ? " is-focus" : ""}` }, h("label", {}, box), button);
}

// colours

const THEMES = { "": ["system", "M12 3v18M12 3a9 9 0 0 1 0 18a9 9 0 0 1 0-18"], light: ["light", "M12 8a4 4 0 1 1 0 8a4 4 0 0 1 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5"], dark: ["dark", "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5"] };

function showTheme() {
  const [name, path] = THEMES[document.documentElement.dataset.theme ?? ""];
  const button = byId("theme");
  button.replaceChildren(icon(path));
  button.title = `Colours: ${name}`;
  button.setAttribute("aria-label", `Colours: ${name}`);
}

byId("theme").addEventListener("click", () => {
  const order = Object.keys(THEMES), now = document.documentElement.dataset.theme ?? "";
  const next = order[(order.indexOf(now) + 1) % order.length];
  if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
  try {
    localStorage.setItem("monitor-theme", next);
  } catch { keep("theme", next); }
  showTheme();
  recolour();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// keys

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const name = Object.keys(pages)[Number(event.key) - 1];
  if (name) location.hash = link(name);
  else if (event.key.toLowerCase() === "r" && store.runs.length) {
    const at = store.runs.indexOf(focused());
    location.hash = link(address().name, store.runs[(at + (event.shiftKey ? store.runs.length - 1 : 1)) % store.runs.length].name);
  } else if (event.key === "0") setRange(null);
  else current?.key?.(event);
});

document.querySelector("[data-skip]").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

// news

function showLink(what) {
  const states = { live: ["live", "live"], lost: ["lost", "monitor not reachable"], refused: ["lost", "not signed in"] };
  const [state, text] = states[what];
  const element = byId("link-state");
  if (element.dataset.state === state && element.textContent === text) return;
  element.dataset.state = state;
  element.textContent = text;
}

onNews((what) => {
  if (what === "live" || what === "choice") draw();
  if (what !== "choice") showLink(what);
});
if (matchMedia("(max-width: 62rem)").matches) byId("runs-box").open = false;
addEventListener("hashchange", route);
showTheme();
route();
start();
