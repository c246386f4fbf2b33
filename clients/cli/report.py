"""`ladle report`: figures, curves, mistakes and card of a trained model, from its folder."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ladle.clients.argument_types import Parser
from ladle.clients.drawing import inline, terminal
from ladle.clients.json_output import print_json
from ladle.clients.library import cards

OPENERS = {"darwin": ["open"], "win32": ["cmd", "/c", "start", ""], "linux": ["xdg-open"]}
ORDER = ("curves", "confusion", "mistakes", "answers", "masks", "reconstructions", "filtered", "samples", "latent")
CELL_PIXELS = 800
"""Pictures in the terminal are at most this wide."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report of a version. Returns the exit code: 0 done, 1 failed."""
    given = build_parser().parse_args(argv)
    try:
        folder = cards.folder(given.repository, given.name, given.version)
        _report(folder, given)
    except (OSError, ValueError) as error:
        terminal.print_error("ladle report", error)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of `ladle report`."""
    parser = Parser(
        prog="ladle report",
        description="Show figures, training curves, confusion matrix, worst mistakes and card of a trained model.",
        epilog="examples:\n  ladle report lenet5\n  ladle report lenet5 --open",
    )
    parser.add_argument("name", metavar="NAME", help="model")
    parser.add_argument("--version", type=int, help="version of the model (default: the newest)")
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="folder of the models (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the pictures in the system's viewer")
    parser.add_argument(
        "--inline",
        action=argparse.BooleanOptionalAction,
        help="show the pictures in the terminal (default: if it can)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def pictures(folder: Path) -> list[Path]:
    """The pictures of a version's report, in ORDER."""
    found = (folder / "assets.extra" / "report").glob("*.png")
    return sorted(found, key=lambda path: (ORDER.index(path.stem) if path.stem in ORDER else len(ORDER), path.name))


def _report(folder: Path, given: argparse.Namespace) -> None:
    card, found = cards.read(folder), pictures(folder)
    if card is None and not found:
        raise FileNotFoundError(f"got {folder} without card and report; expected a model that Ladle has trained")
    if given.json:
        answer = {"model": given.name, "folder": str(folder), "pictures": [str(path) for path in found], "card": card}
        print_json(answer)
    else:
        print(f"{terminal.paint(given.name, 'bold')} version {folder.name}")
        print(terminal.table([("", ""), *_facts(card or {})]).lstrip("\n"))
        for path in found:
            print(f"\n{terminal.paint(path.stem, 'bold')}  {path}")
            with Image.open(path) as picture:
                inline.show(_fitted(picture), given.inline)
    if given.open:
        for path in found:
            _open(path)


def _facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    data, splits = card.get("data") or {}, (card.get("data") or {}).get("splits") or {}
    sizes = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    named = f"{data.get('name', '-')}{' (SYNTHETIC)' if data.get('synthetic') else ''}"
    rows = [("network", card.get("description")), ("task", card.get("task"))]
    rows += [("data", f"{named}: {sizes}" if sizes else named), ("from", data.get("source"))]
    for split, figures in (card.get("metrics") or {}).items():
        rows += [(f"{split}: {name}", f"{value:.4g}") for name, value in figures.items() if _is_number(value)]
        for name, parts in figures.items():
            if isinstance(parts, dict):
                rows += [
                    (f"{split}: {name}, {part}", f"{value:.4g}") for part, value in parts.items() if _is_number(value)
                ]
    seconds = card.get("training_seconds")
    if seconds is not None:
        rows.append(("trained", f"{card.get('epochs')} epochs in {seconds:.0f} s on {card.get('machine')}"))
    rows.append(("weights", f"{card['parameters']:,}" if card.get("parameters") else None))
    made = card.get("quantized") or {}
    for name, graph in (card.get("onnx") or {}).items():
        parity = graph.get("parity") or {}
        if how := (made.get("graphs") or {}).get(name):
            head = made.get("headline") or {}
            cost = f"{head.get('name')} {head.get('before') or 0:.4g} → {head.get('after') or 0:.4g}"
            rows.append((name, f"{how.get('method')}, {how.get('ratio')}× as fast on {made.get('processor')}; {cost}"))
            continue
        said = f"{parity.get('inputs')} inputs, TensorFlow and ONNX Runtime differ by {parity.get('max_abs') or 0:.1e}"
        rows.append((name, said))
    return [(key, str(value)) for key, value in rows if value is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fitted(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGB")
    if picture.width > CELL_PIXELS:
        picture.thumbnail((CELL_PIXELS, CELL_PIXELS * 2))
    return picture


def _open(path: Path) -> None:
    """Open a picture in the system's viewer. FileNotFoundError: the system has none."""
    command = OPENERS.get(sys.platform, OPENERS["linux"])
    try:
        subprocess.Popen(
            [*command, str(path.resolve())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"{command[0]} is not installed; the pictures are at {path.parent}") from None


if __name__ == "__main__":
    sys.exit(main())
