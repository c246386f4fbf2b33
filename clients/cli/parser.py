"""The verbs that ask a server, with their options, help and examples."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from ladle.clients.argument_types import Parser, natural, positive, seconds, share
from ladle.clients.cli.options import (
    array_file,
    code,
    mask_file,
    model_option,
    picture_file,
    picture_options,
    row,
    server_options,
    version_options,
)
from ladle.clients.cli.verbs import SUMMARIES

REPOSITORY = Path("model_repository")
NUMBERS = re.compile(r"-[\d.][\d.,eE+-]*$")
"""An argument that begins with - and is numbers all the same: a code or a row."""

_IMAGE_FILE = "image file (PNG, JPEG, WebP, TIFF …); -: stdin"


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options; `run` names the function of a verb as `module:function`."""
    parser = Parser(prog="ladle", description="Ask a model server: Ladle's own or TensorFlow Serving.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_about_models, _images, _codes, _text_and_numbers, _bench, _replay):
        add(verbs)
    return parser


def _verb(
    verbs: Any, name: str, example: str, run: str, versioned: bool = True, pictures: bool = False
) -> argparse.ArgumentParser:
    summary = SUMMARIES[name]
    added: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n  " + example.replace("\n", "\n  "),
        parents=[
            *([version_options()] if versioned else []),
            *([picture_options()] if pictures else []),
            model_option(),
            server_options(),
        ],
    )
    added._negative_number_matcher = NUMBERS  # argparse's own takes -0.5 as a number, but not -0.5,1
    added.set_defaults(run=run)
    return added


def _about_models(verbs: Any) -> None:
    added = _verb(
        verbs,
        "status",
        "ladle status\nladle status lenet5 --watch",
        "ladle.clients.cli.status:status",
        versioned=False,
    )
    added.add_argument("names", nargs="*", metavar="NAME", help="models (default: all)")
    added.add_argument(
        "--repository",
        type=Path,
        default=REPOSITORY,
        help="folder whose models are looked up if no NAME is given and the server cannot list its models, as "
        "TensorFlow Serving cannot (default: %(default)s)",
    )
    added.add_argument("--watch", action="store_true", help="update until Ctrl-C; with --json a line for each update")
    added.add_argument("--interval", type=seconds, default=1.0, help="seconds between updates (default: %(default)g)")

    added = _verb(
        verbs,
        "metadata",
        "ladle metadata lenet5",
        "ladle.clients.cli.predict:metadata",
    )
    added.add_argument("name", metavar="NAME", help="model")

    added = _verb(
        verbs,
        "predict",
        "ladle predict vae --signature generate --input n=2 --input seed=7\n"
        "ladle predict lenet5 --input image=@image.npy --output probabilities=p.npy\n"
        """ladle predict sentiment_lstm --signature text --input 'text=["a fine film"]'""",
        "ladle.clients.cli.predict:predict",
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("--signature", default="serving_default", help="default: %(default)s")
    added.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="JSON, else text; @FILE.npy and @FILE.json hold the value; any other @FILE, or stdin as @-, is sent as "
        "bytes",
    )
    added.add_argument(
        "--output", action="append", default=[], metavar="NAME=FILE.npy", help="write an output to a file"
    )


def _images(verbs: Any) -> None:
    added = _verb(
        verbs,
        "classify",
        "ladle classify lenet5 shoe.png --top 3\nladle classify lenet5 - < shoe.png",
        "ladle.clients.cli.tasks:classify",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="image files (PNG, JPEG, WebP, TIFF …); -: stdin"
    )
    added.add_argument("--top", type=positive, default=5, help="classes to show (default: %(default)s)")

    added = _verb(
        verbs,
        "segment",
        "ladle segment unet cells.png --output overlay.png --mask mask.png",
        "ladle.clients.cli.tasks:segment",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help=_IMAGE_FILE)
    added.add_argument(
        "--output",
        type=picture_file,
        metavar="FILE",
        help="picture to write, the image under its classes (default: ./IMAGE-mask.png)",
    )
    added.add_argument(
        "--mask", type=mask_file, metavar="FILE", help="picture to write, whose pixel values are the class ids"
    )
    added.add_argument(
        "--opacity", type=share, default=0.5, help="opacity of the classes, 0 to 1 (default: %(default)s)"
    )
    added.add_argument(
        "--repository",
        type=Path,
        default=REPOSITORY,
        help="folder with the model's card, which has the labels of the classes (default: %(default)s)",
    )

    added = _verb(
        verbs,
        "generate",
        "ladle generate wgan_gp -n 16 --seed 0 --output grid.png",
        "ladle.clients.cli.tasks:generate",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("-n", type=positive, default=16, help="number of images (default: %(default)s)")
    added.add_argument("--seed", type=int, default=0, help="the same seed gives the same images (default: %(default)s)")
    added.add_argument("--output", type=picture_file, metavar="FILE", help="picture to write (default: ./NAME.png)")

    added = _verb(
        verbs,
        "reconstruct",
        "ladle reconstruct vae shoe.png --output two.png\n"
        "ladle reconstruct denoising_autoencoder shoe.png --noise 0.3    # adds noise, then removes it",
        "ladle.clients.cli.tasks:reconstruct",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help=_IMAGE_FILE)
    added.add_argument(
        "--noise",
        type=share,
        default=0.0,
        help="standard deviation of noise to add first (1: from black to white); the picture then shows the image, the "
        "noisy input and the copy (default: %(default)g)",
    )
    added.add_argument(
        "--dropout", type=share, default=0.0, help="share of the pixels to black out first (default: %(default)g)"
    )
    added.add_argument("--seed", type=natural, default=0, help="seed of noise and dropout (default: %(default)s)")
    added.add_argument(
        "--output", type=picture_file, metavar="FILE", help="picture to write (default: ./IMAGE-NAME.png)"
    )

    added = _verb(
        verbs,
        "filter",
        "ladle filter filters shoe.png --output filtered.png",
        "ladle.clients.cli.tasks:filtered",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help=_IMAGE_FILE)
    added.add_argument(
        "--output", type=picture_file, metavar="FILE", help="picture to write (default: ./IMAGE-NAME.png)"
    )


def _codes(verbs: Any) -> None:
    added = _verb(
        verbs,
        "interpolate",
        "ladle interpolate vae shoe.png boot.png --steps 8 --output blend.png",
        "ladle.clients.cli.tasks:interpolate",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("first", type=Path, metavar="FIRST", help=_IMAGE_FILE)
    added.add_argument("second", type=Path, metavar="SECOND", help=_IMAGE_FILE)
    added.add_argument(
        "--steps", type=positive, default=8, help="number of images, both ends included (default: %(default)s)"
    )
    added.add_argument(
        "--output", type=picture_file, metavar="FILE", help="picture to write (default: ./NAME-interpolation.png)"
    )

    added = _verb(
        verbs,
        "encode",
        "ladle encode vae shoe.png --output code.npy",
        "ladle.clients.cli.tasks:encode",
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("image", type=Path, metavar="IMAGE", help=_IMAGE_FILE)
    added.add_argument("--output", type=array_file, metavar="FILE.npy", help="file to write the code to, as an array")

    added = _verb(
        verbs,
        "decode",
        "ladle decode vae 0.5,-1,0,0,0,1.2,0,0,0,0 --output image.png\nladle decode vae @code.npy",
        "ladle.clients.cli.tasks:decode",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("code", type=code, metavar="CODE", help="numbers separated by commas, or @FILE.npy")
    added.add_argument(
        "--output", type=picture_file, metavar="FILE", help="picture to write (default: ./NAME-decoded.png)"
    )


def _text_and_numbers(verbs: Any) -> None:
    added = _verb(
        verbs,
        "sentiment",
        'ladle sentiment sentiment_lstm "a lovely film" "a dull one"\n'
        "ladle sentiment sentiment_lstm < reviews.txt    # one text per line",
        "ladle.clients.cli.tasks:sentiment",
    )
    added.add_argument(
        "name", nargs="?", metavar="NAME", help="model (default: the only served model that has this task)"
    )
    added.add_argument("texts", nargs="*", metavar="TEXT", help="texts; without any, or for -, the lines of stdin")

    added = _verb(
        verbs,
        "neighbours",
        "ladle neighbours sentiment_lstm brilliant\nladle neighbours sentiment_lstm brilliant awful -n 10",
        "ladle.clients.cli.tasks:neighbours",
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument("words", nargs="+", metavar="WORD", help="words of its vocabulary")
    added.add_argument("-n", type=positive, default=5, help="neighbours to list, at most 10 (default: %(default)s)")

    added = _verb(
        verbs,
        "regress",
        "ladle regress linear_regression 1 2.5 -3\n"
        "ladle regress house_prices 0.006,18,2.31,0,0.538,6.575,65.2,4.09,1,296,15.3,396.9,4.98",
        "ladle.clients.cli.tasks:regress",
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument(
        "rows", nargs="+", type=row, metavar="VALUES", help="features of one example, separated by commas"
    )

    added = _verb(
        verbs,
        "minimise",
        "ladle minimise himmelblau 1,0\nladle minimise himmelblau 1,0 -4,0 4,0 --output descents.png",
        "ladle.clients.cli.tasks:minimise",
        pictures=True,
    )
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument(
        "starts", nargs="+", type=row, metavar="START", help="coordinates of a start, separated by commas"
    )
    added.add_argument(
        "--output",
        type=picture_file,
        metavar="FILE",
        help="picture to write in two dimensions: the paths over contour lines (default: ./NAME.png)",
    )


def _bench(verbs: Any) -> None:
    added = _verb(
        verbs,
        "bench",
        "ladle bench lenet5 --connections 8 --seconds 5\n"
        "ladle bench lenet5 --rate 500 --protocol both --output latency.png",
        "ladle.clients.cli.bench:bench",
    )
    for action in added._actions:
        if action.dest == "protocol":
            action.choices = ["grpc", "rest", "both"]
    added.add_argument("name", metavar="NAME", help="model")
    added.add_argument(
        "--rest-address",
        metavar="ADDRESS",
        help="REST address for --protocol both (default: the default port at --address)",
    )
    added.add_argument("--signature", default="serving_default", help="default: %(default)s")
    added.add_argument(
        "--input", action="append", default=[], metavar="NAME=VALUE", help="as for predict (default: random inputs)"
    )
    added.add_argument("--batch", type=positive, default=1, help="examples in a random input (default: %(default)s)")
    added.add_argument(
        "--size", type=positive, default=64, help="length of the free axes of random inputs (default: %(default)s)"
    )
    added.add_argument(
        "--rate",
        type=seconds,
        help="open loop: requests per second, sent on time even if answers are late; latency counts from the time at "
        "which a request was due",
    )
    added.add_argument(
        "--connections", type=positive, default=1, help="closed loop: open requests (default: %(default)s)"
    )
    added.add_argument("--seconds", type=seconds, default=10.0, help="seconds to measure (default: %(default)g)")
    added.add_argument("--warm-up", type=seconds, default=1.0, help="seconds before that (default: %(default)g)")
    added.add_argument(
        "--output", type=picture_file, metavar="FILE.png", help="file to write a chart of the latencies to"
    )


def _replay(verbs: Any) -> None:
    added = _verb(
        verbs,
        "replay",
        "ladle replay logs/lenet5-*.tfrecord\n"
        "ladle replay logs/lenet5-*.tfrecord --version 2\n"
        "ladle replay logs/lenet5-*.tfrecord --against grpc://canary:8500 --save-warmup tf_serving_warmup_requests",
        "ladle.clients.cli.replay:replay",
        versioned=False,
    )
    added.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="TFRecord file of PredictionLog, such as a request log"
    )
    other = added.add_mutually_exclusive_group()
    other.add_argument(
        "--against", metavar="ADDRESS", help="compare with the answers of another server (default: the logged answers)"
    )
    other.add_argument(
        "--version", type=natural, metavar="N", help="compare the newest version with this one, on the same server"
    )
    added.add_argument(
        "--tolerance",
        type=share,
        default=1e-4,
        help="difference up to which numbers are the same, times the larger of 1 and the number (default: %(default)g)",
    )
    added.add_argument("--limit", type=positive, metavar="N", help="send at most N requests (default: all)")
    added.add_argument("--connections", type=positive, default=4, help="open requests (default: %(default)s)")
    added.add_argument(
        "--save-warmup",
        type=Path,
        metavar="FILE",
        help="write up to 1000 different requests that were answered as a warm-up file",
    )
