"""Questions to models that draw: :generate from a seed or a code, :interpolate between two codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flask import Response

from ladle.clients.drawing import pictures
from ladle.clients.library.preprocess import pixels
from ladle.clients.web.backend import Model, Question
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import PNG, Body, Given, Route
from ladle.clients.web.http.schema import Schema, array, boolean, integer, nullable, number, obj, one_of
from ladle.clients.web.uploads import decoded, upload
from ladle.clients.web.verbs.base import IMAGE, PNG_BASE64, SAMPLE, VERSION, Verb, draw, encode
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.philox import stateless_normal

SEED = integer(-(2**63), 2**63 - 1, 0, "the same seed gives the same images")
CODE = array(number(-1000, 1000), 1, 10_000, "a code, as many numbers as the model's `latent.dim`")
WITH_CODES = {"with_codes": boolean(False, "also the codes of the images")}
PATH = one_of("linear", "spherical", about="default: linear where images have codes, else spherical")


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
                "New images from a seed, or the images of codes",
                self.generate,
                {"n": integer(1), "seed": nullable(integer()), **images},
                count,
                Body({"anyOf": forms}, required=False),
                has_picture=True,
                about="Code z is another name of code. A PNG shows all images in one grid.",
            ),
            self.route(
                "interpolate",
                "The images between two codes, seeds or images",
                self.interpolate,
                {"steps": integer(2), "path": PATH, **images},
                {**steps, **WITH_CODES},
                Body(
                    obj({"from": end, "to": end, **steps, **common}, ("from", "to")),
                    {"from": 1, "to": 1},
                    wanted="JSON, or a form with the images from and to",
                ),
                has_picture=True,
                about="Images need a model that encodes. A PNG shows all images in one row.",
            ),
        ]

    def generate(self, given: Given, name: str) -> Response:
        question = self.question(name, "generate", given)
        chosen = given.value.get("code", given.value.get("z"))
        n, seed = given.options["n"], given.options["seed"]
        if chosen is not None:
            codes = _codes(question.model, chosen if isinstance(chosen[0], list) else [chosen])
            n, seed = len(codes), None
        elif question.model.signatures.latent is not None:
            codes = stateless_normal((n, question.model.signatures.latent.dim), seed)
        if chosen is None and "generate" in question.model.signatures:
            images = question.ask(lambda model: self.backend.client.generate(name, n, seed, **question.which))
        else:
            images = self._drawn(question, codes)
        if given.accept == PNG:
            return draw(pictures.grid(images))
        has_codes = given.options["with_codes"] and question.model.signatures.latent is not None
        return self.reply(
            question,
            n=n,
            seed=seed,
            images=[encode(pictures.to_image(image)) for image in images],
            codes=codes.tolist() if has_codes else None,
        )

    def interpolate(self, given: Given, name: str) -> Response:
        question = self.question(name, "interpolate", given)
        first, last = self._end("from", given, question), self._end("to", given, question)
        steps = given.options["steps"]
        path = given.options.get("path") or ("linear" if question.model.signatures.encodes else "spherical")
        codes = between(first, last, steps, path)
        images = self._drawn(question, codes)
        if given.accept == PNG:
            return draw(pictures.grid(images, columns=steps))
        return self.reply(
            question,
            steps=steps,
            path=path,
            images=[encode(pictures.to_image(image)) for image in images],
            codes=codes.tolist() if given.options["with_codes"] else None,
        )

    def _drawn(self, question: Question, codes: Array) -> Array:
        """Images uint8 or float [b, h, w, c] of codes [b, dim]."""

        def decode(model: Model) -> Mapping[str, Array]:
            latent = model.signatures.latent
            assert latent is not None
            declared = model.signatures.described[latent.signature]["outputs"]
            wanted = "images" if "images" in declared else "image"
            sent = {latent.input: codes}
            return self.backend.client.predict(model.name, sent, latent.signature, outputs=[wanted], **question.which)

        [images] = question.ask(decode).values()
        return images

    def _end(self, which: str, given: Given, question: Question) -> Array:
        """The code [dim] of one end. Problem 400: none came."""
        end: Mapping[str, Any] = given.value.get(which, {})
        model, latent = question.model, question.model.signatures.latent
        assert latent is not None
        code: Array
        if "code" in end:
            code = _codes(model, [end["code"]])[0]
            return code
        if "seed" in end:
            code = stateless_normal((1, latent.dim), int(end["seed"]))[0]
            return code
        if given.files.get(which):
            data = given.files[which][0]
        elif "image" in end:
            data = decoded(end["image"], f"{which}.image")
        elif "sample" in end:
            data = self.sample(end["sample"], model.name)[1]
        else:
            raise Problem(400, f"No {which} came; wanted a seed, a code, an image or a sample.")
        if not model.signatures.encodes or model.signatures.image is None:
            raise Problem(422, f"{model.name} has no codes of images; wanted a seed or a code.")
        image = pixels(upload(data, self.config.max_pixels // 2).picture, **model.signatures.image)
        found: Array = question.ask(
            lambda asked: self.backend.client.encode(asked.name, image[None], **question.which)
        )[0]
        return found


def between(first: Array, last: Array, steps: int, path: str) -> Array:
    """Codes float32 [steps, dim] from `first` to `last`, on the straight line or on the great circle."""
    share = np.linspace(0, 1, steps, dtype=np.float64)[:, None]
    straight = (1 - share) * first + share * last
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(last))
    if path == "spherical" and min(norms) > 0:
        cosine = float(np.clip(np.dot(first / norms[0], last / norms[1]), -1, 1))
        angle = np.arccos(cosine)
        if np.sin(angle) > 1e-6:
            straight = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * last) / np.sin(angle)
    return straight.astype(np.float32)


def _codes(model: Model, codes: list[list[float]]) -> Array:
    """float32 [b, dim]. Problem 422: the model draws from no codes, or from longer or shorter ones."""
    latent = model.signatures.latent
    if latent is None:
        raise Problem(422, f"{model.name} does not draw from codes; wanted n and seed.")
    for code in codes:
        if len(code) != latent.dim:
            raise Problem(422, f"A code has {len(code)} numbers; wanted {latent.dim}.")
    return np.array(codes, np.float32)
