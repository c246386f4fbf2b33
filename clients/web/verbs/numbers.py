"""The verbs for numbers: :regress and :minimise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flask import Response

from ladle.clients.drawing import contours
from ladle.clients.library.client import CallOptions
from ladle.clients.library.tasks import Json
from ladle.clients.web.backend import Model, ModelRequest
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, Body, ParsedRequest, Route
from ladle.clients.web.http.schema import array, nullable, number, obj
from ladle.clients.web.verbs.base import PNG_BASE64, VERSION, Verb, encode, numbers, png_response
from ladle.clients.wire.arrays import Array

START = array(number(-1e6, 1e6), 2, 2, "a point of the plane")
_POINT = array(nullable(number()))
_DESCENT = {"minimum": _POINT, "value": nullable(number()), "path": array(_POINT)}


class NumberVerbs(Verb):
    """Numbers in, numbers out."""

    def routes(self) -> list[Route]:
        return [
            self.route(
                "regress",
                "The number that the model predicts for its input",
                self.regress,
                {"y": numbers(nullable(number()))},
                {},
                Body(obj({"x": numbers(number(-1e30, 1e30)), "version": VERSION}, ("x",)), example={"x": [[1.0]]}),
                about="x: one value or a list, with the axes of the model's input, with or without the batch axis.",
            ),
            self.route(
                "minimise",
                "Gradient descent from each start to a minimum of a function",
                self.minimise,
                {
                    "results": array(obj(_DESCENT)),
                    "picture": PNG_BASE64,
                    "reach": number(0, about="the axes of the picture go from -reach to reach"),
                },
                {},
                Body(
                    obj({"starts": array(START, 1, self.config.max_images), "version": VERSION}, ("starts",)),
                    example={"starts": [[1.0, 0.0]]},
                ),
                has_picture=True,
                about="The picture shows the paths, over contour lines if the model has the signature `value`.",
            ),
        ]

    def regress(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, "regress", request.options.get("version"))
        given = request.json["x"]
        try:
            x = np.asarray(given, np.float64)
        except ValueError:
            raise Problem(422, "x: got lists of different lengths; expected one length.") from None

        def predict(model: Model, options: CallOptions) -> Array:
            [info] = model.signatures.described[model.signatures.rows]["inputs"].values()
            if list(info.get("shape") or ())[1:] == [1] and x.ndim < 2:
                # Rows of one number: a caller may leave out the axis of the columns.
                rows = [[value] for value in (given if x.ndim else [given])] or x.reshape(-1, 1)
                return np.asarray(asked.client.regress(model.name, rows, **options)).reshape(x.shape)
            # As it came: float64 does not hold every int64.
            return np.asarray(asked.client.regress(model.name, given, **options))

        return asked.result(y=asked.call(predict).tolist())

    def minimise(self, request: ParsedRequest, name: str) -> Response | Json:
        asked = ModelRequest(self.backend, name, "minimise", request.options.get("version"))
        starts = np.array(request.json["starts"], np.float32)  # [b, 2]
        found = asked.call(lambda model, options: asked.client.minimise(name, starts, **options))
        paths = contours.from_starts(starts, found.path)
        picture = contours.drawn(paths, _value(asked) if "value" in asked.model.signatures else None)
        if request.accept == PNG:
            return png_response(picture)
        results = [
            {"minimum": end.tolist(), "value": float(low), "path": path.tolist()}
            for end, low, path in zip(found.minimum, found.value, found.path, strict=True)
        ]
        return asked.result(results=results, picture=encode(picture), reach=contours.reach(paths))


def _value(asked: ModelRequest) -> Callable[[Array], Array]:
    """The function that the model minimises, at points float32 [n, d]."""

    def value(points: Array) -> Array:
        return asked.call(
            lambda model, options: asked.client.predict(model.name, {"x": points}, "value", **options)["value"]
        )

    return value
