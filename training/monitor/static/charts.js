// Line charts on uPlot. All charts share one x axis: what is zoomed in one is zoomed in all.

import { h } from "./dom.js";
import { number } from "./format.js";

const { uPlot } = window;
const charts = new Set();
const MOST_DOTS = 120;
let range = null; // null: everything; {part}: the last part, moving on with the run; {from, to}: chosen
const rangeListeners = new Set();

export const onRange = (listener) => rangeListeners.add(listener);
export const currentRange = () => range;

export function setRange(next) {
  range = next;
  for (const listener of rangeListeners) listener(range);
  for (const chart of charts) chart.redraw();
}

function within(least, most) {
  if (range?.part) return [most - (most - least) * range.part, most];
  return range ? [range.from, range.to] : [least, most];
}

// Colours out of the style sheet, as the canvas needs them.
const probe = document.body.appendChild(h("span", { hidden: true }));
let colours = new Map();

export function colour(name, alpha = 1) {
  if (!colours.has(name)) {
    probe.style.color = `var(--${name})`;
    colours.set(name, getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).join(", "));
  }
  return `rgba(${colours.get(name)}, ${alpha})`;
}

export function recolour() {
  colours = new Map();
  for (const chart of charts) chart.rebuild();
}

// A mean that forgets, without the pull to its start.
export function smoothed(values, weight) {
  let mean = 0, mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

export class Chart {
  // `format` writes values, `ticks` those of the y axis; `tools` are controls beside the title; the axis
  // reaches `floor`; the lines named in `quiet` are hidden at first where there are several runs.
  constructor({ title, format = number, ticks = (value) => number(value, 3), tools = [], height = 240, floor, quiet = [] }) {
    Object.assign(this, { title, format, ticks, height, floor, lines: [], log: false });
    this.hiddenOfOne = new Set();
    this.hiddenOfMany = new Set(quiet.map((what) => `what ${what}`));
    this.plot = h("div", { class: "plot", tabindex: "0", role: "img" });
    this.plot.style.height = `${height}px`;
    this.legend = h("div", { class: "legend" });
    this.element = h("figure", { class: "card chart" },
      h("figcaption", { class: "spread" }, h("h2", {}, title), h("span", { class: "row" }, tools)), this.plot, this.legend);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("dblclick", () => setRange(null));
    new ResizeObserver(() => this.fit()).observe(this.plot);
    charts.add(this);
  }

  // Each line: {key, run, what, label, colour, x, y} and, where wanted, dash, width, alpha, dots, legend: false, low, high.
  set(lines, xLabel) {
    const signature = JSON.stringify([xLabel, this.log, lines.map((l) => [l.key, l.label, l.colour, l.dash, l.dots, Boolean(l.low)])]);
    this.lines = lines;
    this.xLabel = xLabel;
    if (signature !== this.signature) {
      this.signature = signature;
      this.rebuild();
    } else this.redraw();
  }

  many() {
    return new Set(this.lines.map((line) => line.run)).size > 1;
  }

  hidden() {
    return this.many() ? this.hiddenOfMany : this.hiddenOfOne;
  }

  visible() {
    const hidden = this.hidden();
    return this.lines.filter((line) => !hidden.has(`what ${line.what}`) && !hidden.has(`run ${line.run}`));
  }

  data() {
    const tables = [];
    const fit = this.log ? (value) => (value > 0 ? value : null) : (value) => value;
    for (const line of this.visible()) {
      for (const values of line.low ? [line.y, line.high, line.low] : [line.y]) tables.push([line.x, values.map(fit)]);
    }
    return tables.length ? uPlot.join(tables) : [[], []];
  }

  options() {
    const series = [{}], bands = [];
    for (const line of this.visible()) {
      const stroke = colour(line.colour, line.alpha ?? 1);
      series.push({
        label: line.label, stroke, width: line.width ?? 1.75, dash: line.dash, spanGaps: true,
        points: { show: Boolean(line.dots) && line.y.length <= MOST_DOTS, size: 7, fill: stroke, stroke },
      });
      if (line.low) {
        const edge = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: true };
        bands.push({ series: [series.length, series.length + 1], fill: colour(line.colour, 0.12) });
        series.push(edge, { ...edge });
      }
    }
    const axis = { stroke: colour("text-soft"), font: "12px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: colour("grid"), width: 1 } };
    return {
      width: Math.max(this.plot.clientWidth, 120), height: this.height, legend: { show: false }, series, bands,
      padding: [8, 22, 0, 0],
      scales: {
        x: { time: false, range: (_, least, most) => this.xRange(least, most) },
        y: { distr: this.log ? 3 : 1, range: this.log ? undefined : (_, least, most) => this.yRange(least, most) },
      },
      axes: [
        { ...axis, size: 26, gap: 4, values: (_, ticks) => ticks.map((tick) => this.xLabel.format(tick)) },
        { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : this.ticks(tick))) },
      ],
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, sync: { key: "monitor", setSeries: false, scales: ["x", null] } },
      hooks: { setSelect: [(u) => this.selected(u)], setCursor: [(u) => this.values(u.cursor.idx)] },
    };
  }

  xRange(least, most) {
    if (least === null) return [0, 1];
    const [from, to] = within(least, most);
    return to > from ? [from, to] : [from - 0.5, from + 0.5];
  }

  yRange(least, most) {
    if (least === null) return [0, 1];
    const bottom = this.floor === undefined ? least : Math.min(least, this.floor);
    const space = Math.max((most - bottom) * 0.06, Math.abs(most) * 1e-3, 1e-9);
    return [bottom === this.floor ? bottom : bottom - space, most + space];
  }

  rebuild() {
    this.chart?.destroy();
    this.chart = null;
    this.plot.replaceChildren();
    this.drawLegend();
    const told = this.lines.some((line) => line.y.some((value) => value !== null));
    this.plot.classList.toggle("is-empty", !told);
    if (!told) this.plot.append(h("p", { class: "muted small" }, "No values yet."));
    else if (this.plot.clientWidth) this.chart = new uPlot(this.options(), this.data(), this.plot);
    this.values(null);
  }

  redraw() {
    if (this.chart) {
      this.chart.setData(this.data());
      this.values(this.chart.cursor.idx);
    } else this.rebuild();
  }

  fit() {
    if (!this.chart) this.rebuild();
    else if (this.chart.width !== this.plot.clientWidth && this.plot.clientWidth) {
      this.chart.setSize({ width: this.plot.clientWidth, height: this.height });
    }
  }

  // With one run a line of buttons, with several a table: runs down, what is shown across.
  drawLegend() {
    this.outputs = new Map();
    const named = this.lines.filter((line) => line.legend !== false);
    for (const line of named) this.outputs.set(line.key, h("output"));
    if (!this.many()) {
      this.legend.replaceChildren(...named.map((line) => this.switch(`what ${line.what}`, line.what, this.sample(line), this.outputs.get(line.key))));
      return;
    }
    const whats = [...new Map(named.map((line) => [line.what, line])).values()], runs = [...new Map(named.map((line) => [line.run, line])).values()];
    const head = h("tr", {}, h("td"), whats.map((line) => h("th", { scope: "col" }, this.switch(`what ${line.what}`, line.what, this.sample({ ...line, colour: "text-soft" })))));
    const rows = runs.map(({ run, colour: name }) => h("tr", {},
      h("th", { scope: "row" }, this.switch(`run ${run}`, run, h("span", { class: `swatch ${name}` }))),
      whats.map(({ what }) => h("td", {}, this.outputs.get(named.find((line) => line.run === run && line.what === what)?.key)))));
    this.legend.replaceChildren(h("table", {}, whats.length > 1 && h("thead", {}, head), h("tbody", {}, rows)));
  }

  sample(line) {
    const sample = h("span", { class: `line-sample${line.dash ? " is-dashed" : ""}${line.dots ? " has-dots" : ""}`, "aria-hidden": "true" });
    sample.style.color = colour(line.colour, line.alpha ?? 1);
    return sample;
  }

  switch(name, label, ...parts) {
    const button = h("button", { type: "button", "aria-pressed": String(!this.hidden().has(name)), title: `Show or hide ${label}` }, parts[0], h("span", { class: "legend-label" }, label), parts.slice(1));
    button.dataset.name = name;
    button.addEventListener("click", () => {
      this.hidden()[this.hidden().has(name) ? "delete" : "add"](name);
      this.rebuild();
      this.legend.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
    });
    return button;
  }

  // The legend's numbers: under the pointer, or the newest.
  values(index) {
    const data = this.chart?.data, told = [];
    let at = 0;
    for (const line of this.visible()) {
      at += 1;
      const output = this.outputs.get(line.key);
      if (output) {
        const values = data?.[at] ?? [];
        let place = index ?? values.length - 1;
        while (place >= 0 && (values[place] === null || values[place] === undefined)) place -= 1;
        output.textContent = place >= 0 ? this.format(values[place]) : "";
        told.push(`${line.label} ${output.textContent || "no value"}`);
      }
      if (line.low) at += 2;
    }
    if (index === null || index === undefined) this.plot.setAttribute("aria-label", `${this.title}: ${told.join(", ") || "no values yet"}`);
  }

  selected(u) {
    if (u.select.width < 6) return;
    const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    setRange({ from, to });
  }

  key(event) {
    const scale = this.chart?.scales.x;
    if (!scale || event.ctrlKey || event.metaKey || event.altKey) return;
    const middle = (scale.min + scale.max) / 2, span = scale.max - scale.min;
    const to = {
      "+": [middle - span / 4, middle + span / 4], "-": [middle - span, middle + span],
      ArrowLeft: range ? [scale.min - span / 5, scale.max - span / 5] : null,
      ArrowRight: range ? [scale.min + span / 5, scale.max + span / 5] : null,
    }[event.key === "=" ? "+" : event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const xs = this.chart.data[0], whole = [xs[0], xs[xs.length - 1]];
    const from = Math.max(to[0], whole[0]), until = Math.min(to[1], whole[1]);
    setRange(until - from >= whole[1] - whole[0] ? null : { from, to: until });
  }
}
