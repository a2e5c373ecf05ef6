/* The colours of scores: sky blue, yellow and vermilion of the Okabe-Ito palette, as in the overlays. */

const STOPS = [
  [0.3, [86, 180, 233]],
  [0.6, [240, 228, 66]],
  [0.9, [213, 94, 0]],
];

/** The colour of a score in [0, 1]. */
export function ofScore(score) {
  const clamped = Math.max(STOPS[0][0], Math.min(STOPS[2][0], score));
  const [[from, a], [to, b]] = clamped < STOPS[1][0] ? [STOPS[0], STOPS[1]] : [STOPS[1], STOPS[2]];
  const share = (clamped - from) / (to - from);
  return `rgb(${a.map((value, i) => Math.round(value + share * (b[i] - value))).join(" ")})`;
}
