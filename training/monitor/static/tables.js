// The overview's tables: the same numbers as in the charts, as text.

import { h } from "./dom.js";
import { NONE, duration, number, share, whole, words } from "./format.js";
import { colourOf, series, store } from "./store.js";
import { statusOf } from "./status.js";

const last = (run, kind) => series(run.name, kind)?.last ?? {};
const cells = (values) => values.map((value) => h("td", {}, value));
const heads = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

export function compareTable(runs) {
  const rows = runs.map((run) => {
    const train = last(run, "train"), judged = last(run, "validation"), { state } = run;
    return h("tr", {},
      h("th", { scope: "row" }, h("span", { class: `swatch run-${colourOf(run.name)}` }), run.name), cells([
        statusOf(run), whole(state.epoch), whole(state.step), number(train.loss, 3), number(judged.loss, 3),
        share(judged.initial_micro_f1), share(judged.refined_micro_f1 ?? judged.micro_f1),
        state.best?.micro_f1 === undefined ? NONE : `${share(state.best.micro_f1)} (epoch ${state.best.epoch})`, duration(state.elapsed),
      ]));
  });
  return h("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Newest numbers" }, h("table", { class: "table" }, h("caption", {}, "Newest numbers"),
    heads(["Run", "Status", "Epoch", "Step", "Loss, train", "Loss, validation", "F1, initial", "F1, refined", "Best F1", "Time"]), h("tbody", {}, rows)));
}

// Loss and confidence of cells whose truth is yes and no, by category, of the newest validation (or report).
export function categoryTable(run) {
  const judged = last(run, "validation"), kind = Object.keys(judged).some((key) => key.startsWith("cells.")) ? "validation" : "train";
  const row = last(run, kind), found = new Map();
  for (const [key, value] of Object.entries(row)) {
    const match = /^cells\.(initial|refined)\.(.+)\.(positive|negative)\.(\w+)$/.exec(key);
    if (match) found.set(match[2], { ...found.get(match[2]), [`${match[1]} ${match[3]} ${match[4]}`]: value });
  }
  if (!found.size) return null;
  const two = [...found.values()].some((one) => Object.keys(one).some((key) => key.startsWith("refined")));
  const stages = two ? ["initial", "refined"] : ["initial"];
  const columns = stages.flatMap((stage) => ["positive", "negative"].flatMap((side) => ["confidence", "loss"].map((what) => [stage, side, what])));
  const title = { positive: "true", negative: "other" };
  const over = h("tr", {}, h("th", { colspan: "2" }), stages.map((stage) => h("th", { colspan: "4", scope: "colgroup" }, `${stage} stage`)));
  const head = heads(["Category", "True tags", ...columns.map(([, side, what]) => `${what}, ${title[side]}`)]);
  head.prepend(over);
  return h("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "By category" }, h("table", { class: "table table-dense" },
    h("caption", {}, `By category, newest ${kind === "validation" ? "validation" : "training report"}`), head,
    h("tbody", {}, [...found].map(([category, one]) => h("tr", {},
      h("th", { scope: "row", class: `c-${category}` }, category !== "overall" && h("span", { class: "swatch" }), words(category)),
      cells([whole(one[`${stages.at(-1)} positive cells`]), ...columns.map(([stage, side, what]) => number(one[`${stage} ${side} ${what}`], 3))]))))));
}

export function noteList(run) {
  const metrics = store.metrics.get(run.name);
  const told = [...(run.state.notes ?? []).map(String), ...(metrics?.notes ?? []).map((note) => `${note.step === undefined ? "" : `Step ${note.step}: `}${note.text}`).reverse()];
  if (metrics?.damaged) told.push(`${metrics.damaged} damaged lines of metrics.jsonl were left out.`);
  if (!told.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Notes"), h("ul", { class: "notes" }, told.slice(0, 50).map((text) => h("li", {}, text))));
}
