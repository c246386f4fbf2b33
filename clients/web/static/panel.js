// What all panels share: the input, the answer, how long it took, and the same request as code.

import { post } from "./api.js";
import { el, milliseconds } from "./dom.js";
import { snippets } from "./snippets.js";

const NARROW = matchMedia("(max-width: 760px)");
export const BACK = "ladle-back"; // an event of the document: the model server answers; `detail.first`: it did not before
const MOST_RETRIES = 4; // of a question that failed, while the server answers: its first answers may still be refusals

/**
 * One panel of a model. A question is `{verb, body, query, draw(answer), say(answer), code, stream}`: `draw` returns the
 * elements of the answer, `say` one sentence for screen readers, `code` the snippets.
 *
 * Only the answer to the newest question is shown. A new question cancels the one before. Questions with `stream` (a stroke,
 * a slider) wait for the one that is running instead, and only the last of those that wait is sent: cancelling each would
 * show nothing until the hand stops.
 */
export class Panel {
  constructor(model, { tall = false } = {}) {
    this.model = model;
    this.tall = tall; // the answer is a large picture or a long text: on a phone it stands below the input
    this.running = this.waiting = this.last = null;
    this.failed = false;
    this.retries = 0;
    this.result = el("div.result", {}, el("p.hint.blank", {}, "The answer appears here."));
    this.latency = el("p.latency");
    this.said = el("p.unseen", { role: "status" });
    this.snippets = snippets();
    const again = ({ detail: { first } }) => {
      if (first) this.retries = 0;
      // The document outlives the panel, so a panel that has left the page takes its listener away.
      if (!this.node?.isConnected) document.removeEventListener(BACK, again);
      else if (this.failed && !this.running && this.retries++ < MOST_RETRIES) this.ask(this.last);
    };
    document.addEventListener(BACK, again);
  }

  frame(...input) {
    this.node = el(this.tall ? "div.panel" : "div.panel.sticky", {},
      el("section.card.in", { "aria-label": "Input" }, ...input),
      // On a phone the answer scrolls by itself, so keys must reach it.
      el("section.card.out", { "aria-label": "Answer", tabIndex: !this.tall && NARROW.matches ? 0 : undefined }, this.result, this.latency, this.said), this.snippets.node);
    return this.node;
  }

  async ask(question) {
    if (question.stream && this.running) {
      this.waiting = question;
      return;
    }
    this.running?.abort();
    const running = new AbortController();
    if (question !== this.last) this.retries = 0;
    Object.assign(this, { running, waiting: null, last: question });
    this.result.setAttribute("aria-busy", "true");
    if (question.code) this.snippets.show(question.code);
    else this.snippets.hide();
    try {
      const { answer, roundTrip } = await post(this.model.name, question.verb, question.body,
        { query: question.query, signal: running.signal });
      if (this.running !== running) return; // a newer question has taken its place
      this.show(question.draw(answer), question.say(answer));
      this.timed(answer.server_ms, roundTrip);
    } catch (error) {
      if (this.running !== running || error.name === "AbortError") return;
      this.fail(error);
      this.failed = Boolean(error.mayPass);
    }
    this.running = null;
    if (this.waiting) this.ask(this.waiting);
  }

  /** There is no input to ask about: shows `words` and no answer, so that no answer stands beside another input. */
  clear(words) {
    this.reset();
    this.show(el("p.hint.blank", {}, words), "");
  }

  fail(error) {
    this.reset();
    this.said.textContent = "";
    this.result.removeAttribute("aria-busy");
    const retry = error.mayPass ? el("span.hint", {}, "The page asks again when the server is back.") : "";
    this.result.replaceChildren(el("p.notice.bad", { role: "alert" }, error.message), retry);
  }

  reset() {
    this.running?.abort();
    Object.assign(this, { running: null, waiting: null, failed: false });
    this.latency.replaceChildren();
    this.snippets.hide();
  }

  show(nodes, sentence) {
    this.failed = false;
    this.result.removeAttribute("aria-busy");
    this.result.replaceChildren(...[nodes].flat().filter(Boolean));
    // Screen readers repeat a status that is set again, even to the same text.
    if (this.said.textContent !== sentence) this.said.textContent = sentence;
  }

  timed(server, roundTrip) {
    const part = (name, value) => el("span", {}, `${name} `, el("b", {}, milliseconds(value)));
    this.latency.replaceChildren(server === undefined ? "" : part("Model server", server), part("Round trip", roundTrip));
  }
}
