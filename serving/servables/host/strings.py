"""TensorFlow's operations on strings: case, length, parts, joins, splits. Strings are object arrays of bytes."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host import patterns
from ladle.serving.servables.host.limits import check_size

Attributes = Mapping[str, Any]
Function = Callable[..., Any]

_CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that do not begin a character


def array_of(strings: Sequence[bytes], shape: Sequence[int]) -> Array:
    """An object array of these bytes."""
    out = np.empty(len(strings), object)
    out[:] = strings
    return out.reshape(shape)


def _each(function: Callable[[bytes], bytes]) -> Function:
    def run(texts: Array) -> Array:
        return array_of([function(text) for text in texts.ravel().tolist()], texts.shape)

    return run


def _cased(of_bytes: Callable[[bytes], bytes], of_text: Callable[[str], str]) -> Callable[[Attributes], Function]:
    def build(attributes: Attributes) -> Function:
        if not attributes.get("encoding"):
            return _each(of_bytes)  # ASCII letters alone, in any bytes

        def cased(text: bytes) -> bytes:
            text = text.partition(b"\0")[0]  # TensorFlow hands on a C string here, which ends at the first NUL
            return of_bytes(text) if text.isascii() else of_text(text.decode(errors="replace")).encode()

        return _each(cased)

    return build


def _length(attributes: Attributes) -> Function:
    if attributes.get("unit", "BYTE") == "BYTE":
        return lambda texts: np.fromiter(map(len, texts.ravel().tolist()), np.int32, texts.size).reshape(texts.shape)

    def characters(texts: Array) -> Array:
        counts = (len(text.translate(None, _CONTINUATION)) for text in texts.ravel().tolist())
        return np.fromiter(counts, np.int32, texts.size).reshape(texts.shape)

    return characters


def _substr(attributes: Attributes) -> Function:
    of_bytes = attributes.get("unit", "BYTE") == "BYTE"

    def substr(texts: Array, position: Array, length: Array) -> Array:
        if position.ndim > texts.ndim:
            texts = np.broadcast_to(texts, np.broadcast_shapes(texts.shape, position.shape))
        shape = np.broadcast_shapes(texts.shape, position.shape)
        check_size(shape)
        every = [np.broadcast_to(each, shape).ravel().tolist() for each in (texts, position, length)]
        cut = [_cut(text, at, count, of_bytes) for text, at, count in zip(*every, strict=True)]
        return array_of(cut, shape)

    return substr


def _cut(text: bytes, position: int, length: int, of_bytes: bool) -> bytes:
    starts = range(len(text) + 1) if of_bytes else [*_character_starts(text), len(text)]
    count = len(starts) - 1
    begin = position + count if position < 0 else position
    if not 0 <= begin <= count:
        raise InvalidArgument(f"pos {position} out of range for string b'{text.decode(errors='backslashreplace')}'")
    return text[starts[begin] : starts[min(count, begin + max(0, length))]]


def _character_starts(text: bytes) -> list[int]:
    return [i for i, byte in enumerate(text) if byte & 0xC0 != 0x80]


def _join(attributes: Attributes) -> Function:
    separator = bytes_of(attributes.get("separator", ""))

    def join(*parts: Array) -> Array:
        shapes = {part.shape for part in parts if part.ndim}
        if len(shapes) > 1:
            raise InvalidArgument(
                f"Input shapes do not match: {' vs. '.join(str(list(shape)) for shape in sorted(shapes))}"
            )
        shape = next(iter(shapes), ())
        every = [np.broadcast_to(part, shape).ravel().tolist() for part in parts]
        return array_of([separator.join(texts) for texts in zip(*every, strict=True)], shape)

    return join


def _reduce_join(attributes: Attributes) -> Function:
    separator, keep = bytes_of(attributes.get("separator", "")), bool(attributes.get("keep_dims", False))

    def reduce_join(texts: Array, axes: Array) -> Array:
        along = [int(axis) for axis in np.ravel(axes)]
        if any(not -texts.ndim <= axis < texts.ndim for axis in along):
            raise InvalidArgument(f"Invalid reduction dimension for input with {texts.ndim} dimensions")
        along = [axis % texts.ndim for axis in along]
        if len(set(along)) < len(along):
            raise InvalidArgument("Duplicate reduction dimension")
        if not along:
            return texts
        others = [axis for axis in range(texts.ndim) if axis not in along]
        inner = int(np.prod([texts.shape[axis] for axis in along]))
        count = int(np.prod([texts.shape[axis] for axis in others]))
        flat = texts.transpose([*others, *along]).reshape(count, inner)
        shape = [1 if axis in along else texts.shape[axis] for axis in range(texts.ndim)]
        kept = shape if keep else [texts.shape[axis] for axis in others]
        return array_of([separator.join(row) for row in flat.tolist()], kept)

    return reduce_join


def split_into(parts: Iterable[list[bytes]], count: int) -> tuple[Array, Array, Array]:
    """Parts of each of `count` strings as a sparse tensor: indices int64 [n, 2], values [n], shape [2]."""
    rows = list(parts)
    lengths = np.fromiter(map(len, rows), np.int64, count)
    total = int(lengths.sum())
    indices = np.empty((total, 2), np.int64)
    indices[:, 0] = np.repeat(np.arange(count), lengths)
    indices[:, 1] = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = array_of([part for row in rows for part in row], [total])
    return indices, values, np.array([count, lengths.max(initial=0)], np.int64)


def _split_v2(attributes: Attributes) -> Function:
    most = int(attributes.get("maxsplit", -1))

    def split(texts: Array, separator: Array) -> tuple[Array, ...]:
        _expect_vector(texts)
        by = separator.item() or None
        if by is not None or most < 0:
            return split_into((text.split(by, most) for text in texts.tolist()), len(texts))
        return split_into((words(text) for text in texts.tolist()), len(texts))

    def words(text: bytes) -> list[bytes]:
        """At spaces, at most so often: TensorFlow then adds what is left, even nothing, and strips nothing for 0."""
        found = text.split(None, most) if most else [text]
        return [*found, b""] if len(found) == most else found

    return split


def _split(attributes: Attributes) -> Function:
    skip = bool(attributes.get("skip_empty", True))

    def split(texts: Array, delimiter: Array) -> tuple[Array, ...]:
        _expect_vector(texts)
        marks = delimiter.item()
        anywhere = re.compile(b"[" + b"".join(b"\\x%02x" % mark for mark in marks) + b"]") if marks else None

        def parts(text: bytes) -> list[bytes]:
            if anywhere is None:
                return [text[i : i + 1] for i in range(len(text))]
            found = anywhere.split(text) if text else []
            return [part for part in found if part] if skip else found

        return split_into(map(parts, texts.tolist()), len(texts))

    return split


def _expect_vector(texts: Array) -> None:
    if texts.ndim != 1:
        raise InvalidArgument(f"input must be a vector, got shape: {list(texts.shape)}")


def _regex_replace(attributes: Attributes) -> Function:
    change = patterns.replacer(
        bytes_of(attributes["pattern"]),
        bytes_of(attributes["rewrite"]),
        everywhere=bool(attributes.get("replace_global", True)),
    )
    return _each(change)


def _regex_full_match(attributes: Attributes) -> Function:
    matches = patterns.full_matcher(bytes_of(attributes["pattern"]))

    def run(texts: Array) -> Array:
        return np.fromiter(map(matches, texts.ravel().tolist()), np.bool_, texts.size).reshape(texts.shape)

    return run


def _unicode_decode(attributes: Attributes) -> Function:
    for name, expected in (("input_encoding", "UTF-8"), ("errors", "replace")):
        if attributes.get(name, expected) != expected:
            raise ValueError(f"{name} {attributes[name]}")
    replacement, controls = int(attributes.get("replacement_char", 65533)), attributes.get("replace_control_characters")
    dtype = np.dtype(attributes.get("Tsplits", "int64"))

    def decode(texts: Array) -> tuple[Array, ...]:
        decoded = [text.decode(errors="replace") for text in texts.ravel().tolist()]
        lengths = np.fromiter(map(len, decoded), np.int64, len(decoded))
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(dtype)
        points = np.frombuffer("".join(decoded).encode("utf-32-le"), np.int32).copy()
        if replacement != 65533:
            points[points == 65533] = replacement
        if controls:
            points[(points <= 0x1F) | ((points >= 0x7F) & (points <= 0x9F))] = replacement
        return splits, points

    return decode


def _unicode_encode(attributes: Attributes) -> Function:
    if attributes.get("output_encoding", "UTF-8") != "UTF-8" or attributes.get("errors", "replace") != "replace":
        raise ValueError("output_encoding other than UTF-8")
    replacement = chr(int(attributes.get("replacement_char", 65533)))

    def encode(points: Array, splits: Array) -> Array:
        wrong = (points < 0) | (points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))
        text = "".join(replacement if bad else chr(point) for point, bad in zip(points.tolist(), wrong, strict=True))
        ends = splits.tolist()
        _check_splits(ends, len(points))
        return array_of([text[a:b].encode() for a, b in itertools.pairwise(ends)], [len(ends) - 1])

    return encode


def _check_splits(splits: list[int], count: int) -> None:
    if not splits or splits[0] or splits[-1] != count or any(a > b for a, b in itertools.pairwise(splits)):
        raise InvalidArgument("the row splits of a ragged tensor do not fit its values")


def _ngrams(attributes: Attributes) -> Function:
    separator, left, right = (bytes_of(attributes.get(name, "")) for name in ("separator", "left_pad", "right_pad"))
    widths, pad_width = [int(width) for width in attributes["ngram_widths"]], int(attributes.get("pad_width", 0))
    keep_short = bool(attributes.get("preserve_short_sequences", False))

    def row_ngrams(words: list[bytes]) -> list[bytes]:
        made: list[bytes] = []
        for width in widths:
            pad = min(pad_width if pad_width >= 0 else width - 1, width - 1)
            padded = [left] * pad + words + [right] * pad
            grams = [separator.join(padded[i : i + width]) for i in range(len(padded) - width + 1)]
            if pad and not words:
                grams = grams[: max(0, 2 * pad - width + 1)]
            made += grams
        if keep_short and words and not made:
            pad = pad_width if pad_width >= 0 else 0
            made = [separator.join([left] * pad + words + [right] * pad)]
        return made

    def ngrams(words: Array, splits: Array) -> tuple[Array, Array]:
        ends, every = splits.tolist(), words.tolist()
        if ends:
            _check_splits(ends, len(every))
        rows = [row_ngrams(every[a:b]) for a, b in itertools.pairwise(ends)]
        counts = np.cumsum([0, *map(len, rows)]).astype(splits.dtype)
        return array_of([gram for row in rows for gram in row], [int(counts[-1])]), counts

    return ngrams


def _encode_base64(attributes: Attributes) -> Function:
    pad = bool(attributes.get("pad", False))

    def encode(text: bytes) -> bytes:
        encoded = base64.urlsafe_b64encode(text)
        return encoded if pad else encoded.rstrip(b"=")

    return _each(encode)


_BASE64 = re.compile(rb"[A-Za-z0-9_-]*={0,2}")


def _decode_base64(text: bytes) -> bytes:
    body = text.rstrip(b"=")
    is_padded = len(body) < len(text)
    if not _BASE64.fullmatch(text) or len(body) % 4 == 1 or (is_padded and len(text) % 4):
        raise InvalidArgument("Invalid character found in base64.")
    try:
        return base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    except binascii.Error:
        raise InvalidArgument("Invalid character found in base64.") from None


def bytes_of(attribute: str) -> bytes:
    """A string attribute of an operation; descriptions hold its bytes as Latin-1."""
    return attribute.encode("latin-1")


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "StringLower": _cased(bytes.lower, str.lower),
    "StringUpper": _cased(bytes.upper, str.upper),
    "StringStrip": lambda attributes: _each(bytes.strip),
    "StringLength": _length,
    "Substr": _substr,
    "StringJoin": _join,
    "ReduceJoin": _reduce_join,
    "StringSplitV2": _split_v2,
    "StringSplit": _split,
    "StaticRegexReplace": _regex_replace,
    "StaticRegexFullMatch": _regex_full_match,
    "UnicodeDecode": _unicode_decode,
    "UnicodeEncode": _unicode_encode,
    "StringNGrams": _ngrams,
    "EncodeBase64": _encode_base64,
    "DecodeBase64": lambda attributes: _each(_decode_base64),
}
