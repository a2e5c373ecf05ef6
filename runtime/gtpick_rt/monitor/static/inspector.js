/* Beside the micrograph: its threshold, how it is shown, and what is known of it. */

import { ofScore } from "./colours.js";
import { $, clock, counted, fixed, integer, make, say, seconds, svg } from "./dom.js";

const BINS = 50;
const HEIGHT = 72;
const INSET = 9; /* half the slider's thumb, so that it stands under its score */

/** Moves the viewer's threshold and filters. The threshold stays as written until someone moves it. */
export class Inspector {
  constructor(viewer, folder, onThreshold) {
    this.viewer = viewer;
    this.folder = folder;
    this.onThreshold = onThreshold;
    this.chosen = null;
    this.written = 0;
    $("threshold").addEventListener("input", (event) => this.#choose(Number(event.target.value)));
    $("written").addEventListener("click", () => this.#choose(null));
    for (const id of ["contrast", "brightness", "blur"]) {
      $(id).addEventListener("input", () => this.#filter());
      $(id).addEventListener("dblclick", () => {
        $(id).value = $(id).defaultValue;
        this.#filter();
      });
    }
    viewer.picture.addEventListener("load", () => this.#filter());
    new ResizeObserver(() => this.#draw()).observe($("scores"));
    this.#filter();
  }

  /** Score from which picks are shown: the one chosen, or the one that the picks were written with. */
  get threshold() {
    return this.chosen ?? this.written;
  }

  show(micrograph) {
    this.micrograph = micrograph;
    this.written = micrograph.threshold ?? 0; /* not known until the run has told it */
    $("threshold").disabled = false;
    this.#facts();
    this.#draw();
  }

  #choose(threshold) {
    this.chosen = threshold !== null && Math.abs(threshold - this.written) < 0.005 ? null : threshold;
    this.#draw();
    this.onThreshold(this.threshold);
  }

  #filter() {
    const value = (id) => Number($(id).value);
    this.viewer.setFilter({ contrast: value("contrast"), brightness: value("brightness"), blur: value("blur") });
    say($("contrast-value"), `${value("contrast")} %`);
    say($("brightness-value"), `${value("brightness")} %`);
    const sigmaA = value("blur") * this.viewer.pixelA;
    say($("blur-value"), value("blur") ? `σ ${sigmaA.toFixed(0)} Å` : "off");
  }

  #draw() {
    if (!this.micrograph) return;
    const { score } = this.micrograph;
    const { written } = this;
    const above = (limit) => score.reduce((count, each) => count + (each >= limit), 0);
    this.viewer.setThreshold(this.threshold);
    say($("count"), integer(above(this.threshold)));
    const difference = above(this.threshold) - above(written);
    const change = difference ? `, ${difference > 0 ? "+" : "−"}${Math.abs(difference)} to the ${above(written)} as written` : "";
    say($("count-note"), `of ${counted(score.length, "detection")}${change}`);
    $("threshold").value = this.threshold;
    $("threshold").setAttribute("aria-valuetext", `${this.threshold.toFixed(2)}, ${counted(above(this.threshold), "pick")}`);
    say($("threshold-value"), this.threshold.toFixed(2));
    $("written").disabled = this.chosen === null;
    say($("written"), `As written: ${written.toFixed(2)}`);
    $("hint").hidden = this.chosen === null;
    say($("hint-command"), `gtpick-rt rethreshold ${this.folder} --threshold ${this.threshold.toFixed(2)}`);
    this.#scores(score, written);
  }

  #scores(score, written) {
    const picture = $("scores");
    const width = picture.clientWidth - 2 * INSET;
    const counts = new Array(BINS).fill(0);
    for (const each of score) counts[Math.min(BINS - 1, Math.floor(each * BINS))] += 1;
    const tall = (count) => ((HEIGHT - 22) * Math.sqrt(count)) / Math.sqrt(Math.max(1, ...counts));
    const bars = counts.map((count, i) =>
      svg("rect", {
        x: INSET + (i * width) / BINS, width: Math.max(1, width / BINS - 1),
        y: HEIGHT - 4 - tall(count), height: tall(count),
        fill: ofScore((i + 0.5) / BINS), opacity: (i + 0.5) / BINS < this.threshold ? 0.3 : 1,
      }),
    );
    const place = INSET + written * width;
    picture.replaceChildren(
      ...bars,
      svg("line", { x1: place, x2: place, y1: 14, y2: HEIGHT, class: "written" }),
      svg("text", { x: place, y: 10, class: "written-label", "text-anchor": written > 0.8 ? "end" : written < 0.2 ? "start" : "middle" }, "as written"),
    );
    picture.setAttribute("aria-label", `Scores of ${counted(score.length, "detection")}; the picks were written at ${written.toFixed(2)}`);
  }

  #facts() {
    const { width, height, pixel_size_A, median_score, lag_s, seconds: spent, time, warnings, name } = this.micrograph;
    const facts = [
      ["File", name], ["Size", `${width} × ${height} px, ${fixed(pixel_size_A, 3)} Å/px`], ["Median score", fixed(median_score, 2)],
      lag_s === null ? ["Work", seconds(spent)] : ["Lag", `${seconds(lag_s)}, of which ${seconds(spent)} work`], ["Picked", clock(time)], ...warnings.map((text) => ["Warning", text]),
    ];
    $("facts").replaceChildren(...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", { title: value }, value)]));
  }
}
