"""Routes: path, options, body, responses and errors, declared once for the OpenAPI document and for parsing."""

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
"""A model's name in a path. As in TensorFlow Serving it holds neither / nor : because these end it."""
ACCESS_ERRORS = (401, 429)
"""Errors of every protected route: no valid key, too many requests."""


class ModelConverter(BaseConverter):
    """Matches NAME."""

    regex = "[^/:]+"


@dataclass(frozen=True)
class Body:
    """The body of a POST.

    json      schema of the body as JSON
    files     parts of a form that are files, each with the most that one request may hold
    raw       media types of a body that is the input itself
    expected  what an error says about a body of another type
    example   a body as JSON, for the documents
    """

    json: Schema
    files: Mapping[str, int] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
    required: bool = True
    expected: str = JSON
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Route:
    """One operation of the API.

    handler    called with a ParsedRequest and the names in the path; returns a Response, or an object for JSON
    responses  schema of each media type of the response; the first is the default
    options    schema of each option, in the query, in a form or in JSON
    errors     HTTP statuses of its errors
    protected  whether it needs a key and counts towards the rate
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[..., Response | dict[str, Any]]
    responses: Mapping[str, Schema]
    options: Mapping[str, Schema] = field(default_factory=dict)
    body: Body | None = None
    errors: tuple[int, ...] = ()
    protected: bool = True
    tag: str = "models"
    about: str = ""


@dataclass(frozen=True)
class ParsedRequest:
    """A request, checked against its route.

    options  the options with their defaults
    accept   media type of the response
    json     the body, if it is JSON
    files    the files of a form
    raw      the body, if it is the input itself
    """

    options: Mapping[str, Any]
    accept: str
    json: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, list[bytes]] = field(default_factory=dict)
    raw: bytes | None = None


def register(routes: Iterable[Route], blueprint: Blueprint) -> None:
    """Add the routes to a blueprint."""
    for route in routes:
        blueprint.add_url_rule(route.path, route.name, _view(route), methods=[route.method])


def _view(route: Route) -> Callable[..., Response]:
    def view(**names: str) -> Response:
        found = route.handler(parse(route), **names)
        # JSON has no infinities and no NaN: `dumps` writes null for them.
        response = found if isinstance(found, Response) else Response(dumps(found), mimetype=JSON)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return view


def parse(route: Route) -> ParsedRequest:
    """The current request.

    Problem 406: the caller accepts no media type of the response; 415: the type of the body; 400, 413, 422: as
    `schema.check`.
    """
    accept = _negotiated(list(route.responses))
    options = _options(request.args.to_dict(flat=False), route.options)
    value: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    raw = None
    if route.body is not None:
        kind = request.mimetype
        if kind == JSON or (not kind and not route.body.required and not request.get_data()):
            value = _json_object() if request.get_data() or route.body.required else {}
            schema.check(value, route.body.json, "The body")
            options |= {name: schema.exact(value[name], route.options[name]) for name in route.options if name in value}
        elif kind == "multipart/form-data" and route.body.files:
            options |= _options(request.form.to_dict(flat=False), route.options, route.body.files)
            files = _files(route.body.files)
        elif kind in route.body.raw:
            raw = request.get_data()
        else:
            raise Problem(415, f"Got a body of {kind or 'no type'}; expected {route.body.expected}.")
    defaults = {name: given["default"] for name, given in route.options.items() if "default" in given}
    return ParsedRequest({**defaults, **options}, accept, value, files, raw)


def _json_object() -> dict[str, Any]:
    try:
        value = json.loads(request.get_data(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "Got a body that is not JSON; expected a JSON object.") from None
    if not isinstance(value, dict):
        raise Problem(400, f"Got {schema.shown(value)}; expected a JSON object.")
    return value


def _negotiated(known: list[str]) -> str:
    if not request.headers.get("Accept"):
        return known[0]
    chosen = request.accept_mimetypes.best_match(known)
    if chosen is None:
        got = schema.shown(request.headers["Accept"])
        raise Problem(406, f"Accept: got {got}; expected {' or '.join(known)}.")
    return chosen


def _options(given: Mapping[str, list[str]], known: Mapping[str, Schema], files: Iterable[str] = ()) -> dict[str, Any]:
    found = {}
    for name, values in given.items():
        if name in files:
            raise Problem(400, f"{name}: got text; expected a file.")
        if name not in known:
            expected = ", ".join(known) or "no options"
            raise Problem(400, f"Got the unknown option {schema.shown(name)}; expected {expected}.")
        if len(values) != 1:
            raise Problem(400, f"{name}: got {len(values)} values; expected one.")
        found[name] = schema.parsed(values[0], known[name], name)
    return found


def _files(known: Mapping[str, int]) -> dict[str, list[bytes]]:
    found = {}
    for name in request.files:
        if name not in known:
            raise Problem(400, f"Got the unknown file {schema.shown(name)}; expected {', '.join(known)}.")
        found[name] = [file.read() for file in request.files.getlist(name)]
        if len(found[name]) > known[name]:
            raise Problem(413, f"{name}: got {len(found[name])} files; expected at most {known[name]}.")
    return found


def _refuse_constant(text: str) -> NoReturn:
    """Python's parser takes NaN and Infinity, which JSON does not have."""
    raise ValueError(text)
