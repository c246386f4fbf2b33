// Panel: the words nearest to a word in the embedding that a model of text has learnt.

import { Panel } from "./panel.js";
import { el } from "./dom.js";
import { json as jsonCode, literal } from "./snippets.js";

const TYPING_MS = 250; // a word is sent after this pause
const LONGEST = 100;
const N = 10;
const FIRST = "good";
const SUGGESTED = [FIRST, "bad", "brilliant", "awful", "boring", "funny"];

export function neighbours(model) {
  const panel = new Panel(model);
  let timer = 0;
  const field = el("input", { type: "text", id: "word", maxLength: LONGEST, value: FIRST, autocomplete: "off", spellcheck: false, oninput: () => { clearTimeout(timer); timer = setTimeout(ask, TYPING_MS); } });
  const ask = () => {
    clearTimeout(timer);
    const word = field.value.trim();
    if (!word) return panel.clear("Write a word. The answer follows as you type.");
    return panel.ask({
      verb: "neighbours", body: { word, n: N },
      draw: ({ neighbours: found }) => [el("h3", {}, `Nearest to “${word}”`), near(found, use),
        el("p.hint", {}, "The cosine of the two words’ vectors: 1 is the same direction. Nobody told the network these words: their vectors moved while it learnt to judge reviews.")],
      say: ({ neighbours: found }) => `Nearest to ${word}: ${found.slice(0, 3).map((each) => each.word).join(", ")}`,
      code: () => jsonCode(model.name, "neighbours", { word, n: N }, { signature_name: "neighbours", instances: [word] }, [
        `for word, cosine in client.neighbours(${literal(model.name)}, ${literal(word)}, ${N}):`, "    print(word, cosine)"]),
    });
  };
  const use = (word) => { field.value = word; ask(); };
  queueMicrotask(ask);
  return panel.frame(el("label.title", { htmlFor: field.id }, "Word"), field,
    el("p.hint", {}, "One word. The answer follows as you type."),
    el("div.quotes", {}, ...SUGGESTED.map((word) => el("button.quote", { type: "button", onclick: () => use(word) }, word))));
}

/** The words as bars of their cosines; a click asks for that word. */
function near(found, use) {
  return el("ol.bars", {}, ...found.map(({ word, similarity }) => {
    const fill = el("span.fill");
    fill.style.width = `${100 * Math.min(Math.max(similarity, 0), 1)}%`;
    return el("li", {}, el("button.label.quiet", { type: "button", onclick: () => use(word), title: `Nearest to ${word}` }, word),
      el("span.track", { "aria-hidden": "true" }, fill), el("span.value", {}, similarity.toFixed(3)));
  }));
}
