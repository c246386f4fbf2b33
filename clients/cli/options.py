"""Options that several verbs share, the types of their values, and what they mean for a client."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ladle.clients.argument_types import seconds
from ladle.clients.errors import InvalidArgument
from ladle.clients.transport import address

DEFAULT_ADDRESS = "grpc://localhost:8500"


def server_options() -> argparse.ArgumentParser:
    """The address of the server, credentials, and --json."""
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("the server and the answer")
    group.add_argument(
        "--server",
        "--address",
        dest="address",
        metavar="ADDRESS",
        default=os.environ.get("LADLE_ADDRESS", DEFAULT_ADDRESS),  # read now, so that --help shows it
        help="grpc://HOST:PORT (several: grpc://A:8500,B:8500) or http://HOST:PORT; with TLS grpcs:// or https://; by "
        "the Open Inference Protocol oip+grpc:// or oip+http:// (default: $LADLE_ADDRESS, now %(default)s)",
    )
    group.add_argument("--protocol", choices=["grpc", "rest"], help="default: that of the address")
    group.add_argument("--timeout", type=seconds, default=30.0, help="seconds to wait (default: %(default)g)")
    group.add_argument("--ca", type=Path, metavar="PEM", help="CA of the server's certificate (default: the system's)")
    group.add_argument("--certificate", type=Path, metavar="PEM", help="certificate of the client")
    group.add_argument("--private-key", type=Path, metavar="PEM", help="private key of that certificate")
    group.add_argument("--key", metavar="KEY", help="API key, sent as a bearer token (default: $LADLE_API_KEY)")
    group.add_argument(
        "--proxy",
        metavar="URL",
        default=os.environ.get("LADLE_PROXY"),
        help='HTTP proxy to ask through, http://HOST:PORT; "": none (default: $LADLE_PROXY; else local hosts are asked '
        "directly, others as $https_proxy, $no_proxy and their kin say)",
    )
    group.add_argument("--json", action="store_true", help="print the answer as JSON")
    return shared


def model_option() -> argparse.ArgumentParser:
    """`--model NAME` beside the plain NAME; `with_model_first` gives it its place before the arguments are parsed."""
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--model", metavar="NAME", default=argparse.SUPPRESS, help="the same as NAME in its place")
    return named


def with_model_first(arguments: Sequence[str]) -> list[str]:
    """`classify a.png --model lenet5` -> `classify lenet5 a.png`: NAME comes first in every verb."""
    verb, rest = list(arguments[:1]), list(arguments[1:])
    for place, argument in enumerate(rest):
        if argument == "--":
            break
        if argument == "--model" and place + 1 < len(rest):
            return [*verb, rest[place + 1], *rest[:place], *rest[place + 2 :]]
        if argument.startswith("--model="):
            return [*verb, argument.removeprefix("--model="), *rest[:place], *rest[place + 1 :]]
    return [*verb, *rest]


def version_options() -> argparse.ArgumentParser:
    which = argparse.ArgumentParser(add_help=False)
    one = which.add_mutually_exclusive_group()
    one.add_argument("--version", type=int, help="version of the model (default: the latest)")
    one.add_argument("--label", help="version label, such as stable, instead of a version")
    return which


def picture_options() -> argparse.ArgumentParser:
    inline = argparse.ArgumentParser(add_help=False)
    inline.add_argument(
        "--inline",
        action=argparse.BooleanOptionalAction,
        help="show pictures in the terminal, by kitty's, iTerm2's or sixel graphics or as half-blocks (default: if the "
        "terminal can)",
    )
    return inline


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Endings of the picture formats that are written."""
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""Those that keep the values of grey pixels."""


def picture_file(text: str) -> Path:
    """A picture to write; its ending names the format."""
    return _file(text, PICTURES)


def mask_file(text: str) -> Path:
    """A picture to write whose pixels are class ids, so it must not lose any."""
    return _file(text, LOSSLESS)


def array_file(text: str) -> Path:
    """An array to write."""
    return _file(text, (".npy",))


def _file(text: str, endings: Sequence[str]) -> Path:
    path = Path(text)
    if path.suffix.lower() not in endings:
        several = f"one of {', '.join(endings)}" if len(endings) > 1 else endings[0]
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a name that ends in {several}")
    return path


def row(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; expected numbers separated by commas, such as 0.5,1.2"
        ) from None


def code(text: str) -> Any:
    """Numbers separated by commas, or @ and the path of an array."""
    return Path(text[1:]) if text.startswith("@") else row(text)


def version_of(given: argparse.Namespace) -> dict[str, Any]:
    """The options that choose a version, as arguments of the client's methods."""
    return {"version": given.version, "label": given.label}


def access(given: argparse.Namespace) -> dict[str, Any]:
    """The credentials and the proxy, as arguments of Client and AsyncClient."""
    return {
        "ca": given.ca,
        "certificate": given.certificate,
        "private_key": given.private_key,
        "api_key": given.key or os.environ.get("LADLE_API_KEY") or None,
        "proxy": given.proxy,
    }


def resolve(text: str, protocol: str | None) -> str:
    """The address for a protocol, with its scheme.

    If the address is one of the other protocol, on that one's default port, the default port of this one replaces it.
    InvalidArgument: it is one of the other protocol, on another port.
    """
    if "://" not in text:
        text = f"{'http' if protocol == 'rest' else 'grpc'}://{text}"
    parsed = address.parse(text)
    if protocol is None or (protocol == "rest") == parsed.is_rest:
        return str(parsed)
    scheme = ("http" if protocol == "rest" else "grpc") + ("s" if parsed.is_secure else "")
    scheme = address.OPEN_INFERENCE + scheme if parsed.is_open_inference else scheme
    there = f":{address.PORTS[parsed.scheme]}"
    if parsed.path or not all(host.endswith(there) for host in parsed.hosts):
        raise InvalidArgument(
            f"got --protocol {protocol} with {text}; give the address of the server's {protocol} port"
        )
    hosts = tuple(host.removesuffix(there) + f":{address.PORTS[scheme]}" for host in parsed.hosts)
    return str(address.parse(str(replace(parsed, scheme=scheme, hosts=hosts))))
