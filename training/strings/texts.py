"""Made-up inputs for a signature with strings: words of its own tables, texts on which engines differ, encoded data."""

from __future__ import annotations

import base64
import functools
import io
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from PIL import Image

from ladle.training.onnx.effects import called, data_of, node_of
from ladle.training.onnx.noise import INTEGERS, hard, noise, not_finite, with_integers
from ladle.training.strings.graph import Frozen

Arrays = dict[str, np.ndarray]

HARD = (
    *(b"", b" ", b"  leading", b"trailing  ", b"a\tb\nc\x0bd\x0ce\rf  g", b"nul\0inside", b"\0", b"a"),
    *("Ünïcödé ÄÖÜ ß ẞ İ ı ﬁ ΣΑΣ".encode(), "日本語 テキスト".encode(), "👩‍👩‍👧 😀 🇩🇪 a\u0301".encode()),
    *(
        b"\xff\xfe invalid \xc3",
        b"\xe2\x82",
        b"x\xed\xa0\x80y",
        b"\xf4\x90\x80\x80z",
        "\u00a0\u200b\u3000 \x85".encode(),
    ),
    *(b"UPPER lower MiXeD", b"!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'", b"it's <br /> <b>bold</b>", b"a,b,,c,", b'"q, f",x'),
    *(b"12", b"-3.5e2", b" 7 ", b"0x1A", b"1e400", b"-1e-400", b"nan", b"-inf", b"Infinity", b"abc", b"1_000", b"+5"),
    *(b"1.", b".5", b".", b"-", b"1e", b"9223372036854775807", b"9223372036854775808", b"-2147483649", b"true", b"007"),
    *(b"YWJj", b"YWI=", b"YWI", b"Y", b"YW+/", b"YQ=", b"=", b"[UNK]", b"aaa aab ab", b"x" * 5000, b"word and " * 600),
)
"""Texts on which implementations differ: empty, blank, Unicode, emoji, not UTF-8, NUL, nearly numbers, long."""
_MOST_WORDS = 400  # of each table that go into made-up texts
_SIZES = ((48, 4), (3, 1), (1, 7), (8, 2))
"""Rows and lengths of requests that TensorFlow should answer."""
_HANDED_ON = (
    *("Identity", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "GatherV2", "StringStrip", "Unpack"),
    *("TensorListFromTensor", "RaggedTensorToTensor"),
)

_CHOOSY = (
    *("StringToNumber", "DecodeBase64", "DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeJSONExample"),
    *("DecodeRaw", "DecodePaddedRaw", "DecodeWav", "DecodeCSV", "ParseExample", "ParseExampleV2", "ParseSingleExample"),
)
"""Operations that refuse most texts."""


class Samples:
    """Inputs for a signature.

    good   values by input with strings that its operations can read
    """

    def __init__(self, frozen: Frozen, specs: Mapping[str, tf.TensorSpec], warm: Sequence[Arrays]) -> None:
        self._frozen, self._specs, self._warm = frozen, specs, warm
        self._random = np.random.default_rng(0)
        self._consumers: dict[tuple[str, int], list[Any]] = {}
        for node in frozen.nodes.values():
            for tensor in frozen.sources(node.name):
                self._consumers.setdefault(tensor, []).append(node)
        self.words = self._words()
        # TensorFlow takes some bytes for a tf.Example that are none; such requests are refused without it.
        self._parsed = {
            name
            for name, node in frozen.inputs.items()
            if any(each.op.startswith("Parse") for each in self._readers((node, 0)))
        }
        self.good: dict[str, list[bytes]] = {}
        for name, spec in specs.items():
            if spec.dtype == tf.string:
                special = self._fitting((frozen.inputs[name], 0))
                self.good[name] = special or [*self.words, *self._sentences(), *HARD]
        self._numbers = self._own_numbers()

    def requests(self) -> Iterator[Arrays]:
        """Requests that TensorFlow should answer: the warm-up requests, then several sizes of made-up ones."""
        yield from self._warm
        for rows, length in _SIZES:
            yield self._request(rows, length, noise)

    def other_requests(self) -> Iterator[Arrays]:
        """The same with other integers: ids of rows, lengths that add up, numbers of which none is 0."""
        if any(spec.dtype.is_integer for spec in self._specs.values()):
            for kind in INTEGERS[1:]:
                for rows, length in _SIZES:
                    yield with_integers(self._random, self._specs, self._request(rows, length, noise), kind)

    def hard_requests(self) -> Iterator[Arrays]:
        """Requests at which engines differ; TensorFlow may refuse them."""
        texts = [name for name, spec in self._specs.items() if spec.dtype == tf.string]
        if texts:
            damaged = [text[: len(text) // 2] for name in texts if name in self._parsed for text in self.good[name][:4]]
            for text in (b"", *damaged) if self._parsed else HARD:
                yield {**self._request(1, 2, noise), **{name: self._filled(name, [text], 1, 2) for name in texts}}
        if len(texts) > 1 and not self._parsed:
            for text in HARD[:16]:
                for name in texts:
                    yield {**self._request(1, 1, noise), name: self._filled(name, [text], 1, 1)}
        for rows, most in ((4, 7), (4, 2**31), (40, 2**64)):
            yield self._request(rows, 3, functools.partial(hard, most=most))
        yield self._request(3, 1, noise, others=5)
        yield self._request(0, 3, noise)

    def not_finite(self) -> Iterator[Arrays]:
        """Requests with NaN and infinities; none if no input is a float."""
        if any(spec.dtype.is_floating for spec in self._specs.values()):
            for share in (0.1, 0.5):
                yield self._request(8, 3, functools.partial(not_finite, share=share))

    def _request(self, rows: int, length: int, make: Any, others: int | None = None) -> Arrays:
        """others  rows of inputs other than the first"""
        request = {}
        for n, (name, spec) in enumerate(self._specs.items()):
            count = rows if n == 0 or others is None else others
            if spec.dtype == tf.string:
                request[name] = self._filled(name, self.good[name], count, length)
                continue
            free = count if spec.shape.rank is None or (spec.shape.rank and spec.shape[0] is None) else None
            array = np.asarray(make(self._random, spec, free, (length,)))
            own = self._numbers.get(spec.dtype.is_floating)
            if own is not None and spec.dtype != tf.bool:
                fits = own[(own >= spec.dtype.min) & (own <= spec.dtype.max)].astype(array.dtype)
                if fits.size:
                    array = np.where(
                        self._random.random(array.shape) < 0.6, self._random.choice(fits, array.shape), array
                    )
            request[name] = array
        return request

    def _filled(self, name: str, texts: Sequence[bytes], rows: int, length: int) -> np.ndarray:
        """A string input whose elements are drawn from some texts; each text comes up if there are rows enough."""
        axes = self._specs[name].shape
        shape = [None] if axes.rank is None else axes.as_list()
        sizes = [(rows if axis == 0 else length) if size is None else size for axis, size in enumerate(shape)]
        out = np.empty(int(np.prod(sizes)), object)
        order = self._random.permutation(len(texts))
        out[:] = [texts[order[i % len(texts)]] for i in range(out.size)]
        return out.reshape(sizes)

    def _words(self) -> list[bytes]:
        """String keys of the tables and short string constants, in other cases too."""
        found: dict[bytes, None] = {}
        for keys, _ in self._frozen.tables.values():
            if keys.dtype == object:
                chosen = self._random.permutation(len(keys))[:_MOST_WORDS]
                found.update(dict.fromkeys(keys[chosen].tolist()))
        words = list(found)
        return [*words, *(word.upper() for word in words[:50]), *(word + b"x" for word in words[:50])]

    def _sentences(self) -> list[bytes]:
        words = [*self.words, b"the", b"a", b"unknown", b"42"]
        marks = [b" ", b" ", b"  ", b", ", b". ", b"\n", b"! "]
        return [
            b"".join(
                part
                for word, mark in zip(
                    self._random.integers(len(words), size=count),
                    self._random.integers(len(marks), size=count),
                    strict=True,
                )
                for part in (words[word], marks[mark])
            )
            for count in (1, 2, 3, 5, 8, 12, 20, 40)
            for _ in range(3)
        ]

    def _own_numbers(self) -> dict[bool, np.ndarray]:
        """Integers (False) and floats (True) that tables and boundaries name, and those beside them."""
        integers: list[int] = []
        floats: list[float] = []
        for keys, _ in self._frozen.tables.values():
            if keys.dtype.kind == "i":
                integers += [n for key in keys[:_MOST_WORDS].tolist() for n in (key, key + 1)]
        for node in self._frozen.nodes.values():
            if node.op == "Bucketize":
                edges = np.array(node.attr["boundaries"].list.f, np.float32)
                beside = [np.nextafter(edges, np.float32(end)) for end in (-np.inf, np.inf)]
                # TensorFlow takes the smallest numbers, which have fewer digits, for 0.
                floats += [n for n in np.concatenate([edges, *beside]).tolist() if n == 0 or abs(n) > 1e-37]
                integers += [int(edge) + n for edge in edges for n in (-1, 0, 1) if abs(edge) < 2**62]
        numbers = {False: np.array(integers, np.int64), True: np.array(floats, np.float64)}
        return {kind: array for kind, array in numbers.items() if array.size}

    def _readers(self, tensor: tuple[str, int], depth: int = 0) -> Iterator[Any]:
        """The operations that read a tensor, through those that hand it on."""
        for node in self._consumers.get(tensor, ()) if depth < 30 else ():
            if node.op in _HANDED_ON:
                yield from self._readers((node.name, 0), depth + 1)
            else:
                yield node

    def _fitting(self, tensor: tuple[str, int], depth: int = 0) -> list[bytes] | None:
        """Texts that the operations which read this tensor accept; None if any text does."""
        for node in self._consumers.get(tensor, ()) if depth < 30 else ():
            found = self._fitting_for(node, tensor, depth)
            if found:
                return found
        return None

    def _fitting_for(self, node: Any, tensor: tuple[str, int], depth: int) -> list[bytes] | None:
        if node.op in _HANDED_ON:
            return self._fitting((node.name, 0), depth + 1)
        for name in called(node):  # what a loop or branch does with it
            found = self._fitting_within(name)
            if found:
                return found
        return self._fitting_operation(node, tensor, depth, self._frozen.nodes)

    def _fitting_within(self, name: str) -> list[bytes] | None:
        """Texts for the first operation of a function that does not accept any text."""
        function = next((each for each in self._frozen.library.function if each.signature.name == name), None)
        nodes = {} if function is None else {node.name: node for node in function.node_def}
        for node in nodes.values():
            inner = [self._fitting_within(each) for each in called(node)]
            found = next(filter(None, inner), None)
            if not found and node.op in _CHOOSY:
                found = self._fitting_operation(node, ("", 0), 0, nodes)
            if found:
                return found
        return None

    def _fitting_operation(
        self, node: Any, tensor: tuple[str, int], depth: int, nodes: Mapping[str, Any]
    ) -> list[bytes] | None:
        """Texts for one operation of the graph, or of a function with these nodes."""
        if node.op == "StringToNumber":
            is_float = tf.as_dtype(node.attr["out_type"].type).is_floating
            return [b"0", b"1", b"-2", b"37", b" 8 ", *([b"0.5", b"-1.25e1", b"3.14159265358979"] if is_float else [])]
        if node.op == "DecodeBase64":
            inner = self._fitting((node.name, 0), depth + 1) or [*self.words, *HARD[:20]]
            return [base64.urlsafe_b64encode(text) for text in inner]
        if node.op in ("DecodeJpeg", "DecodePng", "DecodeImage"):
            return images(node.attr["channels"].i, ("PNG",) if node.op == "DecodePng" else ("PNG", "JPEG"))
        if node.op == "DecodeBmp":
            return images(node.attr["channels"].i, ("BMP",))
        if node.op == "DecodeWav":
            return [self._wav(samples, channels) for samples, channels in ((400, 1), (1600, 1), (50, 2), (0, 1))]
        if node.op == "DecodeJSONExample":
            inner = self._fitting((node.name, 0), depth + 1) or [tf.train.Example().SerializeToString()]
            return [json_format.MessageToJson(tf.train.Example.FromString(each)).encode() for each in inner]
        if node.op == "DecodeRaw":
            size = tf.as_dtype(node.attr["out_type"].type).size
            return [self._random.bytes(4 * size) for _ in range(8)]
        if node.op == "DecodeCSV":
            return self._csv(node)
        if node.op.startswith("Parse") and "Example" in node.op:
            return self._examples(node, nodes)
        if node.op == "StringSplitV2":
            parts = self._fitting((node.name, 1), depth + 1)
            by = _constant(data_of(node)[1], nodes)
            mark = by.item() if by is not None and by.item() else b" "
            return [mark.join(parts[:4]), *(mark.join([text] * 4) for text in parts)] if parts else None
        return None

    def _wav(self, samples: int, channels: int) -> bytes:
        """A WAV file of noise."""
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setnchannels(channels)
            sound.setsampwidth(2)
            sound.setframerate(16_000)
            sound.writeframes(self._random.integers(-(2**15), 2**15, samples * channels).astype("<i2").tobytes())
        return file.getvalue()

    def _csv(self, node: Any) -> list[bytes]:
        kinds = [tf.as_dtype(number) for number in node.attr["OUT_TYPE"].list.type]
        chosen = list(node.attr["select_cols"].list.i)
        mark = node.attr["field_delim"].s or b","
        columns = [tf.string] * (max(chosen) + 1) if chosen else kinds
        for at, kind in zip(chosen, kinds, strict=False):
            columns[at] = kind
        words = [
            word for word in (*self.words[:50], b"a", b"b c", "ü".encode()) if not set(word) & set(b'",\r\n' + mark)
        ]
        lines = []
        for row in range(12):
            fields = []
            for kind in columns:
                if kind == tf.string:
                    fields.append(b'"q""' + mark + b'x"' if row % 4 == 3 else words[self._random.integers(len(words))])
                elif row % 5 == 4:
                    fields.append(b"")
                else:
                    fields.append(
                        b"%d" % self._random.integers(9) if kind.is_integer else b"%.3f" % self._random.normal()
                    )
            lines.append(mark.join(fields))
        return lines

    def _examples(self, node: Any, nodes: Mapping[str, Any]) -> list[bytes]:
        """Serialized tf.Examples with the features that the operation parses; some lack those with defaults."""
        dense, sparse = self._features(node, nodes)
        made = []
        for row in range(16):
            features = {}
            for key, kind, size in dense:
                features[key] = self._feature(kind, size)
            for key, kind in sparse:
                if row % 3:
                    features[key] = self._feature(kind, int(self._random.integers(4)))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            made.append(example.SerializeToString(deterministic=True))  # else in any order of the features
        return made

    def _features(
        self, node: Any, nodes: Mapping[str, Any]
    ) -> tuple[list[tuple[str, tf.DType, int]], list[tuple[str, tf.DType]]]:
        def types(name: str) -> list[tf.DType]:
            return [tf.as_dtype(number) for number in node.attr[name].list.type]

        sizes = [int(np.prod([d.size for d in shape.dim])) for shape in node.attr["dense_shapes"].list.shape]
        ragged: list[tuple[str, tf.DType]] = []
        if node.op == "ParseSingleExample":
            keys = [key.decode() for key in node.attr["dense_keys"].list.s]
            others = [key.decode() for key in node.attr["sparse_keys"].list.s]
        elif node.op == "ParseExample":
            every = [self._key(text, nodes) for text in data_of(node)[2:]]
            count = node.attr["Nsparse"].i
            others, keys = every[:count], every[count : count + node.attr["Ndense"].i]
        else:
            every_key = [_constant(text, nodes) for text in data_of(node)[2:5]]
            others, keys, more = (
                [] if of is None else [key.decode() for key in of.ravel().tolist()] for of in every_key
            )
            ragged = list(zip(more, types("ragged_value_types"), strict=True))
        return (
            list(zip(keys, types("Tdense"), [abs(size) for size in sizes], strict=True)),
            [*zip(others, types("sparse_types"), strict=True), *ragged],
        )

    def _key(self, text: str, nodes: Mapping[str, Any]) -> str:
        found = _constant(text, nodes)
        return "" if found is None or found.size != 1 else found.item().decode()

    def _feature(self, kind: tf.DType, size: int) -> Any:
        if kind == tf.string:
            words = [*self.words[:50], b"a", b"b", "ü".encode()]
            return tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[words[i] for i in self._random.integers(len(words), size=size)])
            )
        if kind.is_integer:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=self._random.integers(0, 3, size).tolist()))
        return tf.train.Feature(float_list=tf.train.FloatList(value=self._random.normal(size=size).tolist()))


def _constant(text: str, nodes: Mapping[str, Any]) -> np.ndarray | None:
    """The value of a tensor in a graph or function with these nodes; None if it is no constant."""
    node = nodes.get(node_of(text))
    while node is not None and node.op == "Identity":
        node = nodes.get(node_of(node.input[0]))
    return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None


def images(channels: int, kinds: Sequence[str] = ("PNG", "JPEG")) -> list[bytes]:
    """Image files of a few sizes; grey ones if one channel is asked for."""
    random = np.random.default_rng(0)
    made = []
    for height, width in ((8, 8), (17, 23), (32, 16)):
        rough = random.integers(0, 256, (3, 3, 3), np.uint8)
        picture = Image.fromarray(rough).resize((width, height), Image.Resampling.BILINEAR)
        for kind in kinds:
            file = io.BytesIO()
            picture.convert("L" if channels == 1 else "RGB").save(
                file, kind, **({"quality": 90} if kind == "JPEG" else {})
            )
            made.append(file.getvalue())
    return made
