// What the first stage hands to the second: how much of the truth is among the selected tags, and with what confidence.

import { Chart } from "./charts.js";
import { axis } from "./axis.js";
import { choice, h, keep, kept, refresh } from "./dom.js";
import * as format from "./format.js";
import { any, lines } from "./lines.js";
import { freshen, key, navigator, onSample, pictureAddress, pictureShown, saved } from "./saved.js";
import { focused, series, shown } from "./store.js";
import { CATEGORIES } from "./tags.js";

const settings = kept("selection", { kind: "", truth: "all", sort: "place" });
const filter = { text: "" };
const SORTS = { place: ["as selected", (tag) => tag.place], initial: ["initial", (tag) => -(tag.initial ?? 0)], refined: ["refined", (tag) => -(tag.refined ?? 0)], change: ["change", (tag) => -Math.abs((tag.refined ?? 0) - (tag.initial ?? 0))] };
let page, parts;

const change = (name) => (value) => { settings[name] = value; keep("selection", settings); draw(); };

function build() {
  const text = h("input", { type: "search", class: "input", placeholder: "Filter tags", "aria-label": "Filter selected tags by text" });
  text.addEventListener("input", () => { filter.text = text.value.trim().toLowerCase().replaceAll(" ", "_"); draw(); });
  parts = {
    none: h("div"), tiles: h("dl", { class: "tiles" }), kind: h("span"), bar: navigator(),
    recall: new Chart({ title: "True tags among the selected", format: format.share, height: 200 }),
    mean: new Chart({ title: "Probability of selected tags", format: format.share, height: 200, floor: 0 }),
    unique: new Chart({ title: "Unique tags selected", height: 200, floor: 0 }),
    picture: h("div", { class: "card picture" }), list: h("div", { class: "card stack" }),
  };
  parts.controls = h("div", { class: "card filters" }, h("div", { class: "spread" },
    choice("Which selected tags", [["all", "All selected"], ["true", "True"], ["other", "Other"], ["left", "True, not selected"]], settings.truth, change("truth")),
    choice("Order", Object.entries(SORTS).map(([value, [label]]) => [value, label]), settings.sort, change("sort")), text));
  parts.body = h("div", { class: "predictions" }, h("div", { class: "stack" }, parts.picture), h("div", { class: "stack" }, parts.controls, parts.list));
  parts.numbers = h("div", { class: "stack" }, h("div", { class: "spread" }, h("h1", {}, "Tag selection"), parts.kind), parts.tiles,
    h("div", { class: "charts charts-small" }, [parts.recall, parts.mean, parts.unique].map((chart) => chart.element)));
  page = h("div", { class: "stack" }, parts.none, parts.numbers, parts.bar, parts.body);
  return page;
}

// the numbers of a validation, or of the last training step before a report

const kinds = () => ["validation", "train"].filter((kind) => any(kind, "selection.recall"));

function drawNumbers(kind, both) {
  const row = series(focused().name, kind)?.last ?? {}, at = (name) => row[`selection.${name}`];
  const tiles = [
    ["True tags among the selected", format.percent(at("recall"), 1), "recall of the first stage"],
    ["Probability, true tags", format.percent(at("mean_true.refined") ?? at("mean_true.initial"), 1), both ? `initial ${format.percent(at("mean_true.initial"), 1)}` : ""],
    ["Probability, other tags", format.percent(at("mean_other.refined") ?? at("mean_other.initial"), 1), both ? `initial ${format.percent(at("mean_other.initial"), 1)}` : ""],
    ["Unique tags", format.whole(at("unique_tags")), at("pictures") ? `on ${format.whole(at("pictures"))} pictures` : ""],
    ["Selected", format.whole(at("selected")), "tags a picture"],
  ];
  refresh(parts.tiles, tiles, () => tiles.map(([name, value, more]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value), more && h("dd", { class: "tile-more" }, more))));
  const look = { kind, dots: kind === "validation" }, label = axis();
  parts.recall.set(lines([{ ...look, key: "selection.recall", label: "recall", colour: "run-0" }]), label);
  parts.mean.set(lines([
    { ...look, key: "selection.mean_true.refined", label: "true, refined", colour: "run-4", width: 2.25 },
    { ...look, key: "selection.mean_true.initial", label: "true, initial", colour: "run-4", dash: [5, 4], alpha: 0.75 },
    { ...look, key: "selection.mean_other.refined", label: "other, refined", colour: "run-3", width: 2.25 },
    { ...look, key: "selection.mean_other.initial", label: "other, initial", colour: "run-3", dash: [5, 4], alpha: 0.75 },
  ]), label);
  parts.unique.set(lines([{ ...look, key: "selection.unique_tags", label: "tags", colour: "run-2" }]), label);
}

// the selected tags of one picture

function tagsOf(picture) {
  const order = SORTS[settings.sort][1];
  return picture.tags
    .filter((tag) => (settings.truth === "left" ? tag.truth === true && tag.place === undefined : tag.place !== undefined
      && (settings.truth === "all" || (settings.truth === "true") === (tag.truth === true))))
    .filter((tag) => tag.name.toLowerCase().includes(filter.text))
    .sort((a, b) => (order(a) ?? 0) - (order(b) ?? 0));
}

function selectedLine(tag) {
  const [sign, label] = tag.truth ? ["✓", "true"] : tag.truth === null ? ["?", "unknown"] : ["·", "other"];
  const moved = tag.initial !== undefined && tag.refined !== undefined ? tag.refined - tag.initial : null;
  const bar = (stage) => h("span", { class: `meter meter-${stage}`, "aria-hidden": "true" }, h("span", { class: "meter-fill", style: { width: `${(tag[stage] ?? 0) * 100}%` } }));
  return h("tr", { class: tag.truth ? "is-correct" : tag.truth === null ? "is-unknown" : "is-absent" },
    h("td", { class: "number muted" }, tag.place === undefined ? "" : String(tag.place + 1)),
    h("td", {}, h("span", { class: "sign", role: "img", "aria-label": label, title: label }, sign)),
    h("th", { scope: "row", class: `c-${tag.category}` }, h("span", { class: "dot", title: tag.category }), format.words(tag.name)),
    h("td", { class: "bars" }, bar("initial"), bar("refined")),
    h("td", { class: "number" }, format.percent(tag.initial, 1)), h("td", { class: "number" }, format.percent(tag.refined, 1)),
    h("td", { class: "number muted" }, moved === null ? "" : `${moved < 0 ? "−" : "+"}${Math.abs(moved * 100).toFixed(1)}`));
}

function drawDetails(sample, picture) {
  const chosen = picture.tags.filter((tag) => tag.place !== undefined), true_ = picture.tags.filter((tag) => tag.truth === true);
  const among = true_.filter((tag) => tag.place !== undefined).length;
  refresh(parts.picture, [saved.run, sample.name, picture.id, saved.place], () => [
    picture.picture ? h("img", { class: "picture-image", src: pictureAddress(picture), alt: `Sample picture ${saved.place + 1}` }) : h("p", { class: "empty" }, "Its picture was not saved."),
    h("p", {}, h("strong", { class: "number" }, `${among} of ${true_.length}`), " true tags are among the ", h("strong", { class: "number" }, format.whole(chosen.length)), " selected."),
    h("ul", { class: "row small muted" }, CATEGORIES.map((name) => [name, chosen.filter((tag) => tag.category === name).length]).filter(([, count]) => count)
      .map(([name, count]) => h("li", { class: `row c-${name}` }, h("span", { class: "dot" }), `${name} ${count}`))),
  ]);
  const tags = tagsOf(picture);
  refresh(parts.list, [settings.truth, tags], () => (tags.length ? h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Selected tags" }, h("table", { class: "selected" },
    h("thead", {}, h("tr", {}, ["#", "", "Tag", "Initial over refined", "Initial", "Refined", "Change"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, tags.map(selectedLine)))) : h("p", { class: "muted" }, settings.truth === "left" ? "All of its true tags are among the selected." : "No selected tag passes these filters.")));
}

function nothing(any_) {
  if (any_) return [];
  const text = shown().length && focused()?.state.status !== "preparing"
    ? "This run has reported none so far: taggers of one stage select nothing, and older runs do not say." : "They come with the run's first report.";
  return [h("section", { class: "empty" }, h("h1", {}, "No numbers on tag selection"), h("p", {}, text))];
}

function draw() {
  if (!page?.isConnected || !focused()) return;
  freshen();
  const there = kinds(), kind = there.includes(settings.kind) ? settings.kind : there[0];
  const picture = pictureShown(), details = Boolean(picture?.selects);
  parts.numbers.hidden = !kind;
  refresh(parts.none, [Boolean(kind || details), focused().state.status], () => nothing(kind || details));
  refresh(parts.kind, [there, kind], () => (there.length > 1 ? choice("Numbers of", [["validation", "validation"], ["train", "training"]], kind, change("kind")) : []));
  if (kind) drawNumbers(kind, any(kind, "selection.mean_true.refined"));
  parts.bar.hidden = parts.body.hidden = !details;
  if (details) {
    parts.bar.draw();
    drawDetails(saved.sample, picture);
  }
}

onSample(draw);
export const selection = { title: "Selection", open: () => page ?? build(), draw, key };
