"""A program of operations on the host, as `ladle convert` writes it beside a graph: read, checked and run.

The file is an uncompressed NumPy archive (.npz). Its member `program` is JSON: `reads` and `adds` name tensors,
`operations` lists {op, in, out, attributes} in the order in which they run, `constants` and `tables` name what the
other members hold. Strings are stored as their bytes and the ends of each.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.servables.host import (
    audio,
    floats,
    loops,
    numbers,
    pictures,
    ragged,
    records,
    shapes,
    strings,
    tables,
)
from ladle.serving.servables.host.strings import array_of
from ladle.serving.servables.host.tables import Table

Tensors = dict[str, Array]
Function = Callable[..., Any]

HOST: dict[str, Callable[[Mapping[str, Any]], Function]] = {
    **shapes.ALWAYS_HOST,
    **strings.OPERATIONS,
    **numbers.OPERATIONS,
    **tables.OPERATIONS,
    **ragged.OPERATIONS,
    **records.OPERATIONS,
    **pictures.OPERATIONS,
    **audio.OPERATIONS,
}
"""Operations that always run on the host."""
BETWEEN: dict[str, Callable[[Mapping[str, Any]], Function]] = {
    **shapes.SAME_FOR_ANY_DTYPE,
    **shapes.OF_INTEGERS,
    **loops.LISTS,
}
"""Operations that run on the host where one of the others needs their result, and in the graph else."""
BUILDERS = {**BETWEEN, **HOST, **floats.IN_LOOPS}


@dataclass
class Program:
    """Operations that read named tensors and add others.

    operations  {op, in, out, attributes} each, in the order in which they run. A loop or branch has `blocks`, too: by
                name what it runs, {reads, operations, adds}
    constants   arrays by the name of their tensor
    tables      (keys, values) by the name of their tensor
    """

    reads: list[str]
    adds: list[str]
    operations: list[dict[str, Any]]
    constants: dict[str, Array] = field(default_factory=dict)
    tables: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    def compiled(self, max_image_pixels: int = 0) -> Callable[[Tensors], None]:
        """A function that adds the program's tensors to given ones; ValueError for what it cannot run.

        max_image_pixels  largest image to decode, width times height; 0: any

        It raises InvalidArgument for inputs that an operation refuses.
        """
        known: dict[str, Any] = dict(self.constants)
        known |= {name: Table(keys, values) for name, (keys, values) in self.tables.items()}
        calls = _compiled(self.operations, known, max_image_pixels)
        reads, adds = tuple(self.reads), tuple(self.adds)

        def run(tensors: Tensors) -> None:
            values = {**known, **{name: tensors[name] for name in reads}}
            _run(calls, values)
            for name in adds:
                tensors[name] = values[name]

        return run

    @property
    def ops(self) -> list[str]:
        """The kinds of its operations, each once."""
        return sorted(set(_ops(self.operations)))

    def encoded(self) -> bytes:
        """The bytes of its file."""
        members: dict[str, Array] = {}
        for name, array in self.constants.items():
            members |= _members(f"constant/{name}", array)
        for name, (keys, values) in self.tables.items():
            members |= _members(f"keys/{name}", keys) | _members(f"values/{name}", values)
        content = {
            "reads": self.reads,
            "adds": self.adds,
            "operations": self.operations,
            "constants": sorted(self.constants),
            "tables": sorted(self.tables),
        }
        text = json.dumps(content, ensure_ascii=True, sort_keys=True).encode()
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _write(archive, "program", np.frombuffer(text, np.uint8))
            for name, array in sorted(members.items()):
                _write(archive, name, array)
        return file.getvalue()


Call = tuple[Function, Sequence[str], Sequence[str], str]


def _compiled(operations: Sequence[Mapping[str, Any]], known: Mapping[str, Any], max_image_pixels: int) -> list[Call]:
    """The operations' functions, with the names of their inputs and outputs."""
    calls: list[Call] = []
    for operation in operations:
        op = operation["op"]
        if op in loops.BLOCKS:
            names, build = loops.BLOCKS[op]
            blocks = {name: _block(operation["blocks"][name], known, max_image_pixels) for name in names}
            calls.append((build(blocks), operation["in"], operation["out"], op))
            continue
        builder = BUILDERS.get(op)
        if builder is None:
            raise ValueError(f"unknown operation {op}")
        attributes = {**operation["attributes"], pictures.MAX_PIXELS: max_image_pixels}
        calls.append((builder(attributes), operation["in"], operation["out"], op))
    return calls


def _block(block: Mapping[str, Any], known: Mapping[str, Any], max_image_pixels: int) -> loops.Block:
    """What a loop or branch runs: values in, values out."""
    calls = _compiled(block["operations"], known, max_image_pixels)
    reads, adds = block["reads"], block["adds"]

    def run(*given: Any) -> tuple[Any, ...]:
        values = {**known, **dict(zip(reads, given, strict=True))}
        _run(calls, values)
        return tuple(values[name] for name in adds)

    return run


def _run(calls: Sequence[Call], values: dict[str, Any]) -> None:
    """Run functions on named values, and add what they return."""
    for function, names, outputs, op in calls:
        try:
            answer = function(*[values[name] for name in names])
        except ServingError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # NumPy's own errors, for shapes that do not fit
            raise InvalidArgument(f"{op} cannot take these inputs: {error}") from None
        if len(outputs) == 1 and type(answer) is not tuple:
            values[outputs[0]] = answer
        else:
            values.update(zip(outputs, answer, strict=True))


def _ops(operations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for operation in operations:
        yield operation["op"]
        for block in operation.get("blocks", {}).values():
            yield from _ops(block["operations"])


def _write(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, array, allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())  # a fixed date: the same bytes each time


def _members(name: str, array: Array) -> dict[str, Array]:
    if array.dtype != object:
        return {name: array}
    parts = array.ravel().tolist()
    ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
    shape = np.array(array.shape, np.int64)
    return {
        f"{name}/bytes": np.frombuffer(b"".join(parts), np.uint8),
        f"{name}/ends": ends.astype(np.int64),
        f"{name}/shape": shape,
    }


def read(path: Path, sha256: str | None) -> Program:
    """The program in a file; ValueError unless it is the file with this checksum, OSError if it cannot be read."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the file that was verified (its sha256 differs)")
    return decode(content)


def decode(content: bytes) -> Program:
    """The program in the bytes of a file; ValueError if it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its members are compressed")  # a few bytes could become gigabytes
            members = {
                entry.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(entry)), allow_pickle=False
                )
                for entry in archive.infolist()
            }
        described = json.loads(members["program"].tobytes())
        return Program(
            described["reads"],
            described["adds"],
            described["operations"],
            {name: _array(members, f"constant/{name}") for name in described["constants"]},
            {
                name: (_array(members, f"keys/{name}"), _array(members, f"values/{name}"))
                for name in described["tables"]
            },
        )
    except (zipfile.BadZipFile, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a program of operations ({type(error).__name__})") from None


def _array(members: Mapping[str, Array], name: str) -> Array:
    if name in members:
        return members[name]
    data, ends = members[f"{name}/bytes"].tobytes(), members[f"{name}/ends"].tolist()
    starts: Sequence[int] = [0, *ends[:-1]] if ends else []
    parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    return array_of(parts, members[f"{name}/shape"].tolist())
