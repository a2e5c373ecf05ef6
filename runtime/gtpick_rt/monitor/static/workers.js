/* The processes that pick, where there are several. */

import { $, clock, integer, make, rate, say } from "./dom.js";

/** Show the workers of a status; without any the panel is hidden. */
export function showWorkers(workers) {
  $("workers-panel").hidden = workers.length === 0;
  const together = workers.reduce((sum, each) => sum + (each.per_hour ?? 0), 0);
  say($("workers-note"), `${integer(workers.length)}, together ${rate(together)} / h`);
  $("workers").replaceChildren(...workers.map(rowOf));
}

function rowOf({ name, backend, micrographs, per_hour, heard }) {
  const cell = (text) => make("td", { className: "num" }, text);
  return make(
    "tr",
    {},
    make("th", { scope: "row", title: backend ? `${name}, ${backend}` : name }, name),
    cell(integer(micrographs)),
    cell(rate(per_hour)),
    cell(clock(heard)),
  );
}
