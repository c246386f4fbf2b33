// Panel: whether a text is positive or negative, while it is typed, and which words decided it.

import { post } from "./api.js";
import { Panel } from "./panel.js";
import { el, percent } from "./dom.js";
import { verdict } from "./parts.js";
import { json as jsonCode } from "./snippets.js";

const TYPING_MS = 250; // a text is sent after this pause
const LONGEST = 20000;
const LISTED = 4; // words in each direction
const CHIP = 140; // characters of a review on its button
const GAP = /^(?:<br \/>|[\s!"#$%&()*+,\-./:;<=>?@[\\\]^_`{|}~])+$/; // between words, as the gateway splits a text
const LEAST = 0.005; // a smaller influence is not coloured,
const WEAKEST = 0.12; // nor one below this share of the strongest
const RESTING_MS = 350; // the words are weighed after this longer pause: that request holds a text for each word

const plain = (text) => text.replaceAll("<br />", " ");
const signed = (share) => `${share < 0 ? "−" : "+"}${(100 * Math.abs(share)).toFixed(1)}`;

export function sentiment(model, samples) {
  const panel = new Panel(model);
  const text = el("textarea", { id: "text", rows: 8, maxLength: LONGEST, placeholder: "Write a review of a film.", oninput: () => later() });
  let chosen = null;
  let timer = 0;
  let weighing = new AbortController();
  const ask = () => {
    clearTimeout(timer);
    weighing.abort();
    const given = text.value;
    if (!given.trim()) return panel.clear("Write something. The answer follows as you type.");
    const truth = chosen?.text === given ? chosen.label : undefined;
    return panel.ask({
      verb: "sentiment", body: { text: given },
      draw: ({ results: [answer] }) => {
        const place = el("div.stack.words", {}, el("h3", {}, "Which words decided it"), el("p.hint", {}, "Asking again without each word."));
        timer = setTimeout(() => { weighing = new AbortController(); weigh(model, given, place, weighing.signal); }, RESTING_MS);
        return [...scale(answer, truth), place];
      },
      say: ({ results: [answer] }) => `${answer.label}, ${percent(answer.probability)} sure`,
      code: () => jsonCode(model.name, "sentiment", { text: given }, { signature_name: "text", instances: [given] }, [
        `answer = client.sentiment(${JSON.stringify(model.name)}, ${JSON.stringify(given)})`, "print(answer.label, answer.positive)"]),
    });
  };
  const later = () => { clearTimeout(timer); weighing.abort(); timer = setTimeout(ask, TYPING_MS); };
  const use = (sample) => {
    chosen = { ...sample, text: plain(sample.text) };
    text.value = chosen.text;
    ask();
  };
  const reviews = samples.filter((sample) => sample.text).sort((a, b) => a.text.length - b.text.length);
  const chips = reviews.map((sample) => el("button.quote", { type: "button", onclick: () => use(sample) },
    sample.label ? el("b", {}, sample.label) : "", el("span", {}, clipped(plain(sample.text)))));
  queueMicrotask(() => (reviews.length ? use(reviews[0]) : text.focus()));
  return panel.frame(el("label.title", { htmlFor: "text" }, "Text"), text,
    el("p.hint", {}, "The answer follows as you type.", reading(model)),
    chips.length ? el("div.stack", {}, el("h3", {}, "Reviews from the test set, not seen in training"), el("div.quotes", {}, ...chips)) : "");
}

const clipped = (text) => (text.length > CHIP ? `${text.slice(0, CHIP)}…` : text);

/** How many words of a text the network reads, its last ones; undefined if the card does not tell. */
const longest = (model) => model.card?.config?.max_length ?? undefined;

const reading = (model) => (longest(model) ? ` The network reads the last ${longest(model)} words.` : "");

function scale(answer, truth) {
  const marker = el("span.marker");
  marker.style.left = `${100 * answer.positive}%`;
  return [verdict(answer.label, answer.probability, truth), el("div.stack.tight", {},
    el("div.scale", { role: "img", "aria-label": `${percent(answer.positive)} positive` }, marker),
    el("div.row.ends", { "aria-hidden": "true" }, el("span", {}, "negative"), el("span", {}, "positive")))];
}

async function weigh(model, text, place, signal) {
  let shown;
  try {
    const { answer } = await post(model.name, "sentiment", { text, explain: true }, { signal });
    shown = words(answer.results[0], longest(model));
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = [el("p.hint", {}, error.message)];
  }
  place.replaceChildren(place.firstChild, ...shown);
}

/** The text with each word coloured by its influence, the legend, and the strongest words as a list. */
function words({ pieces, explained }, mostRead = Infinity) {
  const isWord = pieces.map(({ text }) => !GAP.test(text));
  let behind = isWord.filter(Boolean).length;
  const unread = pieces.map((_, i) => (isWord[i] ? behind-- : behind) > mostRead); // of a long text the last words are read
  const strength = pieces.map((piece) => Math.abs(piece.influence ?? 0));
  const most = Math.max(...strength, LEAST);
  const least = Math.max(LEAST, WEAKEST * most);
  const moved = pieces.filter((_, i) => strength[i] >= least);
  const shown = pieces.map((piece, i) => {
    const influence = piece.influence ?? 0;
    if (Math.abs(influence) < least) return unread[i] ? el("span.unread", {}, piece.text) : piece.text;
    const mark = el(influence > 0 ? "mark.up" : "mark.down", { title: `${signed(influence)} points` }, piece.text);
    mark.style.setProperty("--strength", `${Math.round(15 + (55 * Math.abs(influence)) / most)}%`);
    return mark;
  });
  const rows = (sign) => moved.filter((piece) => sign * piece.influence > 0)
    .sort((a, b) => sign * (b.influence - a.influence)).slice(0, LISTED);
  const list = (title, kind, sign) => el("div", {}, el("h4", {}, el(`mark.${kind}.key`, {}, title)),
    el("ol.moved", {}, ...rows(sign).map((piece) => el("li", {}, el("span", {}, piece.text.trim()), el("span.value", {}, signed(piece.influence))))));
  const left = explained && explained.words < explained.of
    ? ` The last ${explained.words} of ${explained.of} words were tried.` : "";
  return [
    moved.length || unread.some(Boolean) ? el("p.read", { tabIndex: 0, role: "group", "aria-label": "The text with its words marked" }, ...shown) : el("p.hint", {}, "No single word decided it: the answer stays the same without any one of them."),
    moved.length ? el("div.sides", {}, list("towards positive", "up", 1), list("towards negative", "down", -1)) : "",
    el("p.hint", {}, `Percentage points by which “positive” falls without the word.${left}${unread.some(Boolean) ? " The network did not read the grey words." : ""}`)];
}
