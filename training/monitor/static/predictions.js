// What the network says of the saved pictures, beside the truth.

import { chip, choice, h, keep, kept, refresh } from "./dom.js";
import { percent, share, whole, words } from "./format.js";
import { choosePicture, freshen, key, navigator, nothing, onSample, pictureAddress, pictureShown, saved } from "./saved.js";
import { VERDICTS, byCategory, errors, stagesOf, tagLine, verdict } from "./tags.js";

const MOST_WORST = 12;
const settings = kept("predictions", { stage: "refined", hidden: ["absent"], low: 0, high: 1, own: null });
const filter = { text: "", categories: new Set() }; // categories that are left out
let page, parts;

function change(name, value) {
  settings[name] = value;
  keep("predictions", settings);
  draw();
}

function build() {
  parts = {
    bar: navigator(), none: h("div"), body: h("div", { class: "predictions" }), picture: h("div", { class: "card picture" }),
    stage: h("span"), verdicts: h("span", { class: "row", role: "group", "aria-label": "Show by verdict" }), categories: h("span", { class: "row", role: "group", "aria-label": "Show by category" }),
    reading: h("p", { class: "small muted" }), tags: h("div", { class: "stack" }), errors: h("section", { class: "card stack" }),
  };
  parts.body.append(h("div", { class: "stack" }, parts.picture, parts.errors), h("div", { class: "stack" }, filters(), parts.tags));
  page = h("div", { class: "stack" }, h("h1", { class: "visually-hidden" }, "Predictions"), parts.bar, parts.none, parts.body);
  return page;
}

function filters() {
  const text = h("input", { type: "search", class: "input", placeholder: "Filter tags", "aria-label": "Filter tags by text" });
  text.addEventListener("input", () => { filter.text = text.value.trim().toLowerCase().replaceAll(" ", "_"); draw(); });
  parts.text = text;
  const wrong = h("button", { type: "button", class: "button button-small" }, "Only what is wrong");
  wrong.addEventListener("click", () => {
    const only = ["correct", "unknown", "absent"];
    change("hidden", only.every((kind) => settings.hidden.includes(kind)) && settings.hidden.length === 3 ? ["absent"] : only);
  });
  parts.wrong = wrong;
  return h("div", { class: "card filters" },
    h("div", { class: "spread" }, parts.stage, wrong, text), parts.verdicts, parts.categories,
    h("div", { class: "row" }, range("low", "Confidence from"), range("high", "to"), ownThreshold()), parts.reading);
}

function range(name, label) {
  const output = h("output", {}, percent(settings[name]));
  const input = h("input", { type: "range", min: "0", max: "1", step: "0.01" });
  input.value = settings[name];
  input.addEventListener("input", () => { output.textContent = percent(Number(input.value)); change(name, Number(input.value)); });
  return h("label", { class: "field" }, label, input, output);
}

function ownThreshold() {
  const box = h("input", { type: "checkbox", checked: settings.own !== null, "aria-label": "Use one threshold of my own" });
  const output = h("output"), input = h("input", { type: "range", min: "0.01", max: "0.99", step: "0.01", "aria-label": "Threshold" });
  input.value = settings.own ?? 0.5;
  const show = () => { output.textContent = box.checked ? percent(Number(input.value)) : "the run's"; input.disabled = !box.checked; };
  for (const element of [box, input]) {
    element.addEventListener("input", () => { show(); change("own", box.checked ? Number(input.value) : null); });
  }
  show();
  return h("span", { class: "field" }, h("label", { class: "field" }, box, "Threshold"), input, output);
}

// one picture

const stageFor = (picture) => { const there = stagesOf(picture); return there.includes(settings.stage) ? settings.stage : there.at(-1) ?? "refined"; };

function shownTags(sample, picture, stage) {
  return picture.tags
    .map((tag) => ({ ...tag, verdict: verdict(sample, tag, stage, settings.own) }))
    .filter((tag) => !settings.hidden.includes(tag.verdict) && !filter.categories.has(tag.category)
      && (tag[stage] ?? 0) >= settings.low && (tag[stage] ?? 0) <= settings.high && tag.name.toLowerCase().includes(filter.text))
    .sort((a, b) => (b[stage] ?? -1) - (a[stage] ?? -1));
}

function drawPicture(sample, picture, stage) {
  const counts = errors({ ...sample, pictures: [picture] }, stage, settings.own);
  refresh(parts.picture, [saved.run, picture.id, picture.picture, stage, settings.own, sample.name], () => [
    picture.picture
      ? h("img", { class: "picture-image", src: pictureAddress(picture), alt: `Sample picture ${saved.place + 1}` })
      : h("p", { class: "empty" }, "Its picture was not saved."),
    h("div", { class: "spread small" },
      h("span", { class: "number" }, `Picture ${saved.place + 1} of ${sample.pictures.length}`),
      h("span", { class: "number" }, `F1 ${share(counts.f1)} · ${counts.total.correct} ✓ · ${counts.total.incorrect} ✗ · ${counts.total.missing} ○`)),
    picture.id && h("p", { class: "small muted mono" }, picture.id),
  ]);
}

function drawFilters(sample, picture, stage) {
  const stages = stagesOf(picture);
  refresh(parts.stage, [stages, stage], () => (stages.length > 1
    ? choice("Stage", [["initial", "Initial"], ["refined", "Refined"]], stage, (value) => change("stage", value)) : h("span", { class: "badge" }, "one stage")));
  const counts = {};
  for (const tag of picture.tags) {
    const kind = verdict(sample, tag, stage, settings.own);
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  refresh(parts.verdicts, [counts, settings.hidden], () => Object.entries(VERDICTS).filter(([kind]) => kind !== "unknown" || counts.unknown).map(([kind, { sign, label }]) => chip(
    [h("span", { class: `sign is-${kind}`, "aria-hidden": "true" }, sign), `${label} ${counts[kind] ?? 0}`], !settings.hidden.includes(kind),
    (on) => change("hidden", on ? settings.hidden.filter((one) => one !== kind) : [...settings.hidden, kind]))));
  const found = byCategory(picture.tags).map(([category]) => category);
  refresh(parts.categories, [found, [...filter.categories]], () => (found.length > 1 ? found.map((category) => chip(
    [h("span", { class: `dot c-${category}` }), words(category) || "other"], !filter.categories.has(category),
    (on) => { filter.categories[on ? "delete" : "add"](category); draw(); })) : []));
  parts.wrong.setAttribute("aria-pressed", String(["correct", "unknown", "absent"].every((kind) => settings.hidden.includes(kind))));
}

function drawTags(sample, picture, stage) {
  const tags = shownTags(sample, picture, stage), other = stagesOf(picture).find((one) => one !== stage);
  parts.reading.textContent = `Bar: ${stage} stage${other ? `; ring: ${other} stage` : ""}; line: threshold.`;
  refresh(parts.tags, [stage, other, settings.own, sample.thresholds, tags], () => (tags.length
    ? byCategory(tags).map(([category, found]) => h("section", { class: `card tag-group c-${category}` },
      h("h2", {}, h("span", { class: "dot" }), words(category) || "other", h("span", { class: "muted number" }, String(found.length))),
      h("ul", { class: "tag-lines" }, found.map((tag) => tagLine(sample, tag, stage, settings.own, other)))))
    : h("section", { class: "empty" }, h("p", {}, picture.tags.length ? "No tag passes these filters." : "No tags were saved for this picture."))));
}

function drawErrors(sample, stage) {
  refresh(parts.errors, [saved.run, sample.name, stage, settings.own], () => {
    const { total, precision, recall, f1, worst } = errors(sample, stage, settings.own);
    return [
      h("h2", {}, `All ${sample.pictures.length} pictures of this sample`),
      h("p", { class: "small number" }, `Precision ${share(precision)}, recall ${share(recall)}, F1 ${share(f1)}: ${whole(total.correct)} correct, ${whole(total.incorrect)} incorrect, ${whole(total.missing)} missing tags.`),
      worst.length > 0 && h("h3", { class: "muted" }, "Wrong most often"),
      h("ul", { class: "worst" }, worst.slice(0, MOST_WORST).map((tag) => h("li", { class: `c-${tag.category}` },
        h("button", { type: "button", title: "Show the next picture where it is wrong", onclick: () => nextWrong(tag.name) },
          h("span", { class: "tag-name" }, words(tag.name)), h("span", { class: "number" }, [tag.incorrect && `${tag.incorrect} ✗`, tag.missing && `${tag.missing} ○`].filter(Boolean).join("  ")))))),
    ];
  });
}

function nextWrong(name) {
  const { sample } = saved, many = sample.pictures.length;
  for (let step = 1; step <= many; step += 1) {
    const place = (saved.place + step) % many, picture = sample.pictures[place], stage = stageFor(picture);
    if (picture.tags.some((tag) => tag.name === name && ["incorrect", "missing"].includes(verdict(sample, tag, stage, settings.own)))) {
      choosePicture(place);
      return;
    }
  }
}

function draw() {
  if (!page?.isConnected) return;
  freshen();
  const { sample } = saved, picture = pictureShown();
  parts.bar.draw();
  parts.bar.hidden = !saved.saved.length;
  parts.body.hidden = !picture;
  refresh(parts.none, [Boolean(picture), saved.problem, saved.run], () => [nothing()]);
  if (!picture) return;
  const stage = stageFor(picture);
  drawPicture(sample, picture, stage);
  drawFilters(sample, picture, stage);
  drawTags(sample, picture, stage);
  drawErrors(sample, stage);
}

onSample(draw);
export const predictions = { title: "Predictions", open: () => page ?? build(), draw, key };
