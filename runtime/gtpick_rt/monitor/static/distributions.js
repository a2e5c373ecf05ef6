/* Histograms over a sample of the run: score with what a threshold would leave, diameter, nearest neighbour. */

import { histogram, medianOf } from "./charts.js";
import { $, averaged, counted, fixed, integer, say } from "./dom.js";

/** Shows an answer of /api/histograms, and where the slider stands in it. */
export class Distributions {
  constructor() {
    this.threshold = null;
  }

  fill(data) {
    this.data = data;
    const of = data.of > data.micrographs ? ` of ${integer(data.of)}, spread over the run` : "";
    say($("histograms-note"), `${counted(data.micrographs, "micrograph")}${of}`);
    this.#score();
    this.#length("hist-diameter", data.diameter_A, "Diameters of the picks");
    this.#length("hist-neighbour", data.neighbour_A, "Distances from each pick to its nearest neighbour");
  }

  /** Mark the threshold that the slider shows; null where it is the one of the run. */
  setThreshold(threshold) {
    this.threshold = threshold;
    if (this.data) this.#score();
  }

  /** Picks per micrograph that a threshold leaves. */
  #left(threshold) {
    const { left_threshold, left_picks } = this.data;
    const after = left_threshold.findIndex((each) => each >= threshold - 1e-9);
    return left_picks[after < 0 ? left_picks.length - 1 : after];
  }

  #score() {
    const { score, threshold, left_threshold, left_picks } = this.data;
    const most = Math.max(1, ...left_picks);
    const words = (at) => `${fixed(at, 2)}: ${averaged(this.#left(at))} per micrograph`;
    const marks = [{ at: threshold, text: words(threshold), kind: "written" }];
    if (this.threshold !== null) marks.push({ at: this.threshold, text: words(this.threshold), kind: "chosen" });
    histogram($("hist-score"), {
      ...score,
      marks,
      root: true,
      faintBelow: this.threshold ?? threshold,
      curve: left_threshold.map((at, i) => [at, left_picks[i] / most]),
      label: `Scores of the detections. ${marks.map(({ text }) => `Threshold ${text} left`).join("; ")}`,
    });
  }

  #length(id, data, name) {
    const median = medianOf(data);
    const marks = median === null ? [] : [{ at: median, text: `median ${integer(median)} Å`, kind: "middle" }];
    histogram($(id), { ...data, marks, label: `${name}, ${median === null ? "none yet" : `median ${integer(median)} Å`}` });
  }
}
