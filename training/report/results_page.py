"""The page of all results: a table, checked claims, published results, and every run with its picture."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ladle.training.data import own_name
from ladle.training.evaluate.headline import compared, figures, headline, shown, trivial
from ladle.training.loop.config import NO_PRESET
from ladle.training.quiet import without_stderr
from ladle.training.report import claims
from ladle.training.report.pictures import FEW
from ladle.training.report.recorded import Record, data, distinct, key, nearest, own, trained_on
from ladle.training.store import publish

if TYPE_CHECKING:
    from ladle.models._network import Claim

PICTURE_BYTES = 150_000
COLOURS = 64
CHOICE: Mapping[str, tuple[str, ...]] = {
    "classify": ("answers.png", "confusion.png"),
    "sentiment": ("curves.png",),
    "segment": ("masks.png",),
    "reconstruct": ("reconstructions.png",),
    "generate": ("samples.png", "density.png"),
    "regress": ("descents.png", "scatter.png"),
    "filter": ("filtered.png",),
}
"""The pictures that show most of a task, the best first; else the curves are shown."""
SECOND: Mapping[str, str] = {"reconstruct": "latent.png"}
"""A further picture of a task."""
MANY_CLASSES = 20
OF_DATA = {"height", "width", "channels", "num_classes", "vocab_size", "features"}
"""Options that the data set sets."""
INTRODUCTION = """# Results

`python -m ladle.training.report.results` writes this page from the model cards of real runs; nothing here is typed by
hand. Metrics are measured on the test split, with the weights of the epoch that was best on the validation split, or
of the last one where the recipe says so. Generated data are marked as synthetic. Parity is the largest difference
between TensorFlow and ONNX Runtime on at least 64 inputs. Baselines are what simple methods reach on the same split, in
the metric that stands with them; the table has the best one. "1 of them used" after a machine's name: several networks
were trained at once, each with a share of the cores; "1 x": the run had one core.
"""


@dataclass(frozen=True)
class Entry:
    """What the page says about a network besides its records.

    aim        the published result that its preset `full` aims for; empty: none
    full_data  the data set of that preset
    presets    the options of each preset; "": the network's own defaults
    claims     statements to check against its records
    leads      the preset whose figure stands for the network
    trained    whether it has weights that training changes
    """

    aim: str
    full_data: str
    presets: Mapping[str, Mapping[str, Any]]
    claims: Sequence[Claim] = ()
    leads: str = "quick"
    trained: bool = True


def registered() -> dict[str, Entry]:
    """The entries of all networks in the registry."""
    with without_stderr():
        from ladle import models
        from ladle.training.loop import config

    found = {}
    for name in models.names():
        network = models.get(name)
        presets = {each: config.as_dict(config.compose(network, each)) for each in network.presets}
        presets[""] = config.as_dict(network.config)
        found[name] = Entry(
            network.aim,
            presets.get("full", {}).get("data", ""),
            presets,
            network.claims,
            network.leads,
            network.trained,
        )
    return found


def write_pictures(repository: Path, entries: Iterable[Record], folder: Path) -> dict[str, tuple[str, ...]]:
    """Write small pictures of each newest version's report into `folder`; their records' keys, by name without `.png`.

    A network's picture is called after it, whatever the data; a second one has `-` and its own name after that.
    Networks trained on the user's own files get no picture: those files may be private.
    """
    drawn = {}
    for entry in entries:
        if own(entry):
            continue
        name = entry["network"]
        versions = list(publish.versions(repository / name).values())
        report = versions[-1] / "assets.extra" / "report"
        choice = [*CHOICE.get(entry["task"], ()), "curves.png"]
        if len(entry["config"].get("classes", ())) + entry["config"].get("num_classes", 0) > MANY_CLASSES:
            choice = ["answers.png", "curves.png"]  # a confusion matrix of 100 classes cannot be read at this size
        for file in choice:
            if (report / file).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}.png").write_bytes(small((report / file).read_bytes()))
                drawn[name] = key(entry)
                break
        second = report / SECOND.get(entry["task"], "")
        if second.is_file():
            (folder / f"{name}-{second.name}").write_bytes(small(second.read_bytes()))
            drawn[f"{name}-{second.stem}"] = key(entry)
    return drawn


def pictures_in(folder: Path) -> dict[str, str]:
    """The pictures in a folder beside the page: paths from there, by name without `.png`."""
    return {path.stem: f"{folder.name}/{path.name}" for path in sorted(folder.glob("*.png"))}


def small(png: bytes) -> bytes:
    """The picture in at most PICTURE_BYTES: in 256 colours, else in COLOURS, else scaled down as well."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    colours, scale = 256, 1.0
    while True:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        packed = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).quantize(colours).save(packed, "PNG", optimize=True)
        if packed.tell() <= PICTURE_BYTES or min(size) <= 16:
            return packed.getvalue()
        scale *= 0.85 if colours == COLOURS else 1.0
        colours = COLOURS


def command(entry: Record, presets: Mapping[str, Mapping[str, Any]]) -> str:
    """The command that repeats a run: the preset, and the options that differ from it."""
    words = ["ladle train", entry["network"]]
    words.append(f"--preset {entry['preset'] or NO_PRESET}")
    if own(entry):
        words.append(f"--data-path {shlex.quote(own(entry))}")
    if "initial" in entry:
        words.append(f"--initial-weights {_initial(entry['initial']['source'])}")
    if entry.get("precision", "float32") != "float32":
        words.append(f"--precision {entry['precision']}")
    base, mine = presets.get(entry["preset"] or "", {}), entry.get("config")
    for name, value in (mine or {}).items():
        if name in base and base[name] != value and name not in OF_DATA:
            shown = shlex.quote(",".join(map(str, value)) if isinstance(value, list) else str(value))
            flag = name.replace("_", "-")
            words.append(f"--{flag}" if value is True else f"--no-{flag}" if value is False else f"--{flag} {shown}")
    # What was added after the run, and is on now, was off then; of numbers, the network's default is what does nothing.
    plain = presets.get("", {})
    for name, value in base.items():
        if not mine or name in mine:
            continue
        flag = name.replace("_", "-")
        if value is True:
            words.append(f"--no-{flag}")
        elif name in plain and isinstance(value, int | float) and value != plain[name]:
            words.append(f"--{flag} {plain[name]}")
    return " ".join(words)


def _initial(source: str) -> str:
    """Where the weights that a run began with lie: of `NAME version N` its folder in the repository, else the file."""
    name, _, version = own_name(source).partition(" version ")
    return shlex.quote(f"model_repository/{name}/{version}" if version else name)


def page(
    entries: Sequence[Record],
    networks: Mapping[str, Entry],
    pictures: Mapping[str, str],
    hours: Mapping[str, str] | None = None,
) -> str:
    """The whole page.

    pictures  paths by name, relative to the page; each is shown with the record that names it
    hours     what the preset `full` would take, in words, by network, of those that were not run to its end
    """
    presets = {entry["preset"] for entry in entries}
    by_preset = [entry for preset in presets for entry in newest(e for e in entries if e["preset"] == preset)]
    statements = {name: network.claims for name, network in networks.items() if network.claims}
    runs = distinct(entries)
    parts = [
        INTRODUCTION,
        "## Networks\n\n" + _table(runs, networks),
        "## Checks\n\nEach is checked on a run with `--preset quick`, unless it names another.\n\n"
        + _checks(claims.check(statements, by_preset)),
        PUBLISHED + _published(entries, networks, hours or {}),
        "## Runs\n\n" + "\n".join(_run(entry, networks, pictures) for entry in runs),
    ]
    return "\n".join(parts)


def newest(entries: Iterable[Record]) -> list[Record]:
    """The newest record of each network."""
    by_name = {entry["network"]: entry for entry in sorted(entries, key=lambda entry: str(entry["created"]))}
    return [by_name[name] for name in sorted(by_name)]


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _table(entries: Iterable[Record], networks: Mapping[str, Entry]) -> str:
    header = ["network", "preset", "data", "examples: training / validation / test", "weights", "epochs", "trained in"]
    header += ["test metric", "baseline", "parity", "SavedModel", "ONNX"]
    return _rows(header, [_cells(entry, networks) for entry in entries])


def _cells(entry: Record, networks: Mapping[str, Entry]) -> tuple[str, ...]:
    splits = {**entry.get("splits", {"test": entry["examples"]})}
    if (used := trained_on(entry)) is not None:
        splits["train"] = used
    sizes = " / ".join(f"{splits[name]:,}" if name in splits else "?" for name in ("train", "validation", "test"))
    minutes, seconds = divmod(int(entry["seconds"]), 60)
    weights = f"{entry['parameters']:,}" if entry.get("parameters") else "?"
    if entry["network"] in networks and not networks[entry["network"]].trained:
        weights = "—"
    return (
        f"[`{entry['network']}`](#{_anchor(entry)})",
        _presets(entry) or "own",
        data(entry),
        sizes,
        weights,
        _epochs(entry),
        f"{minutes}:{seconds:02d}",
        _headline(entry),
        trivial(entry["metrics"], entry.get("more", {}).get("baselines"), entry.get("folds")) or "—",
        "—" if entry["parity"] is None else f"{entry['parity']:.0e}",
        _size(entry.get("saved_bytes")),
        _size(entry["onnx_bytes"]),
    )


def _presets(entry: Record) -> str:
    return " and ".join(sorted([*entry.get("also", []), entry["preset"]], reverse=True)) if entry["preset"] else ""


def _size(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def _checks(made: Iterable[claims.Checked]) -> str:
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = [(each.statement, each.found, words[each.reached]) for each in made]
    return _rows(("statement", "measured", ""), rows)


def _published(entries: Iterable[Record], networks: Mapping[str, Entry], hours: Mapping[str, str]) -> str:
    rows = []
    for name, network in networks.items():
        mine = nearest((entry for entry in entries if entry["network"] == name), network.full_data)
        full = [entry for entry in mine if entry["preset"] == "full"]
        needed = hours.get(name, "")
        if full:
            here = f"{_here(full[0], network)}{f'; all: {needed}' if needed else ''}"
        else:
            other = f"{_other(mine[0], network)}; " if mine else ""
            here = f"{other}`full` not run{f': {needed}' if needed else ''}"
        aim = network.aim or "nothing published for this network on this data"
        rows.append((f"`{name}`", network.full_data, aim, f"`ladle train {name} --preset full`", here))
    return _rows(("network", "data", "published", "command", "here"), rows)


def _here(entry: Record, network: Entry) -> str:
    """The headline, the data, the weights, and how many of the preset's epochs were trained, if it was fewer."""
    epochs = _whole(network.presets.get("full", {}))
    fewer = "" if is_whole(entry, network) else f", {entry['epochs']} of {epochs} epochs"
    return f"{_measured(entry, network)}{fewer}"


def _other(entry: Record, network: Entry) -> str:
    """The figure of a run that was not the preset `full`."""
    return f"{_measured(entry, network)}, {f'`{p}`' if (p := entry['preset']) else 'own options'}"


def _measured(entry: Record, network: Entry) -> str:
    weights = f" with {entry['parameters']:,} weights" if entry.get("parameters") and network.trained else ""
    return f"{_headline(entry)} on {data(entry)}{weights}"


def is_whole(entry: Record, network: Entry) -> bool:
    """Whether a run had all epochs of the preset `full`."""
    return int(entry["epochs"]) >= _whole(network.presets.get("full", {}))


def _epochs(entry: Record) -> str:
    """The epochs that were trained; "9 of 200" if the run was stopped before it had all that it was asked for."""
    epochs = _whole(entry.get("config") or {})
    return f"{entry['epochs']} of {epochs}" if entry["epochs"] < epochs else str(entry["epochs"])


def _whole(settings: Mapping[str, Any]) -> int:
    """The epochs of a run that nothing stops; 0 if fewer may be the recipe's own, as with patience."""
    return 0 if settings.get("patience") or settings.get("until") else int(settings.get("epochs", 0))


def _headline(entry: Record) -> str:
    return shown(entry["metrics"], entry.get("folds")) or "nothing to measure"


def _anchor(entry: Record) -> str:
    words = (entry["network"], entry["preset"] or "own", entry["data"], *own(entry).split())
    return "-".join(words).lower()


def _run(entry: Record, networks: Mapping[str, Entry], pictures: Mapping[str, str]) -> str:
    name = entry["network"]
    network = networks.get(name, Entry("", "", {}))
    synthetic = ", **synthetic**" if entry["synthetic"] else ""
    minutes, seconds = divmod(int(entry["seconds"]), 60)
    of = f" ({own(entry)})" if own(entry) else ""
    lines = [
        f'<a id="{_anchor(entry)}"></a>\n### {name}, {_presets(entry) or "own options"}, {entry["data"]}{of}\n',
        f"- data: {entry['data']}{synthetic}; {entry.get('source', 'source in the card')}",
        *([f"- {_folds(entry['folds'])}"] if "folds" in entry else []),
        f"- test metrics{' of one split' if 'folds' in entry else ''}: {figures(entry['metrics'])}",
        *[f"- {_name(key, entry)}: {_shown(value)}" for key, value in entry.get("more", {}).items()],
        f"- {_epochs(entry)} epoch{'' if _epochs(entry) == '1' else 's'} in {minutes}:{seconds:02d} on "
        f"{entry['machine']}, seed {entry['seed']}, "
        f"{entry['created'][:10]}",
        f"- again: `{command(entry, network.presets)}`",
    ]
    if "initial" in entry:
        lines.insert(-1, f"- started from the weights of {own_name(entry['initial']['source'])}")
    for each in [each for each in entry.get("pictures", ()) if each in pictures]:
        lines.append(_picture(name, _caption(entry) if each == name else LATENT, pictures[each]))
    return "\n".join(lines) + "\n"


def _folds(summary: Mapping[str, Any]) -> str:
    """'5 folds, mean ± deviation (each): r squared 0.7584 ± 0.0408 (0.8194, …); …', the headline first."""
    found = {name: value for name, value in summary.items() if isinstance(value, Mapping)}
    means = {name: value["mean"] for name, value in found.items()}
    parts = []
    for name in {**headline(means), **means}:
        each = ", ".join(f"{value:.4g}" for value in found[name].get("each", ()))
        spread = f"{found[name]['mean']:.4g} ± {found[name]['deviation']:.3g}"
        parts.append(f"{name.replace('_', ' ')} {spread}{f' ({each})' if each else ''}")
    return f"{summary['count']} folds, mean ± deviation (each): {'; '.join(parts)}"


def _picture(name: str, caption: str, path: str) -> str:
    """A picture; what a caption says after its semicolon, where to look, stands below it."""
    shown, _, look = caption.partition("; ")
    below = f"\n\n*{look[0].upper()}{look[1:]}.*" if look else ""
    return f"\n![{name}: {shown}]({path}){below}"


def _name(key: str, entry: Record) -> str:
    """What stands before an entry of `more`; baselines have their metric, which is not always the headline."""
    words = CODE_OFF_NORMAL if key == "code_off_normal" else key.replace("_", " ")
    return f"{words}, {compared(entry['metrics']).replace('_', ' ')}" if key == "baselines" else words


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        named = {key.replace("_", " "): figure for key, figure in value.items()}
        return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in named.items())
    return str(value)


def _caption(entry: Record) -> str:
    if "minima_reached" in entry["metrics"]:
        return "descents to three minima over the contours, and the surface from below; look where each path ends"
    if entry.get("task") == "classify" and entry["examples"] <= FEW:
        return "all test images with their answers; look at what the wrong ones show"
    if "mended_squared_error" in entry["metrics"]:
        return "originals, corrupted, mended; look for what the network cannot know and invents"
    if "sliced_wasserstein" in entry["metrics"]:
        return "the critic's contours with real points, and with generated ones; look for points between the clusters"
    if "folds" in entry and entry.get("task") == "regress":
        return CAPTIONS["regress"].replace("true;", "true on one split, which may be a lucky one;")
    return CAPTIONS.get(entry.get("task", ""), "metrics by epoch")


PUBLISHED = """## Published results

What the preset `full` aims for, with its source, and the hours that it would take where it was not run to the end. "At
the rate of its own run": from the seconds an image of that run, on the machine in brackets, for all images and epochs
of the preset; where an option of the run differs, in proportion to the multiplications. "At least": from the
multiplications alone, at the rate of the longest run on two cores; most networks need more time for each.

"""
CODE_OFF_NORMAL = "codes, largest distance of a dimension from N(0, 1)"
LATENT = (
    "left, codes drawn at random, decoded, and right, a walk between the codes of four images; look for shapes that "
    "are no garment: there the latent space has a hole"
)
CAPTIONS = {
    "classify": "answers by true class; look for the pairs of classes that are mistaken for each other",
    "sentiment": "metrics by epoch; look where validation stops following training",
    "segment": "images, true and predicted masks; look at the outlines and at small objects",
    "reconstruct": "images and their reconstructions; look at prints and laces, which so few numbers cannot hold",
    "generate": "generated images beside real ones; look for torn outlines and repeated images",
    "regress": "predicted against true; look how far the points lie from the diagonal",
    "filter": "images, sharpened, blurred, their edges, their Sobel gradients; look at what a flat area becomes",
}
