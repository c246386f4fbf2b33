// A panel's request as curl, Python over gRPC, REST, Node and JavaScript. Each runs as it stands.

import { choice, el, icon } from "./dom.js";
import { key, verbUrl } from "./api.js";

const LANGUAGES = [["curl", "curl"], ["python", "Python, gRPC"], ["rest", "REST"], ["node", "Node"], ["script", "JavaScript"]];
const ASKS = {
  curl: "Asks this gateway.",
  python: "Asks the model server over gRPC.",
  rest: "Asks the model server with TensorFlow Serving's REST API.",
  node: "Asks this gateway from Node 18 or newer, as an .mjs file.",
  script: "Asks this gateway from a web page; other origins than its own need --origin.",
};
const MOVED = "ladle-servers"; // an event of the document: the addresses have changed
let chosen = "curl"; // the same language in every panel
let servers = null; // until they are known there is no code: it would name other servers

/** The model server's addresses, as the gateway knows them: `{grpc: "host:port", rest: url}`, null if unknown. */
export function setServers({ grpc, rest } = {}) {
  servers = { grpc: grpc ?? servers?.grpc ?? "localhost:8500", rest: rest ?? servers?.rest ?? null };
  document.dispatchEvent(new Event(MOVED));
}

/** The block: `{node, show(make), hide()}`. `make()` returns the text of each language, as far as the request has one. */
export function snippets() {
  const code = el("code");
  const note = el("p.hint");
  const ways = el("div.ways");
  let [make, offered] = [null, ""];
  const draw = () => {
    node.hidden = !make || !servers;
    if (node.hidden) return;
    const texts = make();
    const languages = LANGUAGES.filter(([language]) => texts[language]);
    const shown = texts[chosen] ? chosen : languages[0][0];
    code.textContent = texts[shown];
    note.textContent = ASKS[shown];
    const now = languages.map(([language]) => language).join();
    if (now === offered) return;
    offered = now;
    ways.replaceChildren(choice("Language", languages, shown, (language) => { chosen = language; draw(); }));
  };
  const again = () => {
    if (!node.isConnected) document.removeEventListener(MOVED, again);
    else draw();
  };
  document.addEventListener(MOVED, again);
  const words = el("span", {}, "Copy");
  const copy = el("button.quiet", { type: "button", onclick: async () => {
    await copied(code);
    words.textContent = "Copied";
    setTimeout(() => { words.textContent = "Copy"; }, 1500);
  } }, icon("copy"), words);
  const node = el("section.card.code", { "aria-label": "The same request as code", hidden: true },
    el("div.row.wrap", {}, el("h3", {}, "The same request"),
      ways, copy),
    el("pre", { tabIndex: 0, role: "region", "aria-label": "Code" }, code), note);
  const show = (given) => { make = given; draw(); };
  const hide = () => show(null);
  return { node, show, hide };
}

/** Browsers have `navigator.clipboard` only over https and on localhost; elsewhere a selection is copied. */
async function copied(node) {
  if (navigator.clipboard) return navigator.clipboard.writeText(node.textContent);
  getSelection().selectAllChildren(node);
  return document.execCommand("copy");
}

// --- the texts ---------------------------------------------------------------------------------

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`; // for a POSIX shell
export const literal = (value) => JSON.stringify(value); // Python's too: it writes strings and numbers as JSON does
const absolute = (path) => new URL(path, document.baseURI).href;
const shellUrl = (path) => quoted(absolute(path));
const send = (value) => `\\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(value))}`;
const guarded = () => (key() ? `-H "Authorization: Bearer $LADLE_API_KEY" ` : "");
const ask = (path) => `curl -s ${guarded()}${shellUrl(path)}`;

function predict(name) {
  const server = servers.rest ?? `http://${servers.grpc.replace(/:\d+$/, "")}:8501`;
  return `curl -s ${quoted(`${server}/v1/models/${encodeURIComponent(name)}:predict`)}`;
}

function python(lines, before = []) {
  const body = lines.map((line) => `    ${line}`).join("\n");
  const head = before.filter((line) => line.startsWith("import "));
  const rest = before.filter((line) => !line.startsWith("import "));
  return [...head, "from ladle import Client", "", ...rest, `with Client(${literal(`grpc://${servers.grpc}`)}) as client:`, body].join("\n");
}

// --- JavaScript --------------------------------------------------------------------------------

const secret = (where) => (where === "node" ? "process.env.LADLE_API_KEY" : '"KEY"');
const headersOf = (type, where) => `{ ${[...(type ? [`"Content-Type": ${literal(type)}`] : []), ...(key() ? [`Authorization: \`Bearer \${${secret(where)}}\``] : [])].join(", ")} }`;
const READ = 'import { readFile } from "node:fs/promises";\n\n';

/** A request whose body is the expression `body`, after the lines `before`. */
function script(target, type, body, where, before = []) {
  return [...before, `const response = await fetch(${literal(absolute(target))}, {`, "  method: \"POST\",", `  headers: ${headersOf(type, where)},`, `  body: ${body},`, "});", "console.log(JSON.stringify(await response.json()));"].join("\n");
}

const scripts = (target, value) => Object.fromEntries(["node", "script"].map((where) => [where, script(target, "application/json", `JSON.stringify(${literal(value)})`, where)]));

function imageScripts(target, source) {
  const fetched = (where) => [`const sample = await fetch(${literal(absolute(source.sample))}${key() ? `, { headers: ${headersOf(null, where)} }` : ""});`];
  if (source.sample) return Object.fromEntries(["node", "script"].map((where) => [where, script(target, "image/png", "await sample.blob()", where, fetched(where))]));
  return {
    node: READ + script(target, source.type, `await readFile(${literal(source.file)})`, "node"),
    script: script(target, source.type, "file", "script", ['const [file] = document.querySelector("input[type=file]").files;']),
  };
}

// --- the other languages -----------------------------------------------------------------------

const opened = (path) => (key() ? `urllib.request.urlopen(urllib.request.Request(${literal(absolute(path))}, headers={"Authorization": "Bearer KEY"}))`
  : `urllib.request.urlopen(${literal(absolute(path))})`);

/**
 * A request about one image, sent as bytes. `lines(argument)`: the Python lines; `signature`: the one that takes bytes, if
 * the model has one: without it only the gateway makes pixels of a file.
 */
export function image(name, verb, source, signature, lines) {
  const body = `{"signature_name": "${signature}", "instances": [{"image_bytes": {"b64": "&"}}]}`;
  const bytes = source.sample ? ask(source.sample) : `cat ${quoted(source.file)}`;
  const curl = source.sample ? `${bytes} |\n  ${ask(verbUrl(name, verb))} -F image=@-`
    : `${ask(verbUrl(name, verb))} \\\n  -H 'Content-Type: ${source.type}' \\\n  --data-binary ${quoted(`@${source.file}`)}`;
  const gateway = { curl, ...imageScripts(verbUrl(name, verb), source) };
  if (!signature) return gateway;
  return {
    ...gateway,
    python: source.sample ? python(lines("image"), ["import urllib.request", `image = ${opened(source.sample)}.read()`]) : python(lines(literal(source.file))),
    rest: `${bytes} | base64 | tr -d '\\n' |\n  sed ${quoted(`s|.*|${body}|`)} |\n  ${predict(name)} -d @-`,
  };
}

/** A request in JSON: `body` for the gateway, `rest` for the model server, Python `lines`, `output` the file of a PNG, `before` what Python imports. */
export function json(name, verb, body, rest, lines, output, before) {
  const accept = output ? ` \\\n  -H 'Accept: image/png' -o ${quoted(output)}` : "";
  return { curl: `${ask(verbUrl(name, verb))} ${send(body)}${accept}`, python: python(lines, before), rest: `${predict(name)} ${send(rest)}`, ...scripts(verbUrl(name, verb), body) };
}

/** Interpolation: the gateway computes the codes, the model server draws them. `files` names images on disk. */
export function path(name, body, files, { key: signature, input, output }) {
  const target = verbUrl(name, "interpolate");
  const marks = ["from", "to"].map((side) => (body[side].image ? { image: `@${side}@` } : body[side]));
  const question = { ...body, from: marks[0], to: marks[1] };
  const filled = (text, fill) => ["from", "to"].reduce((all, side, i) => all.replace(`"@${side}@"`, () => fill(files[i])), text);
  const shell = (value) => filled(quoted(JSON.stringify(value)), (file) => `"'"$(base64 < ${quoted(file)} | tr -d '\\n')"'"`);
  const posted = (value) => `printf '%s' ${shell(value)} |\n  ${ask(target)} -H 'Content-Type: application/json' -d @-`;
  const codes = { ...question, with_codes: true };
  const coded = filled(JSON.stringify(codes).replace(/true}$/, "True}"), (file) => `base64.b64encode(open(${literal(file)}, "rb").read()).decode()`);
  const headers = `{"Content-Type": "application/json"${key() ? ', "Authorization": "Bearer KEY"' : ""}}`;
  const inNode = filled(JSON.stringify(question), (file) => `(await readFile(${literal(file)})).toString("base64")`);
  const turn = `import json, sys; print(json.dumps({"signature_name": ${literal(signature)}, "inputs": {${literal(input)}: json.load(sys.stdin)["codes"]}}))`;
  return {
    curl: posted(question),
    python: python([`images = client.predict(${literal(name)}, {${literal(input)}: codes}, signature=${literal(signature)})[${literal(output)}]`, "print(images.shape, images.mean())"],
      ["import base64", "import json", "import urllib.request", `question = ${coded}`,
        `request = urllib.request.Request(${literal(absolute(target))}, json.dumps(question).encode(), ${headers})`,
        `codes = json.load(urllib.request.urlopen(request))["codes"]`]),
    node: (files.some(Boolean) && inNode.includes("readFile") ? READ : "") + script(target, "application/json", `JSON.stringify(${inNode})`, "node"),
    script: inNode.includes("readFile") ? null : script(target, "application/json", `JSON.stringify(${inNode})`, "script"),
    rest: `${posted(codes)} |\n  python3 -c ${quoted(turn)} |\n  ${predict(name)} -d @-`,
  };
}
