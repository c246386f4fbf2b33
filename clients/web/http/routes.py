"""A route: address, options, body, answers, errors; said once for the OpenAPI document and the reading of requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter

from ladle.clients.json_output import dumps
from ladle.clients.web.http import schema
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.schema import Schema

JSON, PNG = "application/json", "image/png"
NAME = "<model:name>"
"""A model's name in an address: neither / nor : , as TensorFlow Serving has it."""
FAULTS = (401, 429)
"""Every guarded route may answer these: a missing key, too many requests."""


class ModelConverter(BaseConverter):
    regex = "[^/:]+"


@dataclass(frozen=True)
class Body:
    """What a POST takes. `json`: its schema; `files`: parts of a form, at most so many of each; `raw`: media types."""

    json: Schema
    files: Mapping[str, int] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
    required: bool = True
    wanted: str = JSON


@dataclass(frozen=True)
class Route:
    """One operation. `answers`: the schema of each media type that it can answer; the first is the default."""

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[..., Response]
    answers: Mapping[str, Schema]
    options: Mapping[str, Schema] = field(default_factory=dict)
    body: Body | None = None
    errors: tuple[int, ...] = ()
    guarded: bool = True
    tag: str = "models"
    about: str = ""


@dataclass(frozen=True)
class Given:
    """A request as it was read: options with their defaults, the JSON object, files, or a raw body."""

    options: Mapping[str, Any]
    accept: str
    value: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, list[bytes]] = field(default_factory=dict)
    raw: bytes | None = None


def register(routes: Iterable[Route], blueprint: Blueprint) -> None:
    """Make the routes answer."""
    for route in routes:
        blueprint.add_url_rule(route.path, route.name, _view(route), methods=[route.method])


def _view(route: Route) -> Callable[..., Response]:
    def view(**names: str) -> Response:
        response = route.handler(read(route), **names)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return view


def read(route: Route) -> Given:
    """Problem 406: no answer suits the caller; 415: another type of body; what `schema.check` says of the rest."""
    accept = _negotiated(list(route.answers))
    options = _options(request.args.to_dict(flat=False), route.options)
    value: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    raw = None
    if route.body is not None:
        kind = request.mimetype
        if kind == JSON or (not kind and not route.body.required and not request.get_data()):
            value = json_object() if request.get_data() or route.body.required else {}
            schema.check(value, route.body.json, "The body")
            options |= {name: schema.exact(value[name], route.options[name]) for name in route.options if name in value}
        elif kind == "multipart/form-data" and route.body.files:
            options |= _options(request.form.to_dict(flat=False), route.options, route.body.files)
            files = _files(route.body.files)
        elif kind in route.body.raw:
            raw = request.get_data()
        else:
            raise Problem(415, f"The body is {kind or 'of no type'}; wanted {route.body.wanted}.")
    defaults = {name: given["default"] for name, given in route.options.items() if "default" in given}
    return Given({**defaults, **options}, accept, value, files, raw)


def json_object() -> dict[str, Any]:
    """The JSON object of the request. Problem 400: it is none."""
    try:
        value = json.loads(request.get_data(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not a JSON object.") from None
    if not isinstance(value, dict):
        raise Problem(400, "The body is not a JSON object.")
    return value


def answer(value: Any) -> Response:
    """JSON. What is not finite becomes null: JSON has no such numbers."""
    return Response(dumps(value), mimetype=JSON)


def _negotiated(known: list[str]) -> str:
    if not request.headers.get("Accept"):
        return known[0]
    chosen = request.accept_mimetypes.best_match(known)
    if chosen is None:
        raise Problem(
            406, f"The answer is {' or '.join(known)}; {schema.shown(request.headers['Accept'])} has neither."
        )
    return chosen


def _options(given: Mapping[str, list[str]], known: Mapping[str, Schema], files: Iterable[str] = ()) -> dict[str, Any]:
    found = {}
    for name, values in given.items():
        if name in files:
            raise Problem(400, f"{name} came as text; wanted a file.")
        if name not in known:
            wanted = f"wanted {', '.join(known)}" if known else "there are no options here"
            raise Problem(400, f"The option {schema.shown(name)} is not known; {wanted}.")
        if len(values) != 1:
            raise Problem(400, f"The option {name} came {len(values)} times; wanted once.")
        found[name] = schema.parsed(values[0], known[name], name)
    return found


def _files(known: Mapping[str, int]) -> dict[str, list[bytes]]:
    found = {}
    for name in request.files:
        if name not in known:
            raise Problem(400, f"The file {schema.shown(name)} is not known; wanted {', '.join(known)}.")
        found[name] = [file.read() for file in request.files.getlist(name)]
        if len(found[name]) > known[name]:
            raise Problem(413, f"{name} came {len(found[name])} times; at most {known[name]} are taken at once.")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)
