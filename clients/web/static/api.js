// Requests to the gateway, their latency, and the same request as curl.

const API = "api/v1/models";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  const started = performance.now();
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The gateway does not answer. Start it with `ladle gateway`.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Problem(response.status, problem.detail || `The gateway answered ${response.status}.`);
  }
  return { response, started };
}

/** {ready, models}: whether the model server answers, and every model. */
export async function listing() {
  return (await ask(API)).response.json();
}

export async function model(name) {
  return (await ask(`${API}/${encodeURIComponent(name)}`)).response.json();
}

export async function samples(name) {
  return (await (await ask(`${API}/${encodeURIComponent(name)}/samples`)).response.json()).samples;
}

export const sampleUrl = (name, file) => `${API}/${encodeURIComponent(name)}/samples/${encodeURIComponent(file)}`;

/** Post to a verb: a Blob as raw bytes, anything else as JSON. Resolves to {answer, roundTrip}. */
export async function post(name, verb, body, signal) {
  const blob = body instanceof Blob;
  const { response, started } = await ask(`${API}/${encodeURIComponent(name)}:${verb}`, {
    method: "POST",
    headers: { "Content-Type": blob ? body.type || "application/octet-stream" : "application/json",
      Accept: "application/json" },
    body: blob ? body : JSON.stringify(body),
    signal,
  });
  const answer = await response.json();
  return { answer, roundTrip: performance.now() - started };
}

/** Post JSON to a verb and get its picture. */
export async function picture(name, verb, body) {
  const { response } = await ask(`${API}/${encodeURIComponent(name)}:${verb}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "image/png" },
    body: JSON.stringify(body),
  });
  return response.blob();
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const url = (path) => quoted(new URL(path, document.baseURI).href);

/** The same request for a terminal. `source` is a sample's URL, or the name of a file of the user. */
export function curlImage(name, verb, source) {
  const target = url(`${API}/${encodeURIComponent(name)}:${verb}`);
  if (source.sample) return `curl -s ${url(source.sample)} |\n  curl -s ${target} -F image=@-`;
  return `curl -s ${target} \\\n  -F ${quoted(`image=@${source.file}`)}`;
}

export function curlJson(name, verb, body, output) {
  const target = url(`${API}/${encodeURIComponent(name)}:${verb}`);
  const accept = output ? ` \\\n  -H 'Accept: image/png' -o ${output}` : "";
  return `curl -s ${target} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}${accept}`;
}

export const dataUrl = (png) => `data:image/png;base64,${png}`;
