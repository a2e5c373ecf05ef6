/* All micrographs by pages, and those that failed. */

import * as api from "./api.js";
import { $, FLAGS, basename, clock, fixed, flag, integer, make, say, seconds } from "./dom.js";

const PAGE = 24;

/** A table of micrographs, newest first, that may be narrowed to those with a flag or that stand out. */
export class Browser {
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.cursors = [null];
    $("filter").append(new Option("all", ""), new Option("those that stand out", "outliers"), ...FLAGS.map((name) => new Option(name, name)));
    $("filter").addEventListener("change", () => this.#turn([null]));
    $("page-older").addEventListener("click", () => this.#turn([...this.cursors, this.last]));
    $("page-newer").addEventListener("click", () => this.#turn(this.cursors.slice(0, -1)));
    $("browse").addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row) this.onSelect(Number(row.dataset.id));
    });
  }

  #turn(cursors) {
    this.cursors = cursors;
    return this.load();
  }

  /** Ask for the page again; the newest page changes as the run goes on. */
  async load() {
    const { value } = $("filter");
    const [flagged, outliers] = [FLAGS.includes(value) ? value : null, value === "outliers" ? 1 : null];
    const asked = this.cursors;
    const { micrographs, total } = await api.micrographs({ before: asked.at(-1), limit: PAGE, flag: flagged, outliers });
    if (asked !== this.cursors || value !== $("filter").value) return; /* another page was asked for meanwhile */
    this.last = micrographs.at(-1)?.id ?? null;
    const first = (asked.length - 1) * PAGE;
    const focused = document.activeElement?.closest?.("#browse tr")?.dataset.id;
    $("browse").replaceChildren(...micrographs.map(rowOf));
    $("browse").querySelector(`tr[data-id="${focused}"] button`)?.focus();
    say($("browse-note"), total ? `${integer(first + 1)} to ${integer(first + micrographs.length)} of ${integer(total)}` : "none");
    $("page-newer").disabled = asked.length === 1;
    $("page-older").disabled = first + micrographs.length >= total;
    this.select(this.selected);
  }

  select(id) {
    this.selected = id;
    for (const row of $("browse").children) row.classList.toggle("selected", row.dataset.id === String(id));
  }
}

function rowOf(row) {
  const cell = (text, className = "num") => make("td", { className }, text);
  return make(
    "tr",
    { dataset: { id: row.id } },
    make("th", { scope: "row" }, make("button", { type: "button", className: "linklike", title: row.name }, basename(row.name))),
    cell(integer(row.picks)),
    cell(integer(row.detections), "num wide"),
    cell(fixed(row.median_score, 2), "num wide"),
    make("td", {}, make("ul", { className: "flags" }, ...row.flags.map(flag))),
    cell(seconds(row.lag_s), "num wide"),
    cell(clock(row.time)),
  );
}

/** Show what failed, each with its reason and a button that asks for another try. */
export async function loadFailures() {
  const { failures, total } = await api.failures();
  $("failures-note").hidden = total > 0 && failures.length === total;
  say($("failures-note"), total ? `The last ${integer(failures.length)} of ${integer(total)}; summary.json names all.` : "None.");
  const focused = document.activeElement?.dataset?.retry;
  $("failures").replaceChildren(...failures.map(failureOf));
  if (focused) $("failures").querySelector(`[data-retry="${CSS.escape(focused)}"]`)?.focus();
}

function failureOf({ id, name, message, time, retry_asked }) {
  const words = retry_asked ? "Asked for" : "Retry";
  const button = make("button", { type: "button", className: "small", dataset: { retry: id } }, words);
  button.setAttribute("aria-disabled", String(retry_asked));
  button.setAttribute("aria-label", `${words}: ${basename(name)}`);
  button.addEventListener("click", () => ask(id, button));
  const reason = message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
  return make(
    "li",
    {},
    make("p", { className: "row" }, make("strong", { title: name }, basename(name)), make("span", { className: "grow" }), button),
    make("p", { className: "reason" }, reason),
    make("p", { className: "note" }, clock(time)),
  );
}

async function ask(id, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await api.retry(id);
    say(button, "Asked for");
  } catch (error) {
    button.setAttribute("aria-disabled", "false");
    button.title = String(error.message);
    say(button, "Try again");
  }
}
