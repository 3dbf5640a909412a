// What the x axis counts, the same for all charts: steps, epochs or time.

import { keep, kept } from "./dom.js";
import { duration, number, whole } from "./format.js";
import { column, runNamed } from "./store.js";

export const AXES = {
  step: { name: "step", format: whole },
  epoch: { name: "epoch", format: (value) => number(value, 3) },
  time: { name: "time", format: duration },
};
let chosen = AXES[kept("axis", "step")] ?? AXES.step;

export const axis = () => chosen;
export function chooseAxis(name) {
  chosen = AXES[name];
  keep("axis", name);
}

// Seconds of a step, between the two reports around it.
function timeOf(steps, seconds, step) {
  let low = 0, high = steps.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1; else high = middle;
  }
  if (!low || steps[low] <= step) return (seconds[low] * step) / (steps[low] || 1);
  const part = (step - steps[low - 1]) / (steps[low] - steps[low - 1] || 1);
  return seconds[low - 1] + part * (seconds[low] - seconds[low - 1]);
}

export function xOf(run, steps) {
  const state = runNamed(run)?.state ?? {};
  if (chosen === AXES.epoch && state.steps && state.epochs) return steps.map((step) => (step / state.steps) * state.epochs);
  if (chosen === AXES.time) {
    const known = column(run, "train", "step") ?? [], seconds = column(run, "train", "elapsed") ?? [];
    if (seconds.length && seconds.every((value) => value !== null)) return steps.map((step) => timeOf(known, seconds, step));
  }
  return steps;
}

// Steps of a stretch of the axis; null where they cannot be told.
export function stepsOf(run, from, to) {
  const state = runNamed(run)?.state ?? {};
  if (chosen === AXES.step) return [from, to];
  if (chosen === AXES.epoch && state.epochs) return [from, to].map((value) => (value / state.epochs) * state.steps);
  return null;
}
