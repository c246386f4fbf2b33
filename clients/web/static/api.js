// Requests to the gateway, and how long they took.

import { storage } from "./storage.js";

const API = "api/v1";
const KEY = "ladle-key"; // the API key is kept under this name, for this tab
export const NO_KEY = "ladle-no-key"; // an event of the document: the gateway requires a key

/** A request that failed: the HTTP status (0: no answer) and a sentence. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get mayPass() {
    return [0, 401, 404, 429, 502, 503, 504].includes(this.status);
  }
}

const kept = storage("sessionStorage");
export const key = () => kept.getItem(KEY);
export const useKey = (text) => kept.setItem(KEY, text);

async function ask(path, options = {}) {
  let response;
  const headers = key() ? { ...options.headers, Authorization: `Bearer ${key()}` } : options.headers;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The gateway does not answer. Start it with “ladle gateway”.");
  }
  if (response.ok) return response;
  if (response.status === 401) document.dispatchEvent(new Event(NO_KEY));
  const problem = await response.json().catch(() => ({}));
  throw new Problem(response.status, problem.detail || `The gateway answered ${response.status}.`);
}

const get = async (path) => (await ask(`${API}/${path}`)).json();
const named = (name) => `models/${encodeURIComponent(name)}`;

/** {ready, models}: whether the model server answers, and all models. */
export const listing = () => get("models");
export const model = (name) => get(named(name));
export const samples = async (name) => (await get(`${named(name)}/samples`)).samples;
export const reports = async (name) => (await get(`${named(name)}/reports`)).reports;
export const service = () => get("service");

export const sampleUrl = (name, file) => `${API}/${named(name)}/samples/${encodeURIComponent(file)}`;
export const reportUrl = (name, file) => `${API}/${named(name)}/reports/${encodeURIComponent(file)}`;
export const verbUrl = (name, verb, query = "") => `${API}/${named(name)}:${verb}${query && `?${query}`}`;

function packed(body, accept) {
  if (body instanceof Blob) return { headers: { Accept: accept, "Content-Type": body.type || "application/octet-stream" }, body };
  return { headers: { Accept: accept, "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** Post to a verb: a Blob as raw bytes, anything else as JSON. Resolves to {answer, roundTrip} (milliseconds). */
export async function post(name, verb, body, { query, signal } = {}) {
  const started = performance.now();
  const response = await ask(verbUrl(name, verb, query), { method: "POST", ...packed(body, "application/json"), signal });
  const text = await response.text().catch((error) => {
    throw error.name === "AbortError" ? error : new Problem(0, "The connection to the gateway broke during the answer.");
  });
  return { answer: JSON.parse(text), roundTrip: performance.now() - started };
}

/** Post to a verb and get its picture. */
export async function picture(name, verb, body) {
  return (await ask(verbUrl(name, verb), { method: "POST", ...packed(body, "image/png") })).blob();
}

/** A file from the gateway, as a Blob. */
export async function file(path) {
  return (await ask(path)).blob();
}

/** Shows a file from the gateway in an <img>: by its address, or by its bytes if a key is needed, since an <img> sends none. */
export function load(image, path) {
  if (!key()) image.src = path;
  else file(path).then((blob) => { image.src = URL.createObjectURL(blob); }).catch(() => { image.alt ||= "cannot be loaded"; });
  return image;
}

export const dataUrl = (png) => `data:image/png;base64,${png}`;

/** The bytes of a Blob in base64. */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(new Problem(400, "This file cannot be read."));
    reader.readAsDataURL(blob);
  });
}
