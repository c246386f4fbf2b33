"""What all questions share: options, forms of bodies and answers, and the way from a request to a `Question`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.library.preprocess import pixels
from ladle.clients.library.tasks import Json, Signatures
from ladle.clients.web import uploads
from ladle.clients.web.backend import Backend, Question
from ladle.clients.web.config import Config
from ladle.clients.web.http.routes import FAULTS, JSON, NAME, PNG, Body, Given, Route, answer
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, one_of, string
from ladle.clients.web.uploads import Upload

__all__ = ["IMAGE", "SEEN", "Verb", "array", "boolean", "encode", "integer", "nullable", "number", "obj", "one_of"]

ERRORS = (400, 404, 406, 413, 415, 422, 502, 503, 504)
VERSION = integer(1, 2**63 - 1, about="the version to ask (default: the one that the model server answers with)")
IMAGE = string("PNG, JPEG or WebP in base64, plain or URL-safe", format="base64-image", contentEncoding="base64")
MASK = string("grey picture in base64 whose pixels are class ids", format="base64-image", contentEncoding="base64")
PNG_BASE64 = string("PNG in base64", contentEncoding="base64")
SAMPLE = string("file of one of the model's samples, as GET .../samples lists them", format="sample")
SEEN = nullable(obj({"width": integer(), "height": integer(), "channels": integer(), "image": PNG_BASE64}))
PICTURE: Schema = {"type": "string", "format": "binary"}


class Verb:
    """Base of the verbs' handlers: the backend, and how routes are made."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.config: Config = backend.config

    def route(
        self,
        verb: str,
        summary: str,
        handler: Callable[..., Response],
        result: Mapping[str, Schema],
        options: Mapping[str, Schema],
        body: Body,
        has_picture: bool = False,
        about: str = "",
    ) -> Route:
        """POST /api/v1/models/<name>:<verb>. `result`: the members of its JSON answer."""
        told = {"model": string(), "version": integer(1), "server_ms": number(0, about="time of the model calls")}
        answers = {JSON: obj({**told, **result})} | ({PNG: PICTURE} if has_picture else {})
        return Route(
            "POST",
            f"/api/v1/models/{NAME}:{verb}",
            verb,
            summary,
            handler,
            answers,
            {**options, "version": VERSION},
            body,
            ERRORS + FAULTS,
            tag="questions",
            about=about,
        )

    def question(self, name: str, verb: str, given: Given) -> Question:
        return Question(self.backend, name, verb, given.options.get("version"))

    def reply(self, question: Question, **result: Any) -> Response:
        """The JSON answer."""
        told = {"model": question.model.name, "version": question.model.version}
        return answer({**told, "server_ms": round(1000 * question.server_s, 3), **result})

    def images_body(self, options: Mapping[str, Schema], more: Mapping[str, Schema] | None = None) -> Body:
        """Images as files, raw bytes or JSON. `more`: further images, files in a form and base64 in JSON."""
        more = more or {}
        forms = {"image": IMAGE, "images": array(IMAGE, 1, self.config.max_images), "sample": SAMPLE}
        rest = {**options, "version": VERSION}
        schema = {
            "anyOf": [
                obj({key: form, **(more if key != "images" else {}), **rest}, (key,)) for key, form in forms.items()
            ]
        }
        return Body(
            schema, {"image": self.config.max_images, **dict.fromkeys(more, 1)}, uploads.RAW, wanted=uploads.WANTED
        )

    def images(self, given: Given, name: str) -> tuple[list[Upload], Json | None]:
        """The images that came; and, when it is one of the model's samples, what its list says of it."""
        sample, found = self.sample(given.value["sample"], name) if "sample" in given.value else (None, None)
        files = [found] if found is not None else uploads.encoded(given)
        return uploads.uploads(files, self.config.max_images, self.config.max_pixels), sample

    def sample(self, file: str, name: str) -> tuple[Json, bytes]:
        """A sample's entry and its file. Problem 404: there is no such image."""
        path = self.backend.catalog.sample(name, file)
        entries = [
            entry for entry in self.backend.catalog.samples(name) if file in (entry.get("file"), entry.get("mask"))
        ]
        return entries[0], path.read_bytes()


def seen(signatures: Signatures, upload: Upload) -> Json | None:
    """The image as the network got it; None where the signatures do not tell its form."""
    if signatures.image is None or signatures.image["channels"] not in (1, 3):
        return None
    got = pixels(upload.picture, **signatures.image)
    height, width, channels = got.shape
    return {"width": width, "height": height, "channels": channels, "image": encode(pictures.to_image(got))}


def encode(picture: Image.Image) -> str:
    """PNG in base64."""
    return base64.b64encode(pictures.png(picture)).decode()


def draw(picture: Image.Image) -> Response:
    return Response(pictures.png(picture), mimetype=PNG)
