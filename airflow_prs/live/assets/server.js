/** Requests to the plugin and to Airflow's API. All addresses are relative to this module, so any base_url works. */

export const PLUGIN = new URL("../", import.meta.url);
export const AIRFLOW = new URL("../", PLUGIN);

const known = new Map();
const KEPT = 30;

/** An answer that is not what was asked for. Status 0: no answer. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function runPath(dagId, runId) {
  return `api/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}/steps`;
}

export function stepPath({ dagId, runId, step }) {
  return `${runPath(dagId, runId)}/${encodeURIComponent(step)}`;
}

/** The address of a link that the server sent; null if a browser would run it as a script or it leads elsewhere. */
export function addressOf(link) {
  if (typeof link !== "string" || !URL.canParse(link, AIRFLOW)) return null;
  const url = new URL(link, AIRFLOW);
  return url.origin === AIRFLOW.origin ? url.href : null;
}

/** Read JSON. What has not changed since the last answer is not sent again. */
export async function read(path, signal, base = PLUGIN) {
  const url = new URL(path, base).href;
  const before = known.get(url);
  const answer = await ask(url, { signal, headers: before ? { "If-None-Match": before.etag } : {} });
  if (answer.status === 304) return before.value;
  const value = await answer.json();
  const etag = answer.headers.get("ETag");
  known.delete(url);
  if (etag) known.set(url, { etag, value });
  if (known.size > KEPT) known.delete(known.keys().next().value);
  return value;
}

/** What the last answer said, for a page that opens again. */
export function remembered(path) {
  return known.get(new URL(path, PLUGIN).href)?.value;
}

export async function send(path, body, base = PLUGIN) {
  const headers = { "Content-Type": "application/json", "X-Parallel-Run": "1" };
  const answer = await ask(new URL(path, base).href, { method: "POST", headers, body: JSON.stringify(body) });
  return answer.json();
}

/** Clear task instances through Airflow's own API, with the rights of the user. */
export async function clear(calls) {
  for (const { path, body } of calls) {
    if (!path.startsWith("api/v2/dags/")) throw new ServerError(0, `${path} is not a path of Airflow's API`);
    await send(path, body, AIRFLOW);
  }
}

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer.");
  }
  if (answer.ok || answer.status === 304) return answer;
  throw new ServerError(answer.status, await detailOf(answer));
}

/** Airflow answers with a text, or with a list of what is wrong with a request. */
async function detailOf(answer) {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : JSON.stringify(detail ?? text);
  } catch {
    return `The server answers ${answer.status} ${answer.statusText}.`;
  }
}
