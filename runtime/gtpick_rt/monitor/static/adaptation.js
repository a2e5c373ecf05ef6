/* What an adaptation of the network to the specimen has come to: a line, and what changed on each micrograph. */

import { field, keepDrawn } from "./charts.js";
import { $, fixed, integer, say, svg } from "./dom.js";

/** Show the adaptation of a status; without one the panel is hidden. */
export function showAdaptation(adaptation) {
  $("adaptation").hidden = adaptation === null;
  if (adaptation === null) return;
  const { told, changes } = adaptation;
  say($("adaptation-told"), told);
  $("changes").hidden = changes.length === 0;
  if (!changes.length) return;
  const most = Math.max(1, ...changes.flatMap(({ picks }) => picks));
  draw("changes-picks", changes.map(({ name, picks }) => [name, picks]), most * 1.08, integer);
  draw("changes-score", changes.map(({ name, median_score }) => [name, median_score]), 1, (value) => fixed(value, 2));
}

/** A ring before and a dot now for each micrograph, joined. */
function draw(id, rows, top, format) {
  const words = ([name, [before, now]]) => `${name}: ${format(before)} before, ${format(now)} now`;
  $(id).setAttribute("aria-label", rows.map(words).join("; "));
  keepDrawn($(id), (width, height) => {
    const plot = field(width, height, { x: [-0.5, rows.length - 0.5], y: [0, top], xTicks: [], margin: { bottom: 8 } });
    const known = (value) => value !== null;
    const dots = (kind, which) =>
      rows.flatMap(([, pair], at) =>
        known(pair[which]) ? [svg("circle", { class: `change ${kind}`, cx: plot.x(at), cy: plot.y(pair[which]), r: 4 })] : [],
      );
    const lines = rows.flatMap((row, at) => {
      if (!row[1].every(known)) return [];
      const [y1, y2] = row[1].map(plot.y);
      return [svg("line", { class: "change", x1: plot.x(at), x2: plot.x(at), y1, y2 }, svg("title", {}, words(row)))];
    });
    $(id).replaceChildren(...plot.axes, ...lines, ...dots("before", 0), ...dots("now", 1));
  });
}
