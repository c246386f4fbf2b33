"""The verbs for texts: :sentiment, with the influence of each word on its answer, and :neighbours of a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ladle.clients.library.results import Sentiment
from ladle.clients.library.tasks import Json
from ladle.clients.web.backend import ModelRequest
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import Body, ParsedRequest, Route
from ladle.clients.web.http.schema import array, boolean, integer, nullable, number, obj, string
from ladle.clients.web.verbs.base import VERSION, Verb

NEIGHBOURS, MAX_NEIGHBOURS, MAX_WORD = 5, 10, 100
EXPLAIN = {"explain": boolean(False, "also the influence of each word: ask again without it")}
PIECE = obj({"text": string(), "influence": nullable(number(-1, 1, about="`positive` with the word minus without it"))})
# A word ends where Keras's tokenizer ends it, or at the line break of the IMDb reviews.
_BETWEEN = re.compile(r"(?:<br />|[\s!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~])+")
_UNEXPLAINED: Json = {"pieces": None, "explained": None}


class TextVerbs(Verb):
    """Texts in, sentiments out."""

    def routes(self) -> list[Route]:
        text = string("text that is not blank", pattern=r"\S", maxLength=self.config.max_characters)
        options = {**EXPLAIN, "version": VERSION}
        texts = {"text": text, "texts": array(text, 1, self.config.max_images)}
        sentiment = {
            "label": string(),
            "probability": nullable(number(0, 1)),
            "positive": nullable(number(0, 1)),
            "pieces": nullable(array(PIECE, about="the text in pieces; joined, they are the text")),
            "explained": nullable(obj({"words": integer(0), "of": integer(0)})),
        }
        return [
            self.route(
                "sentiment",
                "Whether each text is positive or negative",
                self.sentiment,
                {"results": array(obj(sentiment))},
                EXPLAIN,
                Body(
                    {"anyOf": [obj({key: each, **options}, (key,)) for key, each in texts.items()]},
                    raw=("text/plain",),
                    expected="application/json or text/plain",
                    example={"text": "a warm and funny film"},
                ),
            ),
            self.route(
                "neighbours",
                "The words nearest to a word in the embedding that the model has learnt",
                self.neighbours,
                {"neighbours": array(obj({"word": string(), "similarity": number()}), about="the nearest first")},
                {},
                Body(
                    obj(
                        {
                            "word": string("a word of the model's vocabulary", pattern=r"\S", maxLength=MAX_WORD),
                            "n": integer(1, MAX_NEIGHBOURS, about="number of neighbours (default: 5)"),
                            "version": VERSION,
                        },
                        ("word",),
                    ),
                    example={"word": "good"},
                ),
                about="similarity: the cosine of the two words' vectors, -1 to 1.",
            ),
        ]

    def sentiment(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, "sentiment", request.options.get("version"))
        texts = self._texts(request)
        pieces = [split(text) if request.options["explain"] else [] for text in texts]
        # One request for all: the texts, and then each text without each of its words.
        left_out = [explained(each, self.config.max_words // len(texts)) for each in pieces]
        shorter = [without(each, position) for each, out in zip(pieces, left_out, strict=True) for position in out]
        found = asked.call(lambda model, options: asked.client.sentiment_many(name, texts + shorter, **options))
        rest = iter(found[len(texts) :])
        results = []
        for whole, each, out in zip(found, pieces, left_out, strict=False):
            result: Json = {"label": whole.label, "probability": whole.probability, "positive": whole.positive}
            result |= _influences(whole, each, {position: next(rest) for position in out}) if each else _UNEXPLAINED
            results.append(result)
        return asked.result(results=results)

    def neighbours(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, "neighbours", request.options.get("version"))
        word, n = request.json["word"], request.json.get("n", NEIGHBOURS)
        found = asked.call(lambda model, options: asked.client.neighbours(model.name, word, n, **options))
        return asked.result(neighbours=[{"word": each, "similarity": cosine} for each, cosine in found])

    def _texts(self, request: ParsedRequest) -> list[str]:
        """Problem 400: not UTF-8 or not Unicode; 413: too long; 422: blank."""
        if request.raw is not None:
            try:
                texts = [request.raw.decode()]
            except UnicodeDecodeError:
                raise Problem(400, "Got a text that is not UTF-8; send it as UTF-8.") from None
        else:
            texts = request.json["texts"] if "texts" in request.json else [request.json["text"]]
        if any(not text.strip() for text in texts):
            raise Problem(422, "Got a blank text; expected at least one word.")
        longest = max(len(text) for text in texts)
        if longest > self.config.max_characters:
            raise Problem(413, f"text: got {longest} characters; expected at most {self.config.max_characters}.")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:  # JSON can write half a surrogate pair; UTF-8 cannot
            raise Problem(400, "Got a text with half a surrogate pair; expected Unicode.") from None
        return texts


@dataclass(frozen=True)
class Piece:
    """A piece of a text: a word, or what stands between two words."""

    text: str
    is_word: bool


def split(text: str) -> list[Piece]:
    """The pieces of a text; joined, they are the text."""
    found, end = [], 0
    for gap in _BETWEEN.finditer(text):
        if gap.start() > end:
            found.append(Piece(text[end : gap.start()], True))
        found.append(Piece(gap[0], False))
        end = gap.end()
    return found + ([Piece(text[end:], True)] if end < len(text) else [])


def explained(pieces: Sequence[Piece], limit: int) -> list[int]:
    """The positions of the last `limit` words. Of a long text the network reads the end."""
    words = [position for position, piece in enumerate(pieces) if piece.is_word]
    return words[-limit:] if limit else []


def without(pieces: Sequence[Piece], position: int) -> str:
    """The text without one piece."""
    return "".join(piece.text for other, piece in enumerate(pieces) if other != position)


def _influences(whole: Sentiment, pieces: Sequence[Piece], shorter: dict[int, Sentiment]) -> dict[str, Any]:
    found = [
        {"text": piece.text, "influence": whole.positive - shorter[i].positive if i in shorter else None}
        for i, piece in enumerate(pieces)
    ]
    return {"pieces": found, "explained": {"words": len(shorter), "of": sum(piece.is_word for piece in pieces)}}
