"""Data sets by name.

Real data come from the user's path, the cache, a package or the original download, tried in this order. Generated data
come only on request, and their name says so.

    dataset = load("fashion_mnist")
    dataset.train.x  uint8 [55000, 28, 28, 1]
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ladle.training.data import registry
from ladle.training.data.dataset import Contents, Dataset, Kind, Provenance, Split
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.cache import root
from ladle.training.data.fetch.progress import Progress, Silent, Terminal
from ladle.training.data.fetch.sources import digest
from ladle.training.data.recognise import holds_table, recognise
from ladle.training.data.registry import OWN, own_name
from ladle.training.data.sets import (
    boston_housing,
    brain_slices,
    cifar,
    diabetes,
    fashion_mnist,
    image_folder,
    imdb,
    mask_folder,
    mnist,
    nuclei,
    photographs,
    synthetic,
    table,
)
from ladle.training.data.sets.table import decide

__all__ = [
    "OWN",
    "Contents",
    "DataError",
    "Dataset",
    "Info",
    "Progress",
    "Provenance",
    "Silent",
    "Split",
    "Terminal",
    "decide",
    "describe",
    "fetch",
    "holds_table",
    "load",
    "names",
    "options",
    "own_name",
    "recognise",
]

_REGISTRY = registry.Registry(
    [
        *boston_housing.DATASETS,
        *brain_slices.DATASETS,
        *cifar.DATASETS,
        *diabetes.DATASETS,
        *fashion_mnist.DATASETS,
        *image_folder.DATASETS,
        *imdb.DATASETS,
        *mask_folder.DATASETS,
        *mnist.DATASETS,
        *nuclei.DATASETS,
        *photographs.DATASETS,
        *synthetic.DATASETS,
        *table.DATASETS,
    ]
)


@dataclass(frozen=True)
class Info:
    """What `ladle data` lists about a data set. `source` is where it would come from now."""

    name: str
    kind: Kind
    description: str
    splits: str
    origin: str
    licence: str
    labels: tuple[str, ...] | None
    source: str
    sources: tuple[str, ...]
    size_bytes: int
    sha256: str
    present: bool
    synthetic: bool
    path: str | None
    layout: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def names() -> list[str]:
    """The names of all data sets, sorted."""
    return _REGISTRY.names()


def describe(name: str, *, cache: str | Path | None = None) -> Info:
    """Describe a data set and where it would come from now, without fetching anything. DataError: unknown name."""
    entry = _REGISTRY.get(name)
    found = registry.locate(entry, root(cache))
    source = found.source if found else next((s for s in entry.sources if s.missing() is None), None)
    if source is None:
        where = "your own data: --data PATH" if entry.read else registry.GENERATED
    else:
        where = f"{source.title} ({found.how})" if found else source.title
    return Info(
        name=name,
        kind=entry.kind,
        description=entry.description,
        splits=entry.splits,
        origin=entry.origin,
        licence=entry.licence,
        labels=entry.labels,
        source=where,
        sources=tuple(s.title for s in entry.sources),
        size_bytes=source.size_bytes if source else 0,
        sha256=digest(source) if source else "",
        present=found is not None or entry.read is None,
        synthetic=entry.read is None,
        path=str(found.folder) if found else None,
        layout=entry.layout,
    )


def options(name: str, *, synthetic: bool = False) -> tuple[str, ...]:
    """The options that `load` accepts for a data set, or for the generated set in its place."""
    return registry.options_of(_REGISTRY.get(name), synthetic)


def fetch(
    name: str,
    *,
    source: str | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a data set into the cache unless it is there; return the folder with its files.

    source  one of "debian", "pypi", "npm", "original"; without it, all sources of the data set are tried in order

    DataError names every source that was tried and why it failed.
    """
    return registry.resolve(_REGISTRY.get(name), root(cache), progress or Silent(), source).folder


def load(
    name: str,
    *,
    path: str | Path | None = None,
    synthetic: bool = False,
    allow_synthetic: bool = False,
    seed: int = 42,
    cache: str | Path | None = None,
    source: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Dataset:
    """Load a data set, split by `seed`.

    path             the user's own files, in the layout that `describe(name).layout` names
    synthetic        load a generated set of the same kind and shape instead; its name says so
    allow_synthetic  the same, but only if no real data can be found
    options          options of this data set, such as height, width, channels, tile, count

    DataError: an unknown name or option, no source with the data, or a file that cannot be read.
    """
    entry = _REGISTRY.get(name)
    report = progress or Silent()
    drawn = synthetic or entry.read is None
    # Checked before anything is fetched. With allow_synthetic either the reader or the generator may get the options.
    registry.check_options(entry, options, real=not drawn, drawn=drawn or allow_synthetic)
    if drawn:
        if path is not None:
            raise DataError(f"{name}: got --data PATH and generated data; expected one of the two")
        return registry.generated(entry, seed, options)
    if path is not None:
        return registry.from_path(entry, Path(path).expanduser(), seed, options)
    try:
        found = registry.resolve(entry, root(cache), report, source)
    except DataError as error:
        if not allow_synthetic:
            raise
        report.say(f"{error}. Using SYNTHETIC data instead.")
        return registry.generated(entry, seed, options)
    report.say(f"{name}: {found.source.title} ({found.how})")
    return registry.from_source(entry, found, seed, options)
