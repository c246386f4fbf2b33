// The frame that all panels share: what goes in, what comes out, how long it took, and the same request as code.

import { post } from "./api.js";
import { el, milliseconds } from "./dom.js";
import { snippets } from "./snippets.js";

export const BACK = "ladle-back"; // an event of the document: the model server answers again

/**
 * A question is `{verb, body, query, draw(answer), say(answer), code, stream}`: `draw` gives the elements of the answer, `say`
 * one sentence for who listens. Only the newest question's answer is shown. A `stream` of questions (a stroke, a slider)
 * has one under way at a time and drops those between; any other question cancels the one before.
 */
export class Bench {
  constructor(model) {
    this.model = model;
    this.running = this.waiting = this.last = null;
    this.failed = false;
    this.result = el("div.result", {}, el("p.hint.blank", {}, "The answer appears here."));
    this.latency = el("p.latency");
    this.said = el("p.unseen", { role: "status" });
    this.snippets = snippets();
    const again = () => {
      if (!this.node?.isConnected) document.removeEventListener(BACK, again);
      else if (this.failed) this.ask(this.last);
    };
    document.addEventListener(BACK, again);
  }

  frame(...input) {
    this.node = el("div.bench", {},
      el("section.card.in", { "aria-label": "Input" }, ...input),
      el("section.card.out", { "aria-label": "Answer" }, this.result, this.latency, this.said), this.snippets.node);
    return this.node;
  }

  async ask(question) {
    if (question.stream && this.running) {
      this.waiting = question;
      return;
    }
    this.running?.abort();
    const running = new AbortController();
    Object.assign(this, { running, waiting: null, last: question });
    this.result.setAttribute("aria-busy", "true");
    if (question.code) this.snippets.show(question.code);
    try {
      const { answer, roundTrip } = await post(this.model.name, question.verb, question.body,
        { query: question.query, signal: running.signal });
      if (this.running !== running) return;
      this.show(question.draw(answer), question.say(answer));
      this.timed(answer.server_ms, roundTrip);
    } catch (error) {
      if (this.running !== running || error.name === "AbortError") return;
      this.fail(error);
      this.failed = Boolean(error.passes);
    }
    this.running = null;
    if (this.waiting) this.ask(this.waiting);
  }

  /** Nothing is asked any more, and nothing is shown. */
  empty(words) {
    this.running?.abort();
    Object.assign(this, { running: null, waiting: null, failed: false });
    this.latency.replaceChildren();
    this.show(el("p.hint.blank", {}, words), "");
  }

  show(nodes, sentence) {
    this.failed = false;
    this.result.removeAttribute("aria-busy");
    this.result.replaceChildren(...[nodes].flat().filter(Boolean));
    if (this.said.textContent !== sentence) this.said.textContent = sentence;
  }

  timed(server, roundTrip) {
    const part = (name, value) => el("span", {}, `${name} `, el("b", {}, milliseconds(value)));
    this.latency.replaceChildren(server === undefined ? "" : part("Model server", server), part("Round trip", roundTrip));
  }

  fail(error) {
    this.running?.abort();
    Object.assign(this, { running: null, waiting: null, failed: false });
    this.latency.replaceChildren();
    this.said.textContent = "";
    this.result.removeAttribute("aria-busy");
    const waits = error.passes ? el("span.hint", {}, "The question is asked again when the server is back.") : "";
    this.result.replaceChildren(el("p.notice.bad", { role: "alert" }, error.message), waits);
  }
}
