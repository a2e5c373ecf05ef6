/* The run at a glance: its state, its figures, where its time goes. */

import { $, averaged, compact, counted, fixed, integer, make, missing, rate, say, seconds } from "./dom.js";

const STATES = {
  running: ["Running", "●"],
  idle: ["Idle", "○"],
  stalled: ["Stalled", "▲"],
  finished: ["Finished", "✓"],
  "no process": ["Not running", "■"],
  waiting: ["Waiting for a run", "○"],
};
const AVERAGE = "Average / h";

/** Shows a Status, and counts the seconds since its last event. */
export class Overview {
  constructor() {
    setInterval(() => this.#age(), 1000);
  }

  fill(status) {
    this.status = status;
    this.since = performance.now();
    const [name, sign] = STATES[status.state] ?? [status.state, "○"];
    $("state").dataset.state = status.state.replace(" ", "-");
    say($("state-name"), name);
    say($("state").querySelector(".mark"), sign);
    document.title = `${status.state === "stalled" ? "▲ " : ""}${name}, ${integer(status.done)} done: gtpick-rt`;
    this.#tiles(status);
    this.#stages(status.stage_seconds ?? {});
    const { length } = status.workers;
    const by = length ? `${status.backend ?? ""} × ${length}` : status.backend;
    const parts = [status.model, by, status.diameter_A && `${compact(status.diameter_A)} Å`, status.threshold && `threshold ${fixed(status.threshold, 2)}`];
    say($("setup"), parts.filter(Boolean).join("  ·  "));
    this.#age();
  }

  #tiles(status) {
    const now = rate(status.files_per_hour);
    const tiles = [
      ["Done", integer(status.done), ""], ["Waiting", integer(status.backlog), status.state === "stalled" ? "bad" : ""],
      ["Failed", integer(status.failed), status.failed ? "warn" : "", "#h-failures"], ["Micrographs / h", now, ""], [AVERAGE, rate(status.average?.files_per_hour), ""],
      ["Picks", compact(status.picks), ""], ["Picks / h", rate(status.picks_per_hour), ""], ["Lag, median", seconds(status.lag_p50_s), ""], ["Lag, 95 %", seconds(status.lag_p95_s), ""],
      ["Picks, median", averaged(status.picks_per_micrograph), ""],
    ];
    if (!this.tiles) {
      this.tiles = tiles.map(tile);
      $("tiles").replaceChildren(...this.tiles);
    }
    for (const [i, [label, value, kind]] of tiles.entries()) {
      say(this.tiles[i].querySelector(".value > *"), value);
      this.tiles[i].dataset.kind = kind;
      const without = label === AVERAGE ? now : missing; /* a batch has no lag, and what has ended one rate */
      this.tiles[i].hidden = (label === AVERAGE || label.startsWith("Lag")) && value === without;
    }
  }

  #stages(stages) {
    const longest = Math.max(1e-9, ...Object.values(stages));
    const slowest = Object.keys(stages).find((name) => stages[name] === longest);
    say($("backend"), slowest ? `${slowest}, the slowest, allows ${rate(3600 / longest)} / h` : "");
    $("stages").replaceChildren(
      ...Object.entries(stages).flatMap(([name, spent]) => {
        const bar = make("meter", { min: 0, max: longest, value: spent });
        bar.setAttribute("aria-hidden", "true");
        return [make("dt", {}, name), make("dd", {}, bar, make("span", {}, spent < 1 ? `${Math.round(spent * 1000)} ms` : seconds(spent)))];
      }),
    );
  }

  #age() {
    if (!this.status) return;
    const { state, backlog, last_event_age_s: age, learning_from: learning } = this.status;
    const ago = age === null ? missing : seconds(Math.floor(age + (performance.now() - this.since) / 1000), 0);
    const none = state === "waiting" ? "the folder is shown as soon as pick writes to it" : "no micrograph is done yet";
    const learns = learning === null ? "" : `the network adapts itself to ${counted(learning, "micrograph")}; `;
    say($("state-age"), learns + (age === null ? none : `last one ${ago} ago`));
    const alarm = $("alarm");
    alarm.hidden = state !== "stalled";
    if (state !== "stalled") return;
    const idle = age === null ? "Nothing has been picked yet" : `Nothing was picked for ${ago}`;
    const waiting = backlog ? `though ${integer(backlog)} wait` : "and the run shows no sign of life";
    say(alarm, `${idle} ${waiting}. Look at the terminal of gtpick-rt pick: a disk or a device may not answer.`);
  }
}

/** A figure with its name; `href` leads to what it counts. */
function tile([label, , , href]) {
  const value = href ? make("a", { href }) : make("span");
  return make("div", { className: "figure" }, make("dt", { className: "label" }, label), make("dd", { className: "value" }, value));
}
