// What the server told so far, and which runs are looked at. Everything is asked for in increments.

import { keep, kept } from "./dom.js";

const EVERY = 1500, EVERY_WHEN_LOST = 4000, COLOURS = 8;

export const store = {
  heard: false, now: 0, folders: [], runs: [], metrics: new Map(),
  focus: null, compared: new Set(kept("compared", [])), colours: new Map(),
};
const listeners = new Set();
export const onNews = (listener) => listeners.add(listener);
const tell = (what) => { for (const listener of listeners) listener(what); };

export const runNamed = (name) => store.runs.find((run) => run.name === name);
export const focused = () => runNamed(store.focus);
export const series = (name, kind) => store.metrics.get(name)?.kinds[kind];
export const column = (name, kind, key) => series(name, kind)?.columns[key];
export const colourOf = (name) => store.colours.get(name) ?? 0;

// The runs in the charts: the one looked at, then those that are ticked.
export function shown() {
  return store.runs.filter((run) => run.name === store.focus || store.compared.has(run.name)).map((run) => run.name);
}

export function look(name) {
  store.focus = name;
  tell("choice");
  soon();
}

export function compare(name, on) {
  store.compared[on ? "add" : "delete"](name);
  keep("compared", [...store.compared]);
  tell("choice");
  soon();
}

const cursor = (run) => [run?.generation ?? 0, ...Object.entries(run?.kinds ?? {}).map(
  ([kind, part]) => `${kind}=${Math.max(part.points - 1, 0)}`, // the last point may still grow
)].join(",");

function merge(name, told) {
  const before = told.fresh ? undefined : store.metrics.get(name);
  const run = { ...told, kinds: before?.kinds ?? {} };
  for (const [kind, part] of Object.entries(told.kinds)) {
    const columns = run.kinds[kind]?.columns ?? {};
    const points = part.from + Math.max(0, ...Object.values(part.columns).map((values) => values.length));
    for (const key of new Set([...Object.keys(columns), ...Object.keys(part.columns)])) {
      const known = (columns[key] ?? []).slice(0, part.from);
      while (known.length < part.from) known.push(null);
      columns[key] = known.concat(part.columns[key] ?? Array(points - part.from).fill(null));
    }
    run.kinds[kind] = { columns, points, width: part.width, rows: part.rows, last: part.last };
  }
  store.metrics.set(name, run);
}

function take(told) {
  store.heard = true;
  store.now = told.now;
  store.folders = told.folders;
  store.runs = told.runs.sort((a, b) => (b.started ?? 0) - (a.started ?? 0) || a.name.localeCompare(b.name));
  for (const run of [...store.runs].reverse()) {
    if (!store.colours.has(run.name)) store.colours.set(run.name, store.colours.size % COLOURS);
  }
  if (!focused()) store.focus = (store.runs.find((run) => run.health === "running") ?? store.runs[0])?.name ?? null;
  for (const name of store.metrics.keys()) if (!runNamed(name)) store.metrics.delete(name);
  for (const [name, news] of Object.entries(told.metrics)) merge(name, news);
}

export async function ask(path, words = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(words)}`, { cache: "no-store" });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  return answer.json();
}

let timer = 0, asking = false, again = false;

async function poll() {
  if (asking) { again = true; return; }
  asking = true;
  clearTimeout(timer);
  let wait = EVERY;
  try {
    const words = new URLSearchParams();
    for (const name of shown()) {
      words.append("run", name);
      words.append("at", cursor(store.metrics.get(name)));
    }
    const before = store.focus;
    take(await ask("api/live", words));
    tell("live");
    const lacking = shown().some((name) => (store.metrics.get(name)?.unread ?? 1) > 4096);
    if (lacking || before !== store.focus) wait = 50;
  } catch (error) {
    tell(error.status === 401 ? "refused" : "lost");
    wait = EVERY_WHEN_LOST;
  }
  asking = false;
  if (again) { again = false; wait = 0; }
  if (!document.hidden) timer = setTimeout(poll, wait);
}

export function soon() {
  clearTimeout(timer);
  timer = setTimeout(poll, 0);
}

export function start() {
  document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
  poll();
}
