// How far the runs are, and their charts.

import { Chart, currentRange, onRange, setRange } from "./charts.js";
import { AXES, axis, chooseAxis, stepsOf } from "./axis.js";
import { choice, h, keep, kept, refresh } from "./dom.js";
import * as format from "./format.js";
import { any, forgetClose, lines, setClose } from "./lines.js";
import { ask, colourOf, focused, series, shown, store } from "./store.js";
import { progressOf, statusOf } from "./status.js";
import { categoryTable, compareTable, noteList } from "./tables.js";

const MOST_SMOOTH = 0.98;
const settings = kept("overview", { smoothing: 0.6, log: false, measure: "micro", loss: "loss" });
const change = (name) => (value) => { settings[name] = value; keep("overview", settings); draw(); };

const TRAIN = { kind: "train", label: "train", colour: "run-0" };
const VALIDATION = { kind: "validation", label: "validation", colour: "run-1", dots: true, width: 2.25 };
const F1 = [
  { stage: "initial", kind: "train", label: "initial, train", colour: "run-5", dash: [5, 4], width: 1.5 },
  { stage: "refined", kind: "train", label: "refined, train", colour: "run-0", dash: [5, 4], width: 1.5 },
  { stage: "initial", kind: "validation", label: "initial, validation", colour: "run-5", dots: true, width: 1.5, alpha: 0.65 },
  { stage: "refined", kind: "validation", label: "refined, validation", colour: "run-0", dots: true, width: 2.25 },
];
const SMALL = [
  { title: "Learning rate", key: "learning_rate", format: format.rate, ticks: format.rate, floor: 0 },
  { title: "Pictures per second", key: ["pictures_per_second", "samples_per_second"], floor: 0 },
  { title: "Confidence of tags, last stage", confidence: true, format: format.share, floor: 0 },
  { title: "GPU memory, GB", key: "memory.gpu", scale: 1e-9, format: (value) => format.number(value, 3), floor: 0 },
  { title: "GPU use, percent", key: "memory.gpu_use", floor: 0 },
  { title: "Process memory, GB", key: "memory.process", scale: 1e-9, format: (value) => format.number(value, 3), floor: 0 },
  { title: "Loss scale", key: "loss_scale" },
  { title: "Skipped batches", key: "skipped", floor: 0, only: (values) => values.some((value) => value > 0) },
];

let page, parts;

function build() {
  const loss = new Chart({
    title: "Loss", height: 280,
    tools: [choice("Which loss", [["loss", "both"], ["loss_initial", "initial"], ["loss_refined", "refined"]], settings.loss, change("loss"))],
  });
  const f1 = new Chart({
    title: "F1", height: 280, format: format.share, quiet: ["initial, train", "refined, train"],
    tools: [choice("Mean over", [["micro", "micro"], ["macro", "macro"]], settings.measure, change("measure"))],
  });
  const small = SMALL.map((one) => ({ ...one, chart: new Chart({ ...one, height: 140 }) }));
  const head = h("div", { class: "run-head" }), tiles = h("dl", { class: "tiles" });
  const tables = h("div", { class: "stack" });
  parts = { loss, f1, small, head, tiles, tables, compare: h("div"), categories: h("div"), notes: h("div") };
  tables.append(parts.compare, parts.categories, parts.notes);
  page = h("div", { class: "stack" }, head, tiles, toolbar(),
    h("div", { class: "charts" }, loss.element, f1.element),
    h("details", { class: "more", open: !matchMedia("(max-width: 48rem)").matches }, h("summary", {}, "More charts"),
      h("div", { class: "charts charts-small" }, small.map((one) => one.chart.element))), tables);
  return page;
}

function toolbar() {
  const amount = h("output", {}, settings.smoothing.toFixed(2));
  const smoothing = h("input", { type: "range", min: "0", max: String(MOST_SMOOTH), step: "0.02", "aria-label": "Smoothing of the training lines" });
  smoothing.value = settings.smoothing;
  smoothing.addEventListener("input", () => {
    amount.textContent = Number(smoothing.value).toFixed(2);
    change("smoothing")(Number(smoothing.value));
  });
  const log = h("input", { type: "checkbox", checked: settings.log });
  log.addEventListener("change", () => change("log")(log.checked));
  const stretch = choice("Shown part", [["all", "whole"], ["0.5", "last half"], ["0.1", "last tenth"]], "all",
    (value) => setRange(value === "all" ? null : { part: Number(value) }));
  const counted = choice("Horizontal axis", Object.entries(AXES).map(([key, { name }]) => [key, name]), axis().name,
    (value) => { chooseAxis(value); setRange(null); draw(); });
  onRange((range) => stretch.press(range ? String(range.part ?? "") : "all"));
  return h("div", { class: "toolbar" }, stretch, counted,
    h("label", { class: "field" }, "Smoothing", smoothing, amount), h("label", { class: "field" }, log, "Loss on a log scale"),
    h("span", { class: "small muted only-wide" }, "Drag over a chart to zoom, double click for the whole"));
}

// what the run is at

const last = (run, kind = "train") => series(run.name, kind)?.last ?? {};
const first = (...values) => values.find((value) => value !== undefined && value !== null);

function tilesOf(run) {
  const state = run.state, row = last(run), memory = state.memory ?? {};
  const perEpoch = first(state.batches, state.steps && state.epochs ? Math.round(state.steps / state.epochs) : undefined);
  const inEpoch = first(state.batch, perEpoch && state.step ? ((state.step - 1) % perEpoch) + 1 : undefined);
  const going = run.health === "running" && state.status !== "trained";
  const eta = going ? first(state.eta, row.eta) : undefined;
  const speed = first(state.samples_per_second, row.pictures_per_second);
  const of = (value, all) => (all === undefined ? format.whole(value) : `${format.whole(value)} / ${format.whole(all)}`);
  const lost = [["skipped", "Skipped batches", "loss was no number"], ["unreadable", "Unreadable pictures", ""], ["failed_writes", "Failed writes", ""]].filter(([key]) => state[key] > 0);
  const share = (used, all) => (all ? `${(used / 1e9).toFixed(1)} of ${format.bytes(all)}` : format.bytes(used));
  const optimiser = state.accumulate > 1 ? `${state.accumulate} make a step` : "";
  return [
    ["Epoch", of(state.epoch, state.epochs), first(state.best?.epoch) ? `best: epoch ${state.best.epoch}` : ""],
    ["Batch", of(inEpoch, perEpoch), optimiser || (state.step ? `${format.whole(state.step)} in all` : "")],
    ["Samples a second", format.number(speed, 3), state.batch_size ? `${format.whole(state.batch_size)} a batch` : ""],
    ["Time left", format.duration(eta), going && eta ? `until ${format.clock(eta, store.now)}` : state.elapsed ? `${format.duration(state.elapsed)} spent` : ""],
    ["GPU", memory.gpu_use === null || memory.gpu_use === undefined ? "none" : `${format.whole(memory.gpu_use)} %`,
      memory.gpu ? share(memory.gpu, memory.gpu_total) : state.device === "cpu" ? "trains on the CPU" : ""],
    ["Memory", format.bytes(memory.process), memory.gpu_peak ? `GPU peak ${format.bytes(memory.gpu_peak)}` : "of the process"],
    ["Learning rate", format.rate(first(state.learning_rate, row.learning_rate)), ""],
    ["Loss scale", first(state.loss_scale) === undefined ? "none" : format.number(state.loss_scale), state.precision ?? ""],
    ...lost.map(([key, label, why]) => [label, format.whole(state[key]), why, "is-warn"]),
  ];
}

function headOf(run) {
  const state = run.state, part = progressOf(run);
  const base = (path) => String(path).split("/").filter(Boolean).pop();
  const about = [
    state.recipe && `recipe ${state.recipe}`, state.dataset && `on ${base(state.dataset)}`, state.release && `from ${base(state.release)}`,
    state.pictures?.train && `${format.whole(state.pictures.train)} pictures`, state.parameters && `${format.number(state.parameters / 1e6, 3)} M parameters`,
    state.device && state.device,
  ].filter(Boolean);
  return [
    h("div", { class: "row" }, h("h1", {}, run.name), h("span", { class: `badge badge-${run.health}` }, statusOf(run))),
    about.length > 0 && h("p", { class: "muted small" }, about.join(" · ")),
    h("span", { class: `bar bar-large run-${colourOf(run.name)}`, role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(part * 100)) },
      h("span", { style: { width: `${part * 100}%` } })),
    run.sentence && h("p", { class: `message ${run.health === "crashed" ? "message-error" : "message-warning"}`, role: "status" }, run.sentence),
    unread(run),
  ];
}

function unread(run) {
  const metrics = store.metrics.get(run.name);
  if (!metrics || metrics.unread < 1e6) return null;
  return h("p", { class: "message", role: "status" }, `Reading its metrics: ${format.percent(1 - metrics.unread / metrics.size)}`);
}

// drawing

function drawCharts() {
  const { loss, f1, small } = parts, label = axis(), { smoothing } = settings;
  loss.log = settings.log;
  const key = settings.loss;
  const other = shown().length > 1 ? { dash: [5, 4] } : {};
  loss.set(lines([{ ...TRAIN, ...other, key, smooth: true }, { ...VALIDATION, key }], { smoothing }), label);
  const keys = (stage) => (stage === "refined" ? [`refined_${settings.measure}_f1`, `${settings.measure}_f1`] : [`initial_${settings.measure}_f1`]);
  f1.set(lines(F1.map(({ stage, ...look }) => ({ ...look, key: keys(stage), smooth: look.kind === "train" })), { smoothing }), label);
  for (const { chart, key: name, scale, confidence, only } of small) {
    const of = (side, kind) => ["refined", "initial"].map((stage) => `cells.${stage}.overall.${side}.confidence`).filter((one) => any(kind, one));
    const wanted = confidence
      ? [["true tags", "positive", "run-4"], ["other tags", "negative", "run-3"]].map(([text, side, colour]) => (
        { kind: "train", key: of(side, "train"), label: text, colour, smooth: true, dash: side === "negative" && shown().length > 1 ? [5, 4] : undefined }))
      : [{ kind: "train", key: name, label: "train", colour: "run-0", scale }];
    const made = lines(wanted, confidence ? { smoothing } : {});
    const empty = !made.length || (only && !made.some((line) => only(line.y)));
    chart.element.hidden = empty;
    if (!empty) chart.set(made, label);
  }
}

function draw() {
  const run = focused();
  if (!page?.isConnected || !run) return;
  refresh(parts.head, [run.name, run.health, run.sentence, run.state.status, progressOf(run), store.metrics.get(run.name)?.unread > 1e6 && store.metrics.get(run.name).unread], () => headOf(run));
  const tiles = tilesOf(run);
  refresh(parts.tiles, tiles, () => tiles.map(([name, value, more, look]) => h("div", { class: `tile ${look ?? ""}` },
    h("dt", {}, name), h("dd", {}, value), more && h("dd", { class: "tile-more" }, more))));
  drawCharts();
  const runs = store.runs.filter((one) => shown().includes(one.name));
  const lasts = runs.map((one) => [one.name, one.health, one.state.step, last(one), last(one, "validation"), one.state.best]);
  refresh(parts.compare, lasts, () => compareTable(runs));
  refresh(parts.categories, [run.name, last(run, "validation"), Object.keys(last(run, "validation")).length ? 0 : last(run)], () => categoryTable(run));
  refresh(parts.notes, [run.state.notes, store.metrics.get(run.name)?.notes, store.metrics.get(run.name)?.damaged], () => noteList(run));
}

// A stretch of a long run is asked for again, nearer.
let asked = 0;

async function comeClose(range) {
  forgetClose();
  const mine = ++asked;
  if (range?.from === undefined) return draw();
  await Promise.all(shown().map(async (run) => {
    const steps = stepsOf(run, range.from, range.to), generation = store.metrics.get(run)?.generation;
    if (!steps || !(series(run, "train")?.width > 1)) return;
    const { columns } = await ask("api/zoom", { run, kind: "train", from: steps[0], to: steps[1] }).catch(() => ({}));
    if (mine === asked && columns?.step?.length) {
      setClose(run, { kind: "train", columns, generation, now: () => store.metrics.get(run)?.generation });
    }
  }));
  if (mine === asked) draw();
}
onRange((range) => comeClose(range));

export const overview = { title: "Overview", open: () => page ?? build(), draw, key: (event) => event.key === "0" && currentRange() && setRange(null) };
