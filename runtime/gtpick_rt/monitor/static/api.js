/* The server's answers. Every address holds ids only, never a file's name. */

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

export const status = () => get("/api/status");
export const micrograph = (id) => get(`/api/micrographs/${id}`);
export const trends = () => get("/api/trends");
export const histograms = () => get("/api/histograms");
export const particles = () => get("/api/particles");
export const failures = () => get("/api/failures");
export const preview = (id) => `/api/micrographs/${id}/preview.jpg`;

/** One page, newest first. `query`: before, limit, flag, outliers; those that are null are left out. */
export function micrographs(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return get(`/api/micrographs?${new URLSearchParams(given)}`);
}

/** Ask for a failed micrograph to be tried again. The header shows that no other site sends this. */
export async function retry(id) {
  const answer = await fetch(`/api/failures/${id}/retry`, { method: "POST", headers: { "X-Gtpick": "1" } });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
}

/** Listen to the server for as long as the page lives; the browser connects again by itself. */
export function listen({ onStatus, onPicked, onLink }) {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => onLink(true));
  source.addEventListener("error", () => onLink(false));
  source.addEventListener("status", (event) => onStatus(JSON.parse(event.data)));
  source.addEventListener("picked", (event) => onPicked(JSON.parse(event.data)));
}
