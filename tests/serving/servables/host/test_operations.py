"""Operations on the host answer what TensorFlow's answer, on text of any bytes, or refuse what it refuses."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ladle.clients.wire import messages as pb
from ladle.serving.errors import InvalidArgument, ResourceExhausted
from ladle.serving.servables.host import limits
from ladle.serving.servables.host.patterns import PatternError, full_matcher, replacer
from ladle.serving.servables.host.program import BUILDERS, HOST, Program, decode
from ladle.training.strings.texts import HARD

RAW = tf.raw_ops
_TEXT = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode()),
    st.text(alphabet=" aAbB,.\t\n\x0bé世😀\0-+0123456789eE", max_size=20).map(lambda text: text.encode()),
    st.sampled_from(HARD),
)


def _array(strings: list[bytes]) -> np.ndarray:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _outcome(function: Callable[[], Any]) -> list[Any] | None:
    """The results as arrays; None where the operation refuses its input."""
    try:
        found = function()
    except (tf.errors.InvalidArgumentError, InvalidArgument, UnicodeDecodeError):  # of an error's own text
        return None
    return [np.asarray(each) for each in (found if isinstance(found, list | tuple) else [found])]


def _assert_same(op: str, attributes: dict[str, Any], ours: list[np.ndarray], theirs: Callable[[], Any]) -> None:
    expected, got = _outcome(theirs), _outcome(lambda: BUILDERS[op](attributes)(*ours))
    assert (expected is None) == (got is None), (op, attributes, ours)
    for a, b in zip(expected or (), got or (), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any]]] = {
    "lower": ("StringLower", {}, lambda x: RAW.StringLower(input=x)),
    "upper": ("StringUpper", {}, lambda x: RAW.StringUpper(input=x)),
    "lower of Unicode": ("StringLower", {"encoding": "utf-8"}, lambda x: RAW.StringLower(input=x, encoding="utf-8")),
    "strip": ("StringStrip", {}, lambda x: RAW.StringStrip(input=x)),
    "length": ("StringLength", {}, lambda x: RAW.StringLength(input=x)),
    "length in characters": (
        "StringLength",
        {"unit": "UTF8_CHAR"},
        lambda x: RAW.StringLength(input=x, unit="UTF8_CHAR"),
    ),
    "code points": (
        "UnicodeDecode",
        {"input_encoding": "UTF-8"},
        lambda x: list(RAW.UnicodeDecode(input=x, input_encoding="UTF-8")),
    ),
    "base64": ("EncodeBase64", {}, lambda x: RAW.EncodeBase64(input=x)),
    "from base64": ("DecodeBase64", {}, lambda x: RAW.DecodeBase64(input=x)),
    "to float32": ("StringToNumber", {"out_type": "float32"}, lambda x: tf.strings.to_number(x)),
    "to float64": ("StringToNumber", {"out_type": "float64"}, lambda x: tf.strings.to_number(x, tf.float64)),
    "to int32": ("StringToNumber", {"out_type": "int32"}, lambda x: tf.strings.to_number(x, tf.int32)),
    "to int64": ("StringToNumber", {"out_type": "int64"}, lambda x: tf.strings.to_number(x, tf.int64)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operation_answers_each_hard_text_as_tensorflow_does(case: str) -> None:
    op, attributes, theirs = CASES[case]
    for text in HARD:
        _assert_same(op, attributes, [_array([text])], lambda text=text: theirs(tf.constant([text])))  # type: ignore[misc]


@settings(max_examples=150)
@given(st.sampled_from(sorted(CASES)), st.lists(_TEXT, min_size=1, max_size=4))
def test_an_operation_answers_any_text_as_tensorflow_does(case: str, texts: list[bytes]) -> None:
    op, attributes, theirs = CASES[case]
    if case == "lower of Unicode":  # the two know different versions of Unicode
        texts = [text for text in texts if all(ord(letter) < 0x2000 for letter in text.decode(errors="replace"))]
    _assert_same(op, attributes, [_array(texts)], lambda: theirs(tf.constant(_array(texts), tf.string)))


@settings(max_examples=100)
@given(st.lists(_TEXT, max_size=4), st.sampled_from([b"", b",", b"a", b", ", b"aa"]), st.integers(-1, 3))
def test_texts_are_split_as_tensorflow_splits_them(texts: list[bytes], by: bytes, most: int) -> None:
    given_texts = tf.constant(_array(texts), tf.string)
    theirs = lambda: list(RAW.StringSplitV2(input=given_texts, sep=by, maxsplit=most))  # noqa: E731
    _assert_same("StringSplitV2", {"maxsplit": most}, [_array(texts), np.array(by, object)], theirs)
    for skip in (True, False):
        theirs = lambda skip=skip: list(RAW.StringSplit(input=given_texts, delimiter=by, skip_empty=skip))  # type: ignore[misc]  # noqa: E731
        _assert_same("StringSplit", {"skip_empty": skip}, [_array(texts), np.array(by, object)], theirs)


@settings(max_examples=80)
@given(st.lists(_TEXT, min_size=1, max_size=3), st.integers(-8, 8), st.integers(0, 8), st.booleans())
def test_parts_of_texts_are_those_of_tensorflow(texts: list[bytes], at: int, count: int, in_characters: bool) -> None:
    unit = "UTF8_CHAR" if in_characters else "BYTE"
    if in_characters:  # where a character of bytes that are not UTF-8 begins is nobody's business
        texts = [text.decode(errors="replace").encode() for text in texts]
    ours = [_array(texts), np.array(at, np.int32), np.array(count, np.int32)]
    _assert_same("Substr", {"unit": unit}, ours, lambda: tf.strings.substr(_array(texts), at, count, unit))


NUMBERS = np.array([0.0, -0.0, 1.5, -2.25, 1e-7, 1e20, 3.4e38, 123456.789, np.nan, np.inf, -np.inf], np.float32)


@pytest.mark.parametrize("precision", [-1, 0, 3])
@pytest.mark.parametrize("width", [-1, 12])
@pytest.mark.parametrize("fill", ["", "0"])
@pytest.mark.parametrize("form", ["", "scientific", "shortest"])
def test_numbers_are_written_as_tensorflow_writes_them(precision: int, width: int, fill: str, form: str) -> None:
    if fill and width < 0:
        return
    options = {"precision": precision, "width": width, "fill": fill, **({form: True} if form else {})}
    _assert_same(
        "AsString",
        {"T": "float32", **options},
        [NUMBERS],
        lambda: tf.strings.as_string(tf.constant(NUMBERS), **options),
    )


REPLACED = [
    (r"[!\"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~\']", ""), (r"[^a-zA-Z ]", ""), (r"\s+", " "), (r"<br */?>", " "),
    (r"([a-z])([0-9])", r"\2-\1"), (r"[[:punct:]]", " "), (r"\W", ""), (r"\d{2,4}", "#"), (r".", "x"), (r"é|日本", "?"),
    (r"^\s+", ""), (r"\bthe\b", "a"), (r"a?b", "_"), (r"[àéü]", "e"), (r"$^|x", "y"), (r"https?://[^ ]*", "URL"),
    (r"(a|an|the) ", ""), (r"a(b|é)?c", r"<\0>"), (r"&(?:amp|lt|gt);", "&"), (r"(www\.)?x", "."), (r"'(s|re|ve)\b", ""),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "rewrite"), REPLACED)
@settings(max_examples=12)
@given(texts=st.lists(_TEXT, min_size=1, max_size=6))
def test_a_pattern_that_is_taken_replaces_what_re2_replaces(pattern: str, rewrite: str, texts: list[bytes]) -> None:
    try:
        replace = replacer(pattern.encode(), rewrite.encode(), everywhere=True)
        first = replacer(pattern.encode(), rewrite.encode(), everywhere=False)
    except PatternError:
        assert pattern == "$^|x"
        return
    every = [*texts, *HARD]
    for function, everywhere in ((replace, True), (first, False)):
        theirs = tf.strings.regex_replace(_array(every), pattern, rewrite, replace_global=everywhere).numpy()
        assert [function(text) for text in every] == theirs.tolist()


@pytest.mark.parametrize(
    "pattern",
    [r"[a-z]*", r"[a-z]+@[a-z]+\.com", r"\d+", r"a|b+", r".*", r"(a)(b?)", r"[0-9]+(\.[0-9]+)?", r"((a|b)c?)?"],
)
@settings(max_examples=12)
@given(texts=st.lists(st.one_of(_TEXT, st.from_regex(r"\A[a-z]*@?[a-z]*\.?(com)?\Z").map(str.encode)), max_size=6))
def test_a_whole_match_is_that_of_re2(pattern: str, texts: list[bytes]) -> None:
    matches, every = full_matcher(pattern.encode()), [*texts, *HARD]
    assert [matches(text) for text in every] == tf.strings.regex_full_match(_array(every), pattern).numpy().tolist()


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"\s+$",
        r"a*",
        r"<[^>]*>",
        r"(?i)a",
        r"\pL",
        r"a+?b",
        r"[a-z]+ing",
        r"a**",
        r"(ab)*",
        r"a?(ab)?c",
        r"(?P<n>a)",
    ],
)
def test_a_pattern_that_could_take_long_or_differ_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        replacer(pattern.encode(), b"", everywhere=True)


def test_a_taken_pattern_takes_linear_time() -> None:
    def seconds(size: int) -> float:
        took = []
        for pattern, text in ((rb"\s+", b" " * size), (rb"<br */?>", b"<br" + b" " * size), (rb"[^a]", b"b" * size)):
            replace = replacer(pattern, b"", everywhere=True)
            start = time.process_time()
            replace(text)
            took.append(time.process_time() - start)
        return max(took)

    seconds(1000)
    assert seconds(2**20) < 2.0  # quadratic time would be hours


def test_a_group_that_became_branches_is_not_referred_to() -> None:
    with pytest.raises(PatternError, match="refers to a group"):
        replacer(rb"(a|b)(c)", rb"\2", everywhere=True)


def _wav(
    kind: int = 1, channels: int = 1, bits: int = 16, size: int = 16, more: bytes = b"", data: bytes = b""
) -> bytes:
    data = data or np.arange(-6, 6, dtype="<i2").tobytes()
    rate, sample = 8000, channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * sample, sample, bits) + bytes(size - 16)
    chunks = b"WAVEfmt " + struct.pack("<I", size) + form + more + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


WAVS = {
    "mono": _wav(),
    "stereo": _wav(channels=2),
    "three": _wav(channels=3),
    "8 bits": _wav(bits=8),
    "24 bits": _wav(bits=24),
    "floats": _wav(kind=3, bits=32),
    "format of 18": _wav(size=18),
    "format of 17": _wav(size=17),
    "another chunk": _wav(more=b"LIST\4\0\0\0abcd"),
    "an odd chunk": _wav(more=b"LIST\3\0\0\0abc\0"),
    "behind the end": _wav(more=b"LIST\xff\xff\xff\x7f"),
    "odd bytes": _wav(data=b"abc"),
    "half a pair": _wav(channels=2, data=b"abcdef"),
    "two data": _wav() + b"data\2\0\0\0ab",
    "chunk after": _wav() + b"LIST\0\0\0\0",
    "rest": _wav() + b"xx",
    "cut": _wav()[:-3],
    "head": _wav()[:40],
    "no data": _wav()[:36],
    "short": _wav()[:20],
    "no wave": b"RIFFxxxxWAVA" + _wav()[12:],
    "big-endian": b"RIFX" + _wav()[4:],
    "no format": _wav().replace(b"fmt ", b"LIST"),
    "nothing": b"",
}


@pytest.mark.parametrize("wanted", [{}, {"desired_channels": 2}, {"desired_samples": 5}, {"desired_samples": 20}])
@pytest.mark.parametrize("name", WAVS)
def test_sounds_are_those_of_tensorflow(name: str, wanted: dict[str, int]) -> None:
    data = WAVS[name]
    _assert_same("DecodeWav", wanted, [np.array(data, object)], lambda: list(RAW.DecodeWav(contents=data, **wanted)))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("length", [8, 2, 3, 0, -1])
@pytest.mark.parametrize("little", [True, False])
def test_bytes_are_cut_and_filled_as_tensorflow_does(dtype: str, length: int, little: bool) -> None:
    texts = _array([b"abcdefghij", b"a", b"", b"\0\1\2\3"])
    attributes = {"out_type": dtype, "little_endian": little}
    theirs = lambda: tf.io.decode_raw(texts, dtype, little, length)  # noqa: E731
    _assert_same("DecodePaddedRaw", attributes, [texts, np.array(length, np.int32)], theirs)


def _bitmap(bits: int, top_down: bool = False) -> bytes:
    """A BMP image of 5×3 pixels."""
    width, height, size = 5, 3, bits // 8
    stride = (width * size + 3) // 4 * 4
    rows = np.random.default_rng(bits).integers(0, 256, (height, stride), np.uint8).tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54)
    sides = struct.pack("<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, 0, len(rows), 0, 0, 0, 0)
    return head + sides + rows


@pytest.mark.parametrize("bits", [8, 24, 32, 16])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_a_bitmap_is_decoded_or_refused_as_by_tensorflow(bits: int, channels: int) -> None:
    whole = [_bitmap(bits), _bitmap(bits, top_down=True)]
    damaged = [whole[0][:cut] for cut in (0, 1, 2, 20, 32, 54, 60, -1, -3, -20)]
    wrong = [
        b"GIF89a" + whole[0],
        whole[0][:18] + b"\0\0\0\0" + whole[0][22:],
        whole[0][:22] + b"\0\0\0\0" + whole[0][26:],
    ]
    for data in (*whole, *damaged, *wrong):
        ours = [np.array(data, object)]
        theirs = lambda data=data: RAW.DecodeBmp(contents=data, channels=channels)  # type: ignore[misc]  # noqa: E731
        _assert_same("DecodeBmp", {"channels": channels}, ours, theirs)


def _chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    found = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", found)


def test_damaged_pngs_are_refused_as_tensorflow_refuses_them() -> None:
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
    data, end = zlib.compress((b"\0" + bytes(range(9))) * 2), _chunk(b"IEND", b"")
    for content in (
        _chunk(b"IDAT", data) + end,
        _chunk(b"IDAT", data) + end + b"behind",
        _chunk(b"IDAT", data),
        _chunk(b"IDAT", data) + end[:-1],
        _chunk(b"IDAT", data, 7) + end,
        _chunk(b"IDAT", data[:-9]) + end,
        _chunk(b"ABCD", b"critical") + _chunk(b"IDAT", data) + end,
        _chunk(b"abcd", b"ancillary") + _chunk(b"IDAT", data) + end,
    ):
        theirs = lambda content=content: RAW.DecodePng(contents=head + content, channels=3)  # type: ignore[misc]  # noqa: E731
        _assert_same("DecodePng", {"channels": 3}, [np.array(head + content, object)], theirs)


@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True)], ids=["old", "corners", "half"])
@pytest.mark.parametrize("size", [(3, 5), (9, 2), (1, 1), (4, 7), (0, 3)], ids=str)
def test_images_in_loops_get_another_size(options: tuple[bool, bool], size: tuple[int, int]) -> None:
    attributes = dict(zip(("align_corners", "half_pixel_centers"), options, strict=True))
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 7, 3), np.uint8)
    for op, kernel in (("ResizeBilinear", RAW.ResizeBilinear), ("ResizeNearestNeighbor", RAW.ResizeNearestNeighbor)):
        theirs = lambda kernel=kernel: kernel(images=image, size=size, **attributes)  # type: ignore[misc]  # noqa: E731
        expected = _outcome(theirs)
        got = _outcome(lambda op=op: BUILDERS[op](attributes)(image, np.array(size, np.int32)))  # type: ignore[misc]
        assert (expected is None) == (got is None)
        if expected is not None and got is not None:
            assert got[0].dtype == expected[0].dtype
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        '{"features": {"feature": {"x": {"floatList": {"value": [1, -2.5, "NaN", 1e30]}}}}}',
        '{"features": {"feature": {"n": {"int64List": {"value": [1, "9007199254740993"]}}}}}',
        '{"features": {"feature": {"t": {"bytesList": {"value": ["YWI=", ""]}}}}}',
        '{"features": {"feature": {"a": {}, "a": {}}}}', '{"features": null}', "{}", "", "[]", "{", '{"other": 1}',
        '{"features": {"feature": {"x": {"floatList": {"value": ["a"]}}}}}', '{"features": 3}', "\xff",
    ],
)  # fmt: skip
def test_json_becomes_the_example_that_tensorflow_makes(text: str) -> None:
    ours = _outcome(lambda: BUILDERS["DecodeJSONExample"]({})(_array([text.encode("latin-1")])))
    theirs = _outcome(lambda: RAW.DecodeJSONExample(json_examples=[text.encode("latin-1")]))
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        assert pb.Example.FromString(ours[0].item()) == pb.Example.FromString(theirs[0].item())


def test_a_request_cannot_ask_for_a_huge_tensor() -> None:
    pad = BUILDERS["RaggedTensorToTensor"]({"row_partition_types": ["ROW_SPLITS"]})
    values, splits = np.zeros(0, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ResourceExhausted, match="at most"):
        pad(np.array([-1, limits.MAX_ELEMENTS + 1]), values, np.array(0), splits)


@pytest.mark.parametrize("ends", [[[0, 2, 2, 5]], [[0]], [[0, 0, 0]], [[0, 2, 3], [0, 1, 1, 5]]], ids=str)
def test_ragged_rows_become_sparse_as_in_tensorflow(ends: list[list[int]]) -> None:
    values = _array([b"a", b"b", b"c", b"d", b"e"][: ends[-1][-1]])
    splits = [np.array(each, np.int64) for each in ends]

    def theirs() -> Any:
        given = tf.constant(values.tolist(), tf.string, values.shape)
        return list(RAW.RaggedTensorToSparse(rt_nested_splits=splits, rt_dense_values=given))

    _assert_same("RaggedTensorToSparse", {}, [*splits, values], theirs)


def test_a_program_survives_its_file() -> None:
    words = _array([b"a", b"\0b\0", b""])
    program = Program(
        ["text"],
        ["ids"],
        [{"op": "LookupTableFindV2", "in": ["table", "text", "default"], "out": ["ids"], "attributes": {}}],
        {"default": np.array(-1, np.int64)},
        {"table": (words, np.arange(3))},
    )
    content = program.encoded()
    assert content == program.encoded()
    tensors: dict[str, Any] = {"text": _array([b"", b"\0b\0", b"\0b", b"a"])}
    decode(content).compiled()(tensors)
    assert tensors["ids"].tolist() == [2, 1, -1, 0]


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_a_damaged_program_is_refused(cut: int) -> None:
    program = Program([], ["x"], [{"op": "Identity", "in": ["c"], "out": ["x"], "attributes": {}}], {"c": np.zeros(3)})
    with pytest.raises(ValueError, match=r"\w"):
        decode(program.encoded()[:cut])


def test_every_operation_of_the_host_is_one_of_tensorflow() -> None:
    assert [op for op in (*HOST, *BUILDERS) if not hasattr(RAW, op)] == []


@pytest.mark.parametrize("shape", [(0, 1), (0, 0), (3, 0), (0,)], ids=str)
def test_no_ids_are_counted(shape: tuple[int, ...]) -> None:
    ids, size, weights = np.zeros(shape, np.int64), np.array(4, np.int64), np.zeros(0, np.float32)
    _assert_same(
        "DenseBincount",
        {"T": "float32"},
        [ids, size, weights],
        lambda: RAW.DenseBincount(input=ids, size=size, weights=weights),
    )
