"""What a data set is to the rest of the package, and the resolver that finds its files.

Order: the user's path, the cache, an installed package, a package or the original download fetched into the
cache; generated data only when asked for.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladle.training.data import to_folder
from ladle.training.data.dataset import Contents, Dataset, Kind, Provenance
from ladle.training.data.errors import DataError
from ladle.training.data.fetch import cache as _cache
from ladle.training.data.fetch import sources as _sources
from ladle.training.data.fetch.progress import Progress
from ladle.training.data.fetch.sources import Source

GENERATED = "generated (synthetic)"
OWN = "user's path: "
"""How the source of the user's own files begins; the rest is the last name of their path, as cards are public."""


def own_name(source: str) -> str:
    """Last name of the user's path that a source tells; empty for a source that is not the user's."""
    return source.removeprefix(OWN) if source.startswith(OWN) else ""


@dataclass(frozen=True)
class Entry:
    """One data set: one row of its module's DATASETS.

    `read(path, seed, **options)` reads every layout that people have, the user's and the cache's alike, and is
    None for a set that is only generated; `generate(seed, **options)` draws a set of the same kind and shape.
    `sources` are tried in their order; without any, the user's path is needed.
    """

    name: str
    kind: Kind
    description: str
    origin: str
    licence: str
    splits: str
    layout: str
    generate: Callable[..., Contents]
    generated_name: str
    read: Callable[..., Contents] | None = None
    sources: tuple[Source, ...] = ()
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Published:
    """Files that are fetched and cached as a data set's are: weights that somebody trained, say."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Found:
    """A folder with checked files, the source they are of, and how they were found."""

    folder: Path
    source: Source
    how: str


class Registry:
    """Entries by name; a name given twice is refused."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f'data set "{entry.name}" is registered twice')
            self._entries[entry.name] = entry

    def names(self) -> list[str]:
        return sorted(self._entries)

    def get(self, name: str) -> Entry:
        """The entry, or DataError with the nearest names."""
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, 3, 0.5) or self.names()
        raise DataError(f'no data set is called "{name}"; there is {", ".join(near)}')


def sources_of(entry: Entry | Published, key: str | None) -> tuple[Source, ...]:
    """The entry's sources, or the one that `key` names."""
    if key is None:
        return entry.sources
    chosen = tuple(source for source in entry.sources if source.key == key)
    if not chosen:
        known = ", ".join(source.key for source in entry.sources) or "none: it needs --data PATH"
        raise DataError(f'{entry.name}: no source is called "{key}"; its sources: {known}')
    return chosen


def locate(entry: Entry | Published, cache: Path, key: str | None = None) -> Found | None:
    """What is already on this machine: in the cache, else in an installed package. Fetches nothing."""
    sources = sources_of(entry, key)
    for source in sources:
        folder = _cache.folder(cache, entry.name, source.key)
        if _cache.present(folder):
            return Found(folder, source, "from the cache")
    for source in sources:
        installed = source.installed()
        if installed is not None:
            return Found(installed, source, "installed")
    return None


def resolve(
    entry: Entry | Published, cache: Path, progress: Progress, key: str | None = None, advice: str = ""
) -> Found:
    """Find the files or fetch them into the cache.

    Raises DataError with what each source said, and what to do, when none of them has the files.
    """
    found = locate(entry, cache, key)
    if found and _whole(found):
        return found
    said = []
    sources = sources_of(entry, key)
    for source in sources:
        if reason := source.missing():
            said.append(f"{source.title}: {reason}")
            continue
        target = _cache.folder(cache, entry.name, source.key)
        try:
            _cache.fill(target, lambda folder, source=source: _fetch(source, folder, progress))  # type: ignore[misc]
        except DataError as error:
            said.append(f"{source.title}: {error}")
            if source is not sources[-1]:
                progress.say(f"{entry.name}: {said[-1]}")
            continue
        return Found(target, source, "fetched")
    if isinstance(entry, Entry):
        if not said:
            raise DataError(f"{entry.name} has no download: give yours with --data PATH ({entry.layout})")
        advice = f"give its files with --data PATH ({entry.layout}), or ask for generated data with --synthetic"
    raise DataError(f"{entry.name} could not be fetched ({'; '.join(said)}); {advice}")


def _whole(found: Found) -> bool:
    if found.how == "from the cache":
        return _cache.intact(found.folder)
    try:
        _sources.check(found.folder, found.source.files)
    except DataError:
        return False
    return True


def _fetch(source: Source, folder: Path, progress: Progress) -> None:
    source.fetch(folder, progress)
    _sources.check(folder, source.files)


def read(entry: Entry, path: Path, seed: int, options: Mapping[str, Any]) -> Contents:
    """Read the user's or the cache's files with the options that the reader knows."""
    assert entry.read is not None
    return entry.read(path, seed, **_known(entry.read, options))


def generated(entry: Entry, seed: int, options: Mapping[str, Any]) -> Dataset:
    """A generated data set, named so."""
    contents = entry.generate(seed, **_known(entry.generate, options))
    instead = f"in place of {entry.name}; " if entry.name != entry.generated_name else ""
    return _dataset(
        entry.generated_name,
        entry.kind,
        contents,
        Provenance(
            name=entry.generated_name,
            source=GENERATED,
            origin="drawn by Ladle, not real data",
            licence="none needed",
            sha256="",
            synthetic=True,
            notes=f"synthetic: {instead}{contents.notes}",
        ),
    )


def from_path(entry: Entry, path: Path, seed: int, options: Mapping[str, Any]) -> Dataset:
    """The user's own files: only their layout is the entry's. DataError when there is nothing at `path`."""
    if entry.read is None:
        raise DataError(f"{entry.name} is generated: it takes no --data PATH")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {entry.name} takes {entry.layout}")
    contents = read(entry, path, seed, options)
    name = contents.name or (f"own_{entry.name}" if entry.sources else entry.name)
    written = to_folder.provenance(path)
    provenance = Provenance(
        name=name,
        source=f"{OWN}{path.resolve().name}",
        origin=written.origin if written else "the user",
        licence=written.licence if written else "the user's",
        sha256=_sum(path, contents.files),
        synthetic=written is not None and written.synthetic,
        notes=f"{contents.notes}; written from {written.name}" if written else contents.notes,
    )
    return _dataset(name, entry.kind, contents, provenance)


def from_source(entry: Entry, found: Found, seed: int, options: Mapping[str, Any]) -> Dataset:
    contents = read(entry, found.folder, seed, options)
    provenance = Provenance(
        name=entry.name,
        source=found.source.title,
        origin=entry.origin,
        licence=entry.licence,
        sha256=_sources.digest(found.source),
        synthetic=False,
        notes=contents.notes,
    )
    return _dataset(entry.name, entry.kind, contents, provenance)


def check_options(entry: Entry, options: Mapping[str, Any], real: bool, drawn: bool) -> None:
    """Refuse an option that neither the reader (if `real`) nor the generator (if `drawn`) knows."""
    known = sorted({*(_options(entry.read) if real else ()), *(_options(entry.generate) if drawn else ())})
    for name in options:
        if name not in known:
            raise DataError(f'{entry.name} has no option "{name}"; it has {", ".join(known) or "none"}')


def options_of(entry: Entry, drawn: bool) -> tuple[str, ...]:
    """The options of the reader, or, with `drawn` or without a reader, of the generator."""
    return tuple(_options(entry.generate if drawn or entry.read is None else entry.read))


def _known(function: Callable[..., Contents], options: Mapping[str, Any]) -> dict[str, Any]:
    known = _options(function)
    return {name: value for name, value in options.items() if name in known}


def _options(function: Callable[..., Contents] | None) -> list[str]:
    if function is None:
        return []
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _dataset(name: str, kind: Kind, contents: Contents, provenance: Provenance) -> Dataset:
    return Dataset(
        name=name,
        kind=kind,
        train=contents.train,
        validation=contents.validation,
        test=contents.test,
        labels=contents.labels,
        provenance=provenance,
        columns=contents.columns,
    )


def _sum(path: Path, files: tuple[Path, ...]) -> str:
    """One digest for the user's files that were read."""
    if not files:
        files = (path,) if path.is_file() else tuple(file for file in path.rglob("*") if file.is_file())
    base = path if path.is_dir() else path.parent
    return _cache.combine({file.relative_to(base).as_posix(): _cache.sha256(file) for file in files})
