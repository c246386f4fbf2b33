"""The verbs of models that draw: :generate from a seed or from codes, :interpolate between two codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flask import Response

from ladle.clients.drawing import pictures
from ladle.clients.library.client import CallOptions
from ladle.clients.library.preprocess import pixels
from ladle.clients.library.tasks import Json
from ladle.clients.web.backend import Model, ModelRequest
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, Body, ParsedRequest, Route
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, one_of
from ladle.clients.web.uploads import decode, from_base64
from ladle.clients.web.verbs.base import IMAGE, PNG_BASE64, SAMPLE, VERSION, Verb, encode, png_response
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.philox import stateless_normal

SEED = integer(-(2**63), 2**63 - 1, 0, "the same seed gives the same images")
CODE = array(number(-1000, 1000), 1, 10_000, "a code: `latent.dim` numbers")
WITH_CODES = {"with_codes": boolean(False, "also the codes of the images")}
PATH = one_of("linear", "spherical", about="default: linear if the model encodes images, else spherical")


class CodeVerbs(Verb):
    """Seeds and codes in, images out."""

    def routes(self) -> list[Route]:
        most = self.config.max_images
        count: dict[str, Schema] = {"n": integer(1, most, min(16, most), "images"), "seed": SEED, **WITH_CODES}
        steps = {"steps": integer(2, max(2, most), min(8, max(2, most)), "images, both ends included"), "path": PATH}
        codes = {"anyOf": [CODE, array(CODE, 1, most)], "description": "one code, or several"}
        common = {**WITH_CODES, "version": VERSION}
        forms = [obj({**count, "version": VERSION}, ())]
        forms += [obj({name: codes, **common}, (name,)) for name in ("code", "z")]
        end = {"anyOf": [obj({"seed": SEED}), obj({"code": CODE}), obj({"image": IMAGE}), obj({"sample": SAMPLE})]}
        images = {"images": array(PNG_BASE64), "codes": nullable(array(array(nullable(number()))))}
        return [
            self.route(
                "generate",
                "New images from a seed, or images of codes",
                self.generate,
                {"n": integer(1), "seed": nullable(integer()), **images},
                count,
                Body({"anyOf": forms}, required=False, example={"n": 4, "seed": 7}),
                has_picture=True,
                about="`z` is another name of `code`. A PNG shows all images as a grid.",
            ),
            self.route(
                "interpolate",
                "Images between two codes, seeds or images",
                self.interpolate,
                {"steps": integer(2), "path": PATH, **images},
                {**steps, **WITH_CODES},
                Body(
                    obj({"from": end, "to": end, **steps, **common}, ("from", "to")),
                    {"from": 1, "to": 1},
                    expected="JSON, or a form with the images from and to",
                    example={"from": {"seed": 1}, "to": {"seed": 2}, "steps": 5},
                ),
                has_picture=True,
                about="Ends that are images need a model that encodes. A PNG shows all images in one row.",
            ),
        ]

    def generate(self, request: ParsedRequest, name: str) -> Response | Json:
        asked = ModelRequest(self.backend, name, "generate", request.options.get("version"))
        chosen = request.json.get("code", request.json.get("z"))
        n, seed = request.options["n"], request.options["seed"]
        if chosen is not None:
            codes = _codes(asked.model, chosen if isinstance(chosen[0], list) else [chosen])
            n, seed = len(codes), None
        elif asked.model.signatures.latent is not None:
            # The noise that the server draws too: the same seed gives the same codes and images.
            codes = stateless_normal((n, asked.model.signatures.latent.dim), seed)
        if chosen is None and "generate" in asked.model.signatures:
            images = asked.call(lambda model, options: asked.client.generate(name, n, seed, **options))
        else:
            images = _draw(asked, codes)
        if request.accept == PNG:
            return png_response(pictures.grid(images))
        has_codes = request.options["with_codes"] and asked.model.signatures.latent is not None
        return asked.result(
            n=n,
            seed=seed,
            images=[encode(pictures.to_image(image)) for image in images],
            codes=codes.tolist() if has_codes else None,
        )

    def interpolate(self, request: ParsedRequest, name: str) -> Response | Json:
        asked = ModelRequest(self.backend, name, "interpolate", request.options.get("version"))
        first, last = self._end("from", request, asked), self._end("to", request, asked)
        steps = request.options["steps"]
        # Random codes lie near a sphere, and a straight line between two leaves it; an encoder's codes do not.
        path = request.options.get("path") or ("linear" if asked.model.signatures.encodes else "spherical")
        codes = between(first, last, steps, path)
        images = _draw(asked, codes)
        if request.accept == PNG:
            return png_response(pictures.grid(images, columns=steps))
        return asked.result(
            steps=steps,
            path=path,
            images=[encode(pictures.to_image(image)) for image in images],
            codes=codes.tolist() if request.options["with_codes"] else None,
        )

    def _end(self, which: str, request: ParsedRequest, asked: ModelRequest) -> Array:
        """The code [dim] of one end. Problem 400: the request does not have it; 422: it does not fit the model."""
        end: Mapping[str, Any] = request.json.get(which, {})
        model, latent = asked.model, asked.model.signatures.latent
        assert latent is not None
        code: Array
        if "code" in end:
            code = _codes(model, [end["code"]])[0]
            return code
        if "seed" in end:
            code = stateless_normal((1, latent.dim), int(end["seed"]))[0]
            return code
        if request.files.get(which):
            data = request.files[which][0]
        elif "image" in end:
            data = from_base64(end["image"], f"{which}.image")
        elif "sample" in end:
            data = self.sample(end["sample"], model.name)[1]
        else:
            raise Problem(400, f"{which}: got nothing; expected a seed, a code, an image or a sample.")
        if not model.signatures.encodes or model.signatures.image is None:
            raise Problem(
                422, f"{which}: got an image, but {model.name} does not encode images; send a seed or a code."
            )
        # Half of the pixels: there is another end.
        image = pixels(decode(data, self.config.max_pixels // 2).picture, **model.signatures.image)
        found: Array = asked.call(lambda model, options: asked.client.encode(model.name, image[None], **options))[0]
        return found


def _draw(asked: ModelRequest, codes: Array) -> Array:
    """Images uint8 or float [b, h, w, c] of codes [b, dim]."""

    def call(model: Model, options: CallOptions) -> Mapping[str, Array]:
        latent = model.signatures.latent
        assert latent is not None
        declared = model.signatures.described[latent.signature]["outputs"]
        output = "images" if "images" in declared else "image"
        return asked.client.predict(model.name, {latent.input: codes}, latent.signature, outputs=[output], **options)

    [images] = asked.call(call).values()
    return images


def between(first: Array, last: Array, steps: int, path: str) -> Array:
    """Codes float32 [steps, dim] from `first` to `last`, along the line or, if spherical, along the great circle."""
    share = np.linspace(0, 1, steps, dtype=np.float64)[:, None]
    straight = (1 - share) * first + share * last
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(last))
    if path == "spherical" and min(norms) > 0:
        cosine = float(np.clip(np.dot(first / norms[0], last / norms[1]), -1, 1))
        angle = np.arccos(cosine)
        if np.sin(angle) > 1e-6:  # else both ends point in the same or in opposite directions
            straight = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * last) / np.sin(angle)
    return straight.astype(np.float32)


def _codes(model: Model, codes: list[list[float]]) -> Array:
    """float32 [b, dim]. Problem 422: the model does not draw from codes, or its codes have another length."""
    latent = model.signatures.latent
    if latent is None:
        raise Problem(422, f"code: got a code, but {model.name} does not draw from codes; send n and seed.")
    for code in codes:
        if len(code) != latent.dim:
            raise Problem(422, f"code: got {len(code)} numbers; expected {latent.dim}.")
    return np.array(codes, np.float32)
