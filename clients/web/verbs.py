"""The questions: a route a task. Pictures, text and numbers become tensors, answers become JSON or PNG."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from flask import Blueprint, Response, current_app, jsonify, request
from PIL import Image

from clients import pictures
from clients.web.backend import Backend
from clients.web.problems import Problem
from clients.web.uploads import Upload, images, json_object

T = TypeVar("T")
verbs = Blueprint("verbs", __name__, url_prefix="/api/v1/models")

TOP = 10
"""Classes of an answer, the likeliest first."""


@verbs.post("/<name>:classify")
def classify(name: str) -> Response:
    """The likeliest classes of each image."""
    backend, uploads = _backend(name, "classify"), _images()
    found, took_ms = _timed(lambda: backend.client.classify_many(name, [upload.data for upload in uploads]))
    results = [
        {
            "label": answer.label,
            "class_id": answer.class_id,
            "probability": answer.probability,
            "top": [{"label": label, "probability": probability} for label, probability in answer.top(TOP)],
        }
        for answer in found
    ]
    return _json(name, took_ms, results=results)


@verbs.post("/<name>:sentiment")
def sentiment(name: str) -> Response:
    """The mood of each text."""
    backend, texts = _backend(name, "sentiment"), _texts()
    found, took_ms = _timed(lambda: backend.client.sentiment_many(texts, name))
    results = [{"label": a.label, "probability": a.probability, "positive": a.positive} for a in found]
    return _json(name, took_ms, results=results)


@verbs.post("/<name>:generate")
def generate(name: str) -> Response:
    """New images from a seed: one PNG each, or all in one picture."""
    backend = _backend(name, "generate")
    given = json_object(request) if request.get_data() else {}
    n = _integer(given, "n", min(16, backend.config.max_images), 1, backend.config.max_images)
    seed = _integer(given, "seed", 0, -(2**63), 2**63 - 1)
    found, took_ms = _timed(lambda: backend.client.generate(name, n, seed))
    if _wants_png():
        return _png(pictures.grid(found), took_ms)
    return _json(name, took_ms, n=n, seed=seed, images=[_base64(pictures.to_image(image)) for image in found])


@verbs.post("/<name>:segment")
def segment(name: str) -> Response:
    """The class of each pixel: the raw mask, the mask in colours, and the share of each class."""
    backend = _backend(name, "segment")
    uploads = [_reduced(upload, backend.config.max_side) for upload in _images()]
    if _wants_png():
        _single(uploads)
    found, took_ms = _timed(lambda: [backend.client.segment(name, upload.data) for upload in uploads])
    labels = backend.catalog.labels(name)
    if _wants_png():
        kind = request.args.get("picture", "overlay")
        if kind not in ("overlay", "mask"):
            raise Problem(422, f"picture is {kind!r}; wanted overlay or mask.")
        class_map = found[0].class_map
        shown = pictures.mask(class_map) if kind == "mask" else pictures.overlay(uploads[0].picture, class_map)
        return _png(shown, took_ms)
    return _json(name, took_ms, results=[_segmented(answer.class_map, labels) for answer in found])


@verbs.post("/<name>:reconstruct")
def reconstruct(name: str) -> Response:
    """Each image as the auto-encoder gives it back."""
    backend, uploads = _backend(name, "reconstruct"), _images()
    if _wants_png():
        _single(uploads)
    found, took_ms = _timed(lambda: [backend.client.reconstruct(name, upload.data) for upload in uploads])
    copies = [pictures.to_image(np.asarray(image)) for image in found]
    if _wants_png():
        return _png(copies[0], took_ms)
    results = [{"width": copy.width, "height": copy.height, "image": _base64(copy)} for copy in copies]
    return _json(name, took_ms, results=results)


@verbs.post("/<name>:<verb>")
def unknown(name: str, verb: str) -> Response:
    """Every other verb."""
    raise Problem(404, f"There is no verb :{verb}; there is :classify, :sentiment, :generate, :segment, :reconstruct.")


def _backend(name: str, verb: str) -> Backend:
    """The backend. Problem 404: it does not know the model, or the model does not answer the verb."""
    backend: Backend = current_app.extensions["ladle"]
    answered = backend.verbs(name)
    if verb not in answered:
        raise Problem(404, f"{name} does not answer :{verb}; it answers {', '.join(answered) or 'nothing here'}.")
    return backend


def _images() -> list[Upload]:
    backend: Backend = current_app.extensions["ladle"]
    return images(request, backend.config)


def _texts() -> list[str]:
    backend: Backend = current_app.extensions["ladle"]
    if request.mimetype == "text/plain":
        try:
            texts: Any = [request.get_data().decode()]
        except UnicodeDecodeError:
            raise Problem(400, "The text is not UTF-8.") from None
    else:
        given = json_object(request)
        texts = given.get("texts", [given["text"]] if "text" in given else [])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Problem(400, 'No text came; wanted {"text": "..."} or {"texts": ["...", ...]}.')
    if any(not text.strip() for text in texts):
        raise Problem(422, "A text is blank.")
    longest = max(len(text) for text in texts)
    if longest > backend.config.max_characters or len(texts) > backend.config.max_images:
        raise Problem(
            413,
            f"{len(texts)} texts of up to {longest} characters came; at most {backend.config.max_images} "
            f"of {backend.config.max_characters} are taken.",
        )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise Problem(400, "A text holds half a surrogate pair: it is not Unicode.") from None
    return texts


def _integer(given: dict[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Problem(400, f"{key} is not a whole number.")
    if not low <= value <= high:
        raise Problem(422, f"{key} is {value}; wanted {low} to {high}.")
    return value


def _reduced(upload: Upload, side: int) -> Upload:
    """The upload, on at most `side` pixels on its longer side: a photograph would keep the server busy for minutes."""
    if max(upload.picture.size) <= side:
        return upload
    small = upload.picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    return Upload(pictures.png(small), small)


def _segmented(class_map: pictures.Array, labels: list[str]) -> dict[str, Any]:
    height, width = class_map.shape
    colours = pictures.palette(int(class_map.max(initial=0)) + 1)
    classes = [
        {
            "class_id": class_id,
            "label": labels[class_id] if class_id < len(labels) else f"class {class_id}",
            "share": share,
            "color": "#" + colours[class_id].tobytes().hex(),
        }
        for class_id, share in pictures.shares(class_map).items()
    ]
    return {
        "width": width,
        "height": height,
        "classes": classes,
        "mask": _base64(pictures.mask(class_map)),
        "overlay": _base64(pictures.colour_mask(class_map)),
    }


def _single(uploads: list[Upload]) -> None:
    if len(uploads) != 1:
        raise Problem(422, f"{len(uploads)} images came; a PNG answers one. Accept application/json for several.")


def _wants_png() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "image/png"]) == "image/png"


def _timed(question: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    answer = question()
    return answer, 1000 * (time.perf_counter() - start)


def _json(name: str, took_ms: float, **answer: Any) -> Response:
    return _with_timing(jsonify(model=name, latency_ms=round(took_ms, 3), **answer), took_ms)


def _png(picture: Image.Image, took_ms: float) -> Response:
    return _with_timing(Response(pictures.png(picture), mimetype="image/png"), took_ms)


def _with_timing(response: Response, took_ms: float) -> Response:
    response.headers["Server-Timing"] = f"model;dur={took_ms:.3f}"
    response.headers["Cache-Control"] = "no-store"
    return response


def _base64(picture: Image.Image) -> str:
    return base64.b64encode(pictures.png(picture)).decode()
