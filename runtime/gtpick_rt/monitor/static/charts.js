/* Axes, histograms and series in SVG, drawn in CSS pixels and anew whenever their place changes size. */

import { compact, fixed, svg } from "./dom.js";

const MARGIN = { top: 8, right: 10, bottom: 20, left: 40 };

/** Round values between two, about `count` of them and at least `least` apart. */
export function ticks(low, high, count, least = 0) {
  const rough = (high - low) / count || 1;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, decade * [1, 2, 5, 10].find((nice) => nice * decade >= rough));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** How to write these values: with a digit where they need one. */
const labelOf = ([first, second]) => (second - first < 1 ? (value) => fixed(value, 1) : compact);

/** Draw now, and again whenever the element is resized; a later call replaces an earlier one. */
export function keepDrawn(element, draw) {
  element.redraw = () => element.clientWidth > 0 && draw(element.clientWidth, element.clientHeight);
  if (!element.observer) {
    element.observer = new ResizeObserver(() => element.redraw());
    element.observer.observe(element);
  } else element.redraw();
}

/** The field of a plot: `x` and `y` bring values to pixels, `axes` are what to draw behind. What is counted has whole steps. */
export function field(width, height, { x: [x0, x1], y: [y0, y1], margin = {}, xTicks, yTicks, yCount = 4, label = null, counts = {} }) {
  const m = { ...MARGIN, ...margin };
  const [right, bottom] = [width - m.right, height - m.bottom];
  const x = (value) => m.left + ((value - x0) / (x1 - x0 || 1)) * (right - m.left);
  const y = (value) => bottom - ((value - y0) / (y1 - y0 || 1)) * (bottom - m.top);
  const axes = [];
  const rows = yTicks ?? ticks(y0, y1, yCount, counts.y ? 1 : 0);
  for (const value of rows)
    axes.push(
      svg("line", { class: value === y0 ? "axis" : "grid", x1: m.left, x2: right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: m.left - 6, y: y(value) + 4, "text-anchor": "end" }, (label ?? labelOf(rows))(value)),
    );
  const columns = xTicks ?? ticks(x0, x1, Math.max(3, Math.min(8, width / 90)), counts.x ? 1 : 0);
  for (const value of columns)
    axes.push(svg("text", { class: "tick", x: x(value), y: height - 5, "text-anchor": "middle" }, labelOf(columns)(value)));
  return { x, y, axes, left: m.left, right, top: m.top, bottom };
}

/** A path through points; null breaks it. */
export function path(points) {
  let pen = "M";
  return points
    .map((point) => {
      const part = point ? `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}` : "";
      pen = point ? "L" : "M";
      return part;
    })
    .join("");
}

/** A vertical mark with a word at its top. */
export function mark(at, plot, text, kind) {
  const anchor = at > (plot.left + plot.right) / 2 ? "end" : "start";
  return [
    svg("line", { class: `mark-line ${kind}`, x1: at, x2: at, y1: plot.top, y2: plot.bottom }),
    svg("text", { class: `mark-text ${kind}`, x: at + (anchor === "end" ? -5 : 5), y: plot.top + 10, "text-anchor": anchor }, text),
  ];
}

/** Square roots of round counts, so far apart that their labels do not meet. */
function rootTicks(tallest) {
  const round = [1, 2, 3, 4].map((decade) => [10 ** decade, 3 * 10 ** decade]).flat().concat(1e5, 1e6);
  return [0, ...round.map(Math.sqrt).filter((value) => value > 0.2 * tallest && value <= 1.05 * tallest)];
}

/** The value below which half of a histogram lies; null of an empty one. */
export function medianOf({ edges, counts }) {
  const half = counts.reduce((sum, count) => sum + count, 0) / 2;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (count && below + count >= half) return edges[i] + ((half - below) / count) * (edges[i + 1] - edges[i]);
    below += count;
  }
  return null;
}

/**
 * A histogram. `marks`: {at, text, kind} in units of the edges; `faintBelow`: bars below are pale;
 * `curve`: [value, share of its greatest] pairs, drawn over the same width; `root`: heights go with the square root.
 */
export function histogram(element, { edges, counts, label, marks = [], faintBelow = -Infinity, curve = null, root = false }) {
  element.setAttribute("aria-label", label);
  keepDrawn(element, (width, height) => {
    const high = root ? Math.sqrt : (count) => count;
    const tallest = high(Math.max(1, ...counts));
    const scale = root ? { yTicks: rootTicks(tallest), label: (value) => compact(value ** 2) } : { counts: { y: true } };
    const plot = field(width, height, { x: [edges[0], edges.at(-1)], y: [0, tallest * 1.08], ...scale });
    const bars = counts.map((count, i) => {
      const [left, right] = [plot.x(edges[i]), plot.x(edges[i + 1])];
      const kind = edges[i + 1] <= faintBelow + 1e-9 ? "column faint" : "column";
      const box = { x: left + 0.5, width: Math.max(0.5, right - left - 1), y: plot.y(high(count)), height: plot.bottom - plot.y(high(count)) };
      const words = `${Number(edges[i].toPrecision(4))} to ${Number(edges[i + 1].toPrecision(4))}: ${count}`;
      return svg("rect", { class: kind, ...box }, svg("title", {}, words));
    });
    const points = curve?.map(([value, share]) => [plot.x(value), plot.y(share * tallest)]);
    element.replaceChildren(
      ...plot.axes,
      ...bars,
      ...(points ? [svg("path", { class: "curve", d: path(points) })] : []),
      ...marks.flatMap(({ at, text, kind }) => mark(plot.x(at), plot, text, kind)),
    );
  });
}
