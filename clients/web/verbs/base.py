"""What all verbs share: options, bodies and responses of their routes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from flask import Response
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.library.tasks import Json
from ladle.clients.web import uploads
from ladle.clients.web.backend import Backend
from ladle.clients.web.http.routes import ACCESS_ERRORS, JSON, NAME, PNG, Body, Route
from ladle.clients.web.http.schema import Schema, array, integer, nullable, number, obj, string

ERRORS = (400, 404, 406, 413, 415, 422, 502, 503, 504)
MAX_VALUES = 10_000
"""Most numbers of a row, and most rows."""
VERSION = integer(1, 2**63 - 1, about="the version that answers (default: the latest)")
IMAGE = string("PNG, JPEG or WebP in base64, plain or URL-safe", format="base64-image", contentEncoding="base64")
MASK = string("grey image in base64 whose pixels are class ids", format="base64-image", contentEncoding="base64")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A black image of one pixel, for examples."""
PNG_BASE64 = string("PNG in base64", contentEncoding="base64")
SAMPLE = string("file of one of the model's samples, as GET .../samples lists them", format="sample")
SEEN = nullable(obj({"width": integer(), "height": integer(), "channels": integer(), "image": PNG_BASE64}))
PICTURE: Schema = {"type": "string", "format": "binary"}


class Verb:
    """Base of the verbs' handlers."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.config = backend.config

    def route(
        self,
        verb: str,
        summary: str,
        handler: Callable[..., Response | Json],
        result: Mapping[str, Schema],
        options: Mapping[str, Schema],
        body: Body,
        has_picture: bool = False,
        about: str = "",
    ) -> Route:
        """POST /api/v1/models/<name>:<verb>.

        result       schemas of the members of its JSON response
        has_picture  whether it can also answer with a PNG
        """
        model = {"model": string(), "version": integer(1), "server_ms": number(0, about="time of the model server")}
        responses = {JSON: obj({**model, **result})} | ({PNG: PICTURE} if has_picture else {})
        return Route(
            "POST",
            f"/api/v1/models/{NAME}:{verb}",
            verb,
            summary,
            handler,
            responses,
            {**options, "version": VERSION},
            body,
            ERRORS + ACCESS_ERRORS,
            tag="inference",
            about=about,
        )

    def images_body(
        self, options: Mapping[str, Schema], more: Mapping[str, Schema] | None = None, x: Schema | None = None
    ) -> Body:
        """A body with images: files of a form, raw bytes, or JSON.

        more  schemas of further images: a file of a form each, or base64 in JSON
        x     schema of numbers in place of images
        """
        more = more or {}
        inputs = {"image": IMAGE, "images": array(IMAGE, 1, self.config.max_images), "sample": SAMPLE}
        inputs |= {"x": x} if x else {}
        rest = {**options, "version": VERSION}
        schema = {
            "anyOf": [
                obj({key: each, **(more if key in ("image", "sample") else {}), **rest}, (key,))
                for key, each in inputs.items()
            ]
        }
        files = {"image": self.config.max_images, **dict.fromkeys(more, 1)}
        return Body(schema, files, uploads.RAW, expected=uploads.EXPECTED, example={"image": PIXEL})

    def sample(self, file: str, name: str) -> tuple[Json, bytes]:
        """A sample's entry and its image, or its mask if `file` is that. Problem 404: there is no such file."""
        path = self.backend.catalog.sample(name, file)
        entries = [
            entry for entry in self.backend.catalog.samples(name) if file in (entry.get("file"), entry.get("mask"))
        ]
        return entries[0], path.read_bytes()


def encode(picture: Image.Image) -> str:
    """PNG in base64."""
    return base64.b64encode(pictures.png(picture)).decode()


def png_response(picture: Image.Image) -> Response:
    return Response(pictures.png(picture), mimetype=PNG)


def numbers(scalar: Schema) -> Schema:
    """A number, a row of numbers, or rows."""
    row = array(scalar, 0, MAX_VALUES)
    return {"anyOf": [scalar, row, array(row, 0, MAX_VALUES)]}
