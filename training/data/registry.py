"""Entries of data sets, and the resolver that finds their files.

The resolver looks at the user's path, the cache and installed packages, in this order. Then it fetches a package or the
original download into the cache. It uses generated data only on request.
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
from ladle.training.data.fetch import cache, sources
from ladle.training.data.fetch.progress import Progress
from ladle.training.data.fetch.sources import Source

GENERATED = "generated (synthetic)"
OWN = "user's path: "
"""Prefix of the source of the user's own files. Only the last name of the path follows, because cards are public."""


def own_name(source: str) -> str:
    """Last name of the user's path in a source; empty if the data are not the user's own."""
    return source.removeprefix(OWN) if source.startswith(OWN) else ""


@dataclass(frozen=True)
class Entry:
    """One data set: a row in DATASETS of its module.

    read      (path, seed, **options) -> contents; reads every supported layout, of the user's files and of the cache;
              None if the set is only generated
    generate  (seed, **options) -> a generated set of the same kind and shape
    sources   tried in this order; if there are none, the user must give a path
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
    """Files that are fetched and cached like a data set, such as published weights."""

    name: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Found:
    """A folder with checked files, their source, and how they were found."""

    folder: Path
    source: Source
    how: str


class Registry:
    """Entries by name. ValueError if two entries have the same name."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f'data set "{entry.name}" is registered twice')
            self._entries[entry.name] = entry

    def names(self) -> list[str]:
        return sorted(self._entries)

    def get(self, name: str) -> Entry:
        """The entry of that name; DataError with the nearest names if there is none."""
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, 3, 0.75)
        near += [known for known in self.names() if name and known.startswith(name) and known not in near]
        hint = f"did you mean {' or '.join(near)}?" if near else "`ladle data` lists them"
        raise DataError(f'unknown data set "{name}"; {hint}')


def sources_of(entry: Entry | Published, key: str | None) -> tuple[Source, ...]:
    """All sources of an entry, or the one with this key; DataError if it has no such source."""
    if key is None:
        return entry.sources
    chosen = tuple(source for source in entry.sources if source.key == key)
    if not chosen:
        if not entry.sources:
            raise DataError(
                f'{entry.name}: got source "{key}", but it has no download; give your files with --data PATH'
            )
        known = ", ".join(source.key for source in entry.sources)
        raise DataError(f'{entry.name}: unknown source "{key}"; expected one of {known}')
    return chosen


def locate(entry: Entry | Published, root: Path, key: str | None = None) -> Found | None:
    """Find the files on this machine, in the cache below `root`, else in an installed package; fetches nothing."""
    candidates = sources_of(entry, key)
    # The cache of every source comes before any installed package: only cached files are known to be complete.
    for source in candidates:
        folder = cache.folder(root, entry.name, source.key)
        if cache.present(folder):
            return Found(folder, source, "from the cache")
    for source in candidates:
        installed = source.installed()
        if installed is not None:
            return Found(installed, source, "installed")
    return None


def resolve(
    entry: Entry | Published, root: Path, progress: Progress, key: str | None = None, advice: str = ""
) -> Found:
    """Find the files or fetch them into the cache below `root`.

    advice  what to do if no source has the files; for data sets there is a default

    DataError names each source that was tried and why it failed, and says what to do.
    """
    found = locate(entry, root, key)
    # A damaged cache or another version of a package falls through to a fetch.
    if found and _whole(found):
        return found
    failures = []
    candidates = sources_of(entry, key)
    for source in candidates:
        if reason := source.missing():
            failures.append(f"{source.title}: {reason}")
            continue
        target = cache.folder(root, entry.name, source.key)
        try:
            cache.fill(target, lambda folder, source=source: _fetch(source, folder, progress))  # type: ignore[misc]
        except DataError as error:
            failures.append(f"{source.title}: {error}")
            if source is not candidates[-1]:
                progress.say(f"{entry.name}: {failures[-1]}")
            continue
        return Found(target, source, "fetched")
    if isinstance(entry, Entry):
        if not failures:
            raise DataError(f"{entry.name} has no download; give your files with --data PATH ({entry.layout})")
        advice = f"give its files with --data PATH ({entry.layout}), or use generated data with --synthetic"
    raise DataError(f"{entry.name} could not be fetched ({'; '.join(failures)}); {advice}")


def _whole(found: Found) -> bool:
    """Whether the files have the expected checksums: a cache can be damaged, a package can be of another version."""
    if found.how == "from the cache":
        return cache.intact(found.folder)
    try:
        sources.check(found.folder, found.source.files)
    except DataError:
        return False
    return True


def _fetch(source: Source, folder: Path, progress: Progress) -> None:
    source.fetch(folder, progress)
    sources.check(folder, source.files)


def read(entry: Entry, path: Path, seed: int, options: Mapping[str, Any]) -> Contents:
    """Read the user's files or those in the cache, with the options that the reader accepts."""
    assert entry.read is not None
    return entry.read(path, seed, **_known(entry.read, options))


def generated(entry: Entry, seed: int, options: Mapping[str, Any]) -> Dataset:
    """A generated data set; name, source and notes say that it is synthetic."""
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
    """The user's own files in the layout of the entry. DataError when `path` does not exist."""
    if entry.read is None:
        raise DataError(f"{entry.name} is generated; leave out --data PATH")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {entry.layout}")
    contents = read(entry, path, seed, options)
    name = contents.name or (f"own_{entry.name}" if entry.sources else entry.name)
    # Pictures from `ladle data write` keep their origin, so that generated ones stay marked as synthetic.
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
    """The entry's own data, from files that `resolve` found."""
    contents = read(entry, found.folder, seed, options)
    provenance = Provenance(
        name=entry.name,
        source=found.source.title,
        origin=entry.origin,
        licence=entry.licence,
        sha256=sources.digest(found.source),
        synthetic=False,
        notes=contents.notes,
    )
    return _dataset(entry.name, entry.kind, contents, provenance)


def check_options(entry: Entry, options: Mapping[str, Any], real: bool, drawn: bool) -> None:
    """DataError for an option that neither the reader (if `real`) nor the generator (if `drawn`) accepts."""
    known = sorted({*(_options(entry.read) if real else ()), *(_options(entry.generate) if drawn else ())})
    for name in options:
        if name not in known:
            raise DataError(f'{entry.name}: unknown option "{name}"; expected {", ".join(known) or "no options"}')


def options_of(entry: Entry, drawn: bool) -> tuple[str, ...]:
    """The options of the reader; those of the generator if `drawn`, or if there is no reader."""
    return tuple(_options(entry.generate if drawn or entry.read is None else entry.read))


def _known(function: Callable[..., Contents], options: Mapping[str, Any]) -> dict[str, Any]:
    known = _options(function)
    return {name: value for name, value in options.items() if name in known}


def _options(function: Callable[..., Contents] | None) -> list[str]:
    if function is None:
        return []
    # Keyword-only parameters are the options; a reader needs no second list of them.
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
        meanings=contents.meanings,
        categories=contents.categories,
    )


def _sum(path: Path, files: tuple[Path, ...]) -> str:
    """One digest for all files that were read: those in `files`, or everything at `path`."""
    if not files:
        files = (path,) if path.is_file() else tuple(file for file in path.rglob("*") if file.is_file())
    base = path if path.is_dir() else path.parent
    return cache.combine({file.relative_to(base).as_posix(): cache.sha256(file) for file in files})
