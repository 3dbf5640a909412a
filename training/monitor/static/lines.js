// Lines for charts out of the runs' columns: one way of drawing for all of them.

import { smoothed } from "./charts.js";
import { xOf } from "./axis.js";
import { colourOf, column, series, shown } from "./store.js";

const close = new Map(); // what the server told less thinned, for the stretch that is zoomed: run -> {kind, columns}

export const setClose = (run, found) => (found ? close.set(run, found) : close.delete(run));
export const forgetClose = () => close.clear();

// A column with its steps; within the zoomed stretch the closer look replaces the thinned points.
function points(run, kind, key) {
  const steps = column(run, kind, "step") ?? [], values = column(run, kind, key) ?? [];
  const near = close.get(run);
  if (!near || near.kind !== kind || !near.columns[key] || near.generation !== near.now()) return { steps, values };
  const inner = near.columns.step, first = inner[0], last = inner[inner.length - 1];
  const before = steps.filter((step) => step < first).length, after = steps.filter((step) => step <= last).length;
  return {
    steps: [...steps.slice(0, before), ...inner, ...steps.slice(after)],
    values: [...values.slice(0, before), ...near.columns[key], ...values.slice(after)],
    near: true,
  };
}

const told = (values) => values.some((value) => value !== null && value !== undefined);

// `wanted`: [{kind, key (or several, the first that has values), label, colour, ...look}]. With several runs the
// colour says which run it is and the look of the line says what it shows.
export function lines(wanted, { smoothing = 0 } = {}) {
  const runs = shown(), many = runs.length > 1, made = [];
  for (const run of runs) {
    for (const { kind, key, label, colour, scale = 1, smooth = false, ...look } of wanted) {
      const name = [key].flat().find((one) => told(column(run, kind, one) ?? []));
      if (!name) continue;
      const { steps, values, near } = points(run, kind, name);
      const scaled = scale === 1 ? values : values.map((value) => (value === null ? null : value * scale));
      const x = xOf(run, steps);
      const line = {
        ...look, x, y: scaled, run, what: label, key: `${run} ${kind} ${label}`,
        label: many ? `${run} · ${label}` : label, colour: many ? `run-${colourOf(run)}` : colour,
      };
      if (smooth && smoothing && scaled.length > 3) {
        made.push({ ...line, key: `${line.key} raw`, alpha: 0.25, width: 1, legend: false });
        line.y = smoothed(scaled, smoothing);
      } else if (smooth && !near && series(run, kind).width > 1) {
        line.low = column(run, kind, `${name}:low`);
        line.high = column(run, kind, `${name}:high`);
        if (!line.low) delete line.low;
      }
      made.push(line);
    }
  }
  return made;
}

export const any = (kind, key) => shown().some((run) => told(column(run, kind, key) ?? []));
