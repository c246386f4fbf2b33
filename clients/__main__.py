"""Command line of the client: `python -m clients VERB`, or `ladle VERB`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from clients import commands
from clients.client import Client
from clients.errors import LadleError
from clients.terminal import paint

DEFAULT_ADDRESS = "grpc://localhost:8500"
PORTS = {"grpc": 8500, "http": 8501, "https": 8501}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 1 failed."""
    arguments = build_parser().parse_args(argv)
    try:
        address = resolve(arguments.address, arguments.protocol)
    except ValueError as error:
        print(f"ladle: {error}", file=sys.stderr)
        return 2
    try:
        with Client(address, timeout_s=arguments.timeout) as client:
            arguments.run(client, arguments)
    except (LadleError, OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"{paint('error:', 'red', sys.stderr)} {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


def resolve(address: str, protocol: str | None) -> str:
    """The address with its scheme. The two default ports stand for one another when the protocol is the other one.

    ValueError: the address names another protocol, and its port says nothing of the wanted one.
    """
    if "://" not in address:
        address = f"{'http' if protocol == 'rest' else 'grpc'}://{address}"
    parts = urlsplit(address)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{address!r} is not an address; wanted grpc://HOST:PORT or http://HOST:PORT")
    wanted = {None: parts.scheme, "grpc": "grpc", "rest": "https" if parts.scheme == "https" else "http"}[protocol]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or PORTS[parts.scheme]
    if wanted == parts.scheme:
        return f"{wanted}://{host}:{port}"
    if port != PORTS[parts.scheme]:
        raise ValueError(f"--protocol {protocol} does not fit {address}; name the server's {protocol} port")
    return f"{wanted}://{host}:{PORTS[wanted]}"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(prog="ladle", description="Ask a model server: embedded or TensorFlow Serving.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("the server and the answer")
    group.add_argument(
        "--address",
        default=os.environ.get("LADLE_ADDRESS", DEFAULT_ADDRESS),
        help="grpc://HOST:PORT or http://HOST:PORT (default: $LADLE_ADDRESS, now %(default)s)",
    )
    group.add_argument("--protocol", choices=["grpc", "rest"], help="default: the one that the address names")
    group.add_argument("--timeout", type=_seconds, default=30.0, help="seconds to wait (default: %(default)g)")
    group.add_argument("--json", action="store_true", help="answer in JSON")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--version", type=int, help="version of the model (default: the latest)")
    which.add_argument("--label", help="version label, e.g. stable, instead of a version")

    def verb(name: str, summary: str, example: str, *, versioned: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog="example:\n  " + example.replace("\n", "\n  "),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[which, shared] if versioned else [shared],
        )
        added.set_defaults(run=getattr(commands, name))
        return added

    added = verb("status", "which models a server has, in which version and state", "ladle status", versioned=False)
    added.add_argument("names", nargs="*", metavar="NAME", help="models (default: those in the repository)")
    added.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="folder whose models are asked about when no NAME is given (default: %(default)s)",
    )

    added = verb("classify", "what an image shows", "ladle classify lenet5 shoe.png --top 3")
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG files")
    added.add_argument("--top", type=_positive, default=5, help="classes to show (default: %(default)s)")

    added = verb(
        "sentiment",
        "whether a text is positive or negative",
        'ladle sentiment "a lovely film, warm and funny"\nladle sentiment - < reviews.txt    # one text a line',
    )
    added.add_argument("texts", nargs="+", metavar="TEXT", help="texts; - reads them from stdin, one a line")
    added.add_argument("--name", default="sentiment_lstm", help="model (default: %(default)s)")

    added = verb("generate", "draw new images from a seed", "ladle generate wgan_gp -n 16 --seed 7 --output grid.png")
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("-n", type=_positive, default=16, help="images (default: %(default)s)")
    added.add_argument("--seed", type=int, default=0, help="same seed, same images (default: %(default)s)")
    added.add_argument("--output", type=Path, help="PNG to write (default: NAME.png)")

    added = verb(
        "segment",
        "which class each pixel of an image belongs to",
        "ladle segment unet cells.png --output overlay.png --mask mask.png",
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help="PNG or JPEG file")
    added.add_argument("--output", type=Path, help="PNG with the classes over the image (default: IMAGE-mask.png)")
    added.add_argument("--mask", type=Path, help="PNG whose pixel values are the class ids")
    added.add_argument("--opacity", type=_share, default=0.5, help="of the classes, 0 to 1 (default: %(default)s)")

    added = verb(
        "reconstruct", "an image as an auto-encoder sees it", "ladle reconstruct vae shoe.png --output two.png"
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help="PNG or JPEG file")
    added.add_argument("--output", type=Path, help="PNG to write (default: IMAGE-NAME.png)")

    added = verb("regress", "a number for each row of features", "ladle regress house_prices 0.1,18,2.3 0.2,0,7.1")
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("rows", nargs="+", type=_row, metavar="VALUES", help="features of one example, with commas")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _row(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 0.5,1.2") from None


if __name__ == "__main__":
    sys.exit(main())
