/* Joins the parts of the page: what the server tells goes in, what the user chooses goes round. */

import * as api from "./api.js";
import { showAdaptation } from "./adaptation.js";
import { Distributions } from "./distributions.js";
import { $, basename, flag, say } from "./dom.js";
import { Overview } from "./overview.js";
import { Inspector } from "./inspector.js";
import { Browser, loadFailures } from "./lists.js";
import { showParticles } from "./particles.js";
import { LENGTH, Strip } from "./strip.js";
import { Trends } from "./trends.js";
import { Viewer } from "./viewer.js";
import { showWorkers } from "./workers.js";

const REFRESH_MS = 4000;

const overview = new Overview();
const distributions = new Distributions();
const viewer = new Viewer($("viewer"), { onStep: (step) => look(step).catch(report) });
const inspector = new Inspector(viewer, $("folder").textContent, () => distributions.setThreshold(inspector.chosen));
const strip = new Strip($("strip"), (id) => choose(id));
const trends = new Trends((id) => choose(id, true));
const browser = new Browser((id) => choose(id, true));

let following = true;
let shown = null; /* id of the micrograph on the stage, or on its way there */
let stale = true; /* whether figures have changed since they were asked for */
let failed = null;

function report(error) {
  console.warn(error.message);
}

/** Put a micrograph on the stage; the last one asked for wins. */
async function show(id) {
  shown = id;
  strip.select(id);
  browser.select(id);
  const micrograph = await api.micrograph(id).catch(() => null);
  if (shown !== id) return;
  $("empty").hidden = micrograph !== null;
  if (micrograph === null) {
    say($("empty"), "What was found on this micrograph cannot be read");
    viewer.clear();
    return;
  }
  say($("name"), basename(micrograph.name));
  $("name").title = micrograph.name;
  $("flags").replaceChildren(...micrograph.flags.map(flag));
  viewer.show(micrograph);
  inspector.show(micrograph);
}

function follow(on) {
  following = on;
  $("follow").setAttribute("aria-pressed", String(on));
  if (on && strip.rows.length && strip.rows[0].id !== shown) show(strip.rows[0].id).catch(report);
}

/** Look at one that was chosen, which ends following; `far` when it was chosen from further down the page. */
function choose(id, far = false) {
  follow(false);
  show(id).catch(report);
  if (far) $("viewer").scrollIntoView({ block: "nearest" });
}

/** Go to the one after (+1) or before (-1) that is shown, also beyond the strip. */
async function look(step) {
  const here = strip.rows.findIndex((row) => row.id === shown);
  const next = strip.rows[here - step];
  if (here >= 0 && next) return choose(next.id);
  if (step > 0 && here < 0) return choose(await after(shown));
  const { micrographs } = step < 0 ? await api.micrographs({ before: shown, limit: 1 }) : { micrographs: [] };
  return micrographs.length ? choose(micrographs[0].id) : undefined;
}

/** The id that follows one that the strip no longer has. Ids of failed micrographs are missing between them. */
async function after(id) {
  const limit = LENGTH;
  const { micrographs } = await api.micrographs({ before: id + limit, limit });
  return micrographs.filter((row) => row.id > id).at(-1)?.id ?? strip.rows.at(-1).id;
}

function onPicked(row) {
  stale = true;
  strip.add(row);
  if (following || row.id === shown) show(row.id).catch(report);
}

function onStatus(status) {
  if (!status.state) return; /* the server has not read the folder yet */
  overview.fill(status);
  showWorkers(status.workers);
  showAdaptation(status.adaptation);
  if (status.failed !== failed) {
    failed = status.failed;
    loadFailures().catch(report);
  }
}

function onLink(up) {
  $("link").dataset.link = up ? "up" : "down";
  say($("link"), up ? "live" : "connection lost, trying again");
  if (up) reload().catch(report);
}

/** What may have changed while the page was not listening. */
async function reload() {
  onStatus(await api.status());
  const { micrographs } = await api.micrographs({ limit: LENGTH });
  strip.fill(micrographs);
  if (!micrographs.length && shown === null) {
    say($("name"), "No micrograph yet");
    say($("empty"), "Waiting for the first micrograph");
  }
  if (micrographs.length && (following || shown === null)) await show(micrographs[0].id);
  stale = true;
  await refresh();
}

/** Bring the figures up to date, if anything has changed and anybody is looking. */
async function refresh() {
  if (!stale || document.hidden) return;
  stale = false;
  const asked = [api.trends(), api.histograms(), api.particles(), browser.load(), loadFailures()];
  const [bins, spread, particles] = await Promise.all(asked);
  trends.fill(bins);
  distributions.fill(spread);
  showParticles(particles);
}

$("follow").addEventListener("click", () => follow(!following));
$("older").addEventListener("click", () => look(-1).catch(report));
$("newer").addEventListener("click", () => look(1).catch(report));
document.addEventListener("visibilitychange", () => refresh().catch(report));
setInterval(() => refresh().catch(report), REFRESH_MS);
api.listen({ onStatus, onPicked, onLink });
