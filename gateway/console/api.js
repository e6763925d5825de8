// The node's API with the session's cookie; what changes something carries the session's token as well.

let token = "";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export class Away extends Error {}

async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-Hermes-CSRF"] = token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(10000) });
  } catch {
    throw new Away("The node does not answer.");
  }
  const raw = await answer.text();
  let document = null;
  try { document = raw ? JSON.parse(raw) : null; } catch { /* not JSON: told by its status */ }
  if (answer.ok) return document;
  throw new Refused(answer.status, document ?? {});
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return ask("GET", given.length ? `${path}?${new URLSearchParams(given)}` : path);
};
export const post = (path, body) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);

export const name = (text) => encodeURIComponent(text);
// Names of actors keep their slashes.
export const actorPath = (text) => text.split("/").map(encodeURIComponent).join("/");

export async function session() {
  token = (await ask("GET", "/console/session")).csrf;
}

export async function login(key) {
  token = (await ask("POST", "/console/login", { key })).csrf;
}

export async function logout() {
  await ask("POST", "/console/logout");
  token = "";
}
