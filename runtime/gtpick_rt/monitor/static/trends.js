/* How the run went: picks, score and flags over the micrographs in the order of acquisition. */

import { field, keepDrawn, path } from "./charts.js";
import { $, FLAGS, counted, roving, say, svg } from "./dom.js";

const LEFT = 84; /* room for the names of the flags, so that the three share one axis */
const UNNUMBERED = { xTicks: [], margin: { bottom: 6 } };
const MOST_POINTS = 160;

/** The last bin may be part full, so a place is its micrograph's number. */
const placeOf = (data, bin) => bin * data.per_bin + (data.per_bin - 1) / 2;

/** Whether a robust z is beyond what the server calls unusual. */
const isUnusual = (z) => Math.abs(z) > 3.5;

/** `onSelect(id)` when a place or an outlier is chosen. */
export class Trends {
  constructor(onSelect) {
    this.onSelect = onSelect;
    for (const id of ["trend-picks", "trend-score", "trend-flags"]) {
      $(id).addEventListener("click", (event) => this.#click(event));
      $(id).addEventListener("keydown", (event) => this.#key(event));
    }
    roving($("trend-picks"), () => [...$("trend-picks").querySelectorAll("[role=button]")]);
  }

  /** `data`: an answer of /api/trends. */
  fill(data) {
    this.data = data;
    const micrographs = counted(data.micrographs, "micrograph");
    const per = data.per_bin > 1 ? `, ${data.per_bin} to a point: median and quartiles` : "";
    say($("trends-note"), `${micrographs}${per}`);
    /* Where points are many micrographs each, flags have a row to themselves and circles would hide the curve. */
    this.outliers = data.outliers.filter(({ z }) => data.per_bin === 1 || isUnusual(z));
    const picked = `Picks per micrograph over ${micrographs}; those that stand out follow as buttons: ${this.outliers.length}`;
    $("trend-picks").setAttribute("aria-label", picked);
    $("trend-score").setAttribute("aria-label", "Median score of the picks in the order of acquisition");
    $("trend-flags").setAttribute("aria-label", "Share of micrographs with each quality flag in the order of acquisition");
    keepDrawn($("trend-picks"), (width, height) => this.#picks(width, height));
    keepDrawn($("trend-score"), (width, height) => this.#score(width, height));
    keepDrawn($("trend-flags"), (width) => this.#flags(width));
  }

  #field(width, height, y, options = {}) {
    const x = [0, Math.max(1, this.data.micrographs - 1)];
    this.field = field(width, height, { x, y, counts: { x: true }, ...options, margin: { left: LEFT, ...options.margin } });
    return this.field;
  }

  #picks(width, height) {
    const { data } = this;
    const most = Math.max(1, ...data.picks_q75, ...this.outliers.map((each) => each.picks));
    const plot = this.#field(width, height, [0, most * 1.08], { counts: { y: true }, ...UNNUMBERED });
    const at = (values) => values.map((value, bin) => [plot.x(placeOf(data, bin)), plot.y(value)]);
    const band = path([...at(data.picks_q75), ...at(data.picks_q25).reverse()]);
    const focused = document.activeElement?.dataset?.outlier;
    const outliers = this.outliers.map((each, i) => this.#outlier(each, plot, i));
    $("trend-picks").replaceChildren(
      ...plot.axes,
      ...(data.per_bin > 1 ? [svg("path", { class: "band", d: `${band}Z` })] : []),
      ...series(at(data.picks_median)),
      ...outliers,
    );
    if (focused) outliers.find((each) => each.dataset.outlier === focused)?.focus();
  }

  #outlier({ id, index, picks, z, flags }, plot, i) {
    const why = [...flags, ...(isUnusual(z) ? [`${z > 0 ? "more" : "fewer"} picks than its neighbours`] : [])].join(", ");
    const words = `${counted(picks, "pick")}: ${why}`;
    const kind = isUnusual(z) ? "unusual" : "flagged";
    return svg(
      "circle",
      { class: `outlier ${kind}`, cx: plot.x(index), cy: plot.y(picks), r: 4.5, role: "button", tabindex: i ? -1 : 0, "aria-label": words, "data-outlier": id },
      svg("title", {}, words),
    );
  }

  #score(width, height) {
    const { data } = this;
    const known = data.median_score.filter((value) => value !== null);
    const low = Math.max(0, Math.floor(10 * Math.min(0.5, ...known)) / 10);
    const plot = this.#field(width, height, [low, 1], { yCount: 3, ...UNNUMBERED });
    const points = data.median_score.map((value, bin) => value !== null && [plot.x(placeOf(data, bin)), plot.y(value)]);
    $("trend-score").replaceChildren(...plot.axes, ...series(points));
  }

  #flags(width) {
    const { data } = this;
    const row = 15;
    const plot = this.#field(width, FLAGS.length * row + 26, [0, 1], { yTicks: [], margin: { top: 2 } });
    const half = data.per_bin / 2;
    const parts = FLAGS.flatMap((name, line) => [
      svg("text", { class: "tick", x: LEFT - 8, y: line * row + 13, "text-anchor": "end" }, name),
      svg("line", { class: "grid", x1: plot.left, x2: plot.right, y1: (line + 1) * row + 2, y2: (line + 1) * row + 2 }),
      ...(data.flags[name] ?? []).flatMap((share, bin) => {
        if (!share) return [];
        const [left, right] = [plot.x(placeOf(data, bin) - half), plot.x(placeOf(data, bin) + half)];
        const tall = 3 + share * (row - 5);
        const [x, end] = [Math.max(plot.left, left), Math.min(plot.right, right)];
        const box = { x, width: Math.max(2.5, end - x - 0.5), y: (line + 1) * row + 2 - tall, height: tall };
        const where = `${name}: ${Math.round(share * 100)} % of ${data.per_bin}`;
        return [svg("rect", { ...box, class: "share", "data-flag": name.replaceAll(" ", "-") }, svg("title", {}, data.per_bin > 1 ? where : name))];
      }),
    ]);
    $("trend-flags").replaceChildren(...parts, ...plot.axes);
  }

  #key(event) {
    if ((event.key === "Enter" || event.key === " ") && event.target.dataset.outlier) {
      event.preventDefault();
      this.onSelect(Number(event.target.dataset.outlier));
    }
  }

  #click(event) {
    const { outlier } = event.target.dataset;
    if (outlier !== undefined) return this.onSelect(Number(outlier));
    if (!this.data?.micrographs) return undefined;
    const { left, right } = this.field;
    const share = (event.clientX - event.currentTarget.getBoundingClientRect().left - left) / (right - left);
    const bin = Math.round((share * (this.data.micrographs - 1)) / this.data.per_bin - 0.5 + 0.5 / this.data.per_bin);
    return this.onSelect(this.data.first_id[Math.max(0, Math.min(this.data.first_id.length - 1, bin))]);
  }
}

/** A line, with its points where there is room for them. */
function series(points) {
  const dots = points.length > MOST_POINTS ? [] : points.filter(Boolean).map(([cx, cy]) => svg("circle", { class: "point", cx, cy, r: 2 }));
  return [svg("path", { class: "series", d: path(points) }), ...dots];
}
