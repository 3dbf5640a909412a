// Tags with their verdicts: what a stage said of each beside the truth, as signs, colours and bars.

import { h } from "./dom.js";
import { percent, words } from "./format.js";

export const CATEGORIES = ["rating", "character", "copyright", "artist", "general", "meta", "year"];
export const VERDICTS = {
  correct: { sign: "✓", label: "correct", about: "true, and said" },
  incorrect: { sign: "✗", label: "incorrect", about: "said, but not true" },
  missing: { sign: "○", label: "missing", about: "true, but not said" },
  unknown: { sign: "?", label: "unknown", about: "nobody knows whether it is true" },
  absent: { sign: "·", label: "rightly not said", about: "neither true nor said" },
};

// The threshold of a tag: the person's own, else the run's for the stage and category.
export function threshold(sample, tag, stage, own) {
  if (own !== null) return own;
  const chosen = sample.thresholds[stage] ?? sample.thresholds.refined ?? sample.thresholds.initial ?? {};
  return chosen[tag.category] ?? chosen.overall ?? 0.5;
}

export function verdict(sample, tag, stage, own) {
  const said = (tag[stage] ?? 0) >= threshold(sample, tag, stage, own);
  if (tag.truth === null) return "unknown";
  if (tag.truth) return said ? "correct" : "missing";
  return said ? "incorrect" : "absent";
}

export const stagesOf = (picture) => ["initial", "refined"].filter((stage) => picture.tags.some((tag) => tag[stage] !== undefined));

// A line: sign, name, bar with the threshold (and the other stage's value as a ring), confidence.
export function tagLine(sample, tag, stage, own, other) {
  const kind = verdict(sample, tag, stage, own), value = tag[stage] ?? null;
  const { sign, label } = VERDICTS[kind];
  const at = threshold(sample, tag, stage, own);
  const ring = other && tag[other] !== undefined && tag[other] !== null
    ? h("span", { class: "meter-other", title: `${other} ${percent(tag[other], 1)}`, style: { left: `${tag[other] * 100}%` } }) : null;
  return h("li", { class: `tag-line is-${kind}` },
    h("span", { class: "sign", title: `${label}: ${VERDICTS[kind].about}`, role: "img", "aria-label": label }, sign),
    h("span", { class: "tag-name", title: tag.name }, words(tag.name)),
    h("span", { class: "meter", "aria-hidden": "true" }, h("span", { class: "meter-fill", style: { width: `${(value ?? 0) * 100}%` } }),
      h("span", { class: "meter-threshold", title: `threshold ${percent(at, 1)}`, style: { left: `${at * 100}%` } }), ring),
    h("span", { class: "tag-value number" }, percent(value, 1)));
}

export function byCategory(tags) {
  const groups = new Map(CATEGORIES.map((name) => [name, []]));
  for (const tag of tags) {
    if (!groups.has(tag.category)) groups.set(tag.category, []);
    groups.get(tag.category).push(tag);
  }
  return [...groups].filter(([, found]) => found.length);
}

// Counts over pictures: precision, recall and F1 of what is known, and the tags that err most.
export function errors(sample, stage, own) {
  const total = { correct: 0, incorrect: 0, missing: 0, unknown: 0, absent: 0 }, tags = new Map();
  for (const picture of sample.pictures) {
    for (const tag of picture.tags) {
      const kind = verdict(sample, tag, stage, own);
      total[kind] += 1;
      if (kind !== "incorrect" && kind !== "missing") continue;
      if (!tags.has(tag.name)) tags.set(tag.name, { name: tag.name, category: tag.category, incorrect: 0, missing: 0 });
      tags.get(tag.name)[kind] += 1;
    }
  }
  const said = total.correct + total.incorrect, true_ = total.correct + total.missing;
  const precision = said ? total.correct / said : null, recall = true_ ? total.correct / true_ : null;
  const f1 = said + true_ ? (2 * total.correct) / (said + true_) : null;
  const worst = [...tags.values()].sort((a, b) => b.incorrect + b.missing - a.incorrect - a.missing || a.name.localeCompare(b.name));
  return { total, precision, recall, f1, worst };
}
