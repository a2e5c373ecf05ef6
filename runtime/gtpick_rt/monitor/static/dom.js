/* Elements, numbers and times. Text goes in as text: nothing that comes from the server is read as HTML. */

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set text only when it differs, so that a screen reader is not told again and a selection stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Let arrows, Home and End move the focus among `items()`, of which one is in the tab order. */
export function roving(container, items) {
  container.addEventListener("keydown", (event) => {
    const all = items();
    const here = all.indexOf(document.activeElement);
    const steps = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 };
    const next = all[Math.max(0, Math.min(all.length - 1, steps[event.key] ?? NaN))];
    if (here < 0 || !next) return;
    event.preventDefault();
    next.focus();
    next.dispatchEvent(new CustomEvent("roved", { bubbles: true }));
  });
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const missing = "–";
const known = (value, format) => (value === null || value === undefined ? missing : format(value));

export const integer = (value) => known(value, (v) => whole.format(v));
export const compact = (value) => known(value, (v) => (v < 10000 ? whole : short).format(v));
/** So many per hour, with three figures that count, as in the report. */
export const rate = (value) => known(value, (v) => compact(Number(v.toPrecision(3))));
/** A mean or median of counts: "35", and below 10 with a digit, "3.4". */
export const averaged = (value) => known(value, (v) => (v < 10 ? tenths : whole).format(v));
/** "1 micrograph", "2,000 micrographs". */
export const counted = (number, noun) => `${integer(number)} ${noun}${number === 1 ? "" : "s"}`;
export const fixed = (value, digits) => known(value, (v) => v.toFixed(digits));

/** Seconds in words: "0.8 s" with a digit, "12 s", "3 min", "2 h 05". */
export function seconds(value, digits = 1) {
  return known(value, (s) => {
    if (s < 9.95) return `${s.toFixed(digits)} s`;
    if (s < 99.5) return `${Math.round(s)} s`;
    if (s < 5970) return `${Math.round(s / 60)} min`;
    const minutes = Math.round(s / 60);
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
  });
}

/** The time of day of a moment, with the date when it was not today. `time`: seconds since 1970. */
export function clock(time) {
  const moment = new Date(1000 * time);
  const of = moment.toLocaleTimeString("en-GB");
  const today = moment.toDateString() === new Date().toDateString();
  return today ? of : `${moment.toLocaleDateString("en-CA")} ${of}`;
}

/** The last part of a path, for where there is little room. */
export const basename = (name) => name.slice(name.lastIndexOf("/") + 1);

export const FLAGS = ["empty", "crowded", "carbon edge", "ice", "low contrast"];

/** A chip for a quality flag; its colour repeats what its text says. */
export const flag = (name) =>
  make("li", { className: "flag", dataset: { flag: name.replaceAll(" ", "-") } }, name);
