"""Questions about text and numbers: :sentiment, :regress, :minimise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flask import Response

from ladle.clients.drawing import contours
from ladle.clients.library.results import Sentiment
from ladle.clients.web.backend import Model, Question
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, Body, Given, Route
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, string
from ladle.clients.web.verbs import words
from ladle.clients.web.verbs.base import PNG_BASE64, VERSION, Verb, draw, encode
from ladle.clients.wire.arrays import Array

EXPLAIN = {"explain": boolean(False, "also how much each word moved the verdict (leave one out)")}
PIECE = obj({"text": string(), "influence": nullable(number(-1, 1, about="positive with the word minus without"))})
MAX_VALUES = 10_000
START = array(number(-1e6, 1e6), 2, 2, "a point of the plane")
_POINT = array(nullable(number()))
_DESCENT = {"minimum": _POINT, "value": nullable(number()), "path": array(_POINT)}


class ValueVerbs(Verb):
    """Text in, moods out; numbers in, numbers out."""

    def routes(self) -> list[Route]:
        text = string("not blank", pattern=r"\S", maxLength=self.config.max_characters)
        rest = {**EXPLAIN, "version": VERSION}
        texts = {"text": text, "texts": array(text, 1, self.config.max_images)}
        mood = {
            "label": string(),
            "probability": nullable(number(0, 1)),
            "positive": nullable(number(0, 1)),
            "pieces": nullable(array(PIECE, about="joined, they give the text back")),
            "explained": nullable(obj({"words": integer(0), "of": integer(0)})),
        }
        return [
            self.route(
                "sentiment",
                "The mood of each text",
                self.sentiment,
                {"results": array(obj(mood))},
                EXPLAIN,
                Body(
                    {"anyOf": [obj({key: form, **rest}, (key,)) for key, form in texts.items()]},
                    raw=("text/plain",),
                    wanted="application/json or text/plain",
                ),
            ),
            self.route(
                "regress",
                "A model's single number for its single input",
                self.regress,
                {"y": _tensor(nullable(number()))},
                {},
                Body(obj({"x": _tensor(number(-1e30, 1e30)), "version": VERSION}, ("x",))),
                about="x: one value, or a list; as deep as the model's input, with or without the batch axis.",
            ),
            self.route(
                "minimise",
                "The descent from each start to a minimum of a function",
                self.minimise,
                {
                    "results": array(obj(_DESCENT)),
                    "picture": PNG_BASE64,
                    "reach": number(0, about="the picture's axes go from -reach to reach"),
                },
                {},
                Body(
                    obj({"starts": array(START, 1, self.config.max_images), "version": VERSION}, ("starts",)),
                ),
                has_picture=True,
                about="The picture shows the paths over contour lines, where the model tells the function by its "
                "signature `value`.",
            ),
        ]

    def sentiment(self, given: Given, name: str) -> Response:
        question = self.question(name, "sentiment", given)
        texts = self._texts(given)
        parts = [words.pieces(text) if given.options["explain"] else [] for text in texts]
        left_out = [words.explained(each, self.config.max_words // len(texts)) for each in parts]
        shorter = [words.without(each, position) for each, out in zip(parts, left_out, strict=True) for position in out]
        client = self.backend.client
        moods = question.ask(lambda model: client.sentiment_many(texts + shorter, name, **question.which))
        rest = iter(moods[len(texts) :])
        results = []
        for mood, each, out in zip(moods, parts, left_out, strict=False):
            result: dict[str, Any] = {"label": mood.label, "probability": mood.probability, "positive": mood.positive}
            result |= _influences(mood, each, {position: next(rest) for position in out}) if each else _PLAIN
            results.append(result)
        return self.reply(question, results=results)

    def regress(self, given: Given, name: str) -> Response:
        question = self.question(name, "regress", given)
        found = question.ask(lambda model: _regressed(question, model, given.value["x"]))
        return self.reply(question, y=found.tolist())

    def minimise(self, given: Given, name: str) -> Response:
        question = self.question(name, "minimise", given)
        starts = np.array(given.value["starts"], np.float32)  # [b, 2]
        client = self.backend.client
        found = question.ask(lambda model: client.minimise(name, starts, **question.which))
        paths = contours.from_starts(starts, found.path)
        picture = contours.drawn(paths, self._value(question) if "value" in question.model.signatures else None)
        if given.accept == PNG:
            return draw(picture)
        results = [
            {"minimum": end.tolist(), "value": float(low), "path": path.tolist()}
            for end, low, path in zip(found.minimum, found.value, found.path, strict=True)
        ]
        return self.reply(question, results=results, picture=encode(picture), reach=contours.reach(paths))

    def _value(self, question: Question) -> Callable[[Array], Array]:
        """The function itself, at points float32 [n, d]."""

        def value(points: Array) -> Array:
            which = question.which
            return question.ask(
                lambda model: self.backend.client.predict(model.name, {"x": points}, "value", **which)["value"]
            )

        return value

    def _texts(self, given: Given) -> list[str]:
        """Problem 400: not UTF-8 or not Unicode; 413: too long; 422: blank."""
        if given.raw is not None:
            try:
                texts = [given.raw.decode()]
            except UnicodeDecodeError:
                raise Problem(400, "The text is not UTF-8.") from None
        else:
            texts = given.value["texts"] if "texts" in given.value else [given.value["text"]]
        if any(not text.strip() for text in texts):
            raise Problem(422, "A text is blank.")
        longest = max(len(text) for text in texts)
        if longest > self.config.max_characters:
            raise Problem(413, f"text has {longest} characters; at most {self.config.max_characters} are taken.")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise Problem(400, "A text holds half a surrogate pair: it is not Unicode.") from None
        return texts


def _regressed(question: Question, model: Model, x: Any) -> Array:
    """y in the form of x; where the model takes rows of one number, the rows may be left out."""
    try:
        values = np.asarray(x, np.float64)
    except ValueError:
        raise Problem(422, "x is a list of lists of different lengths; wanted the same length.") from None
    client = question.backend.client
    [info] = model.signatures.described["serving_default"]["inputs"].values()
    if list(info.get("shape") or ())[1:] == [1] and values.ndim < 2:
        found = client.regress(model.name, values.reshape(-1, 1), **question.which)
        return np.asarray(found).reshape(values.shape)
    return np.asarray(client.regress(model.name, values, **question.which))


_PLAIN: dict[str, Any] = {"pieces": None, "explained": None}


def _influences(whole: Sentiment, parts: list[words.Piece], without: dict[int, Sentiment]) -> dict[str, Any]:
    pieces = [
        {"text": part.text, "influence": whole.positive - without[i].positive if i in without else None}
        for i, part in enumerate(parts)
    ]
    return {"pieces": pieces, "explained": {"words": len(without), "of": sum(part.is_word for part in parts)}}


def _tensor(scalar: Schema) -> Schema:
    row = array(scalar, 0, MAX_VALUES)
    return {"anyOf": [scalar, row, array(row, 0, MAX_VALUES)]}
