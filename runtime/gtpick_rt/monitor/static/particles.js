/* Particles cut out by score, with the mean of each group and its radial profile: is the threshold right? */

import { field, keepDrawn, path } from "./charts.js";
import { $, fixed, integer, make, say, svg } from "./dom.js";

/** Show an answer of /api/particles. */
export function showParticles({ side, groups }) {
  $("particles-none").hidden = groups.length > 0;
  say($("particles-none"), "Particles are shown here when some are picked.");
  say($("particles-note"), groups.length ? "left, enlarged: the mean; right: its profile, dark is down" : "");
  const all = groups.flatMap(({ profile }) => profile);
  const range = [Math.min(0, ...all), Math.max(0, ...all)];
  while ($("particles").children.length > groups.length) $("particles").lastChild.remove();
  groups.forEach((group, i) => fill(figureOf(i), group, i, side, range));
}

function figureOf(i) {
  const there = $("particles").children[i];
  if (there) return there;
  const made = make("figure", {}, make("figcaption", {}), make("img", { width: 672, height: 96 }), svg("svg", { role: "img" }));
  $("particles").append(made);
  return made;
}

function fill(figure, { title, count, low, high, profile }, i, side, range) {
  const [caption, picture, chart] = figure.children;
  say(caption, `${title}: score ${fixed(low, 2)} to ${fixed(high, 2)}, mean of ${integer(count)}`);
  picture.src = `/api/particles/${i}.jpg?${low}-${high}-${count}`;
  picture.alt = caption.textContent;
  const reach = side / 2;
  chart.setAttribute("aria-label", `Radial profile of the mean, ${title.toLowerCase()}`);
  keepDrawn(chart, (width, height) => {
    const plot = field(width, height, { x: [0, reach], y: range, xTicks: [0, reach / 2, reach], yTicks: [0], margin: { left: 18 } });
    const points = profile.map((value, n) => [plot.x((n * reach) / (profile.length - 1)), plot.y(value)]);
    chart.replaceChildren(...plot.axes, svg("path", { class: "curve", d: path(points) }));
  });
}
