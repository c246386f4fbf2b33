"""Regular expressions of RE2, which TensorFlow uses, as those of Python, if they match the same in linear time.

Python's own engine tries again from every place, and steps back: a text of a megabyte could hold it for hours. So a
pattern is taken only if no place is read more than a few times (`_check_time`). RE2 reads text as UTF-8, in which bytes
that are not UTF-8 match nothing but themselves; here the pattern is over bytes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

_ANY_LATE = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
"""A character beyond ASCII, as RE2 reads it: surrogates and numbers beyond Unicode count."""
_LATE_BYTES = frozenset(range(0x80, 0x100))
_ASCII = frozenset(range(0x80))
_DIGITS = frozenset(b"0123456789")
_LOWER = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CLASSES = {"d": _DIGITS, "w": _DIGITS | _LOWER | _UPPER | frozenset(b"_"), "s": frozenset(b"\t\n\f\r ")}
_NAMED = {
    "alnum": _DIGITS | _LOWER | _UPPER,
    "alpha": _LOWER | _UPPER,
    "ascii": _ASCII,
    "blank": frozenset(b"\t "),
    "cntrl": frozenset(range(32)) | {127},
    "digit": _DIGITS,
    "graph": frozenset(range(33, 127)),
    "lower": _LOWER,
    "print": frozenset(range(32, 127)),
    "punct": frozenset(range(33, 127)) - _DIGITS - _LOWER - _UPPER,
    "space": frozenset(b"\t\n\v\f\r "),
    "upper": _UPPER,
    "word": _CLASSES["w"],
    "xdigit": _DIGITS | frozenset(b"abcdefABCDEF"),
}
_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_META = frozenset("\\.+*?()|[]{}^$")
_MOST_BRANCHES = 64
_MOST_WAYS = 1000  # of bounded repetitions in one branch


class PatternError(ValueError):
    """A pattern that Python would match otherwise than RE2, or not in linear time; the text says why."""


@dataclass(frozen=True)
class _Atom:
    """What matches one character, repeated `least` to `most` times (None: without bound); or nothing at all.

    text   as Python's pattern over bytes
    holds  the bytes that a character of it may have; empty for an anchor or a bracket of a group
    """

    text: bytes
    holds: frozenset[int]
    least: int = 1
    most: int | None = 1
    lazy: bool = False

    @property
    def source(self) -> bytes:
        if (self.least, self.most) == (1, 1):
            return self.text
        count = {(0, None): b"*", (1, None): b"+", (0, 1): b"?"}.get((self.least, self.most))
        if count is None:
            count = b"{%d,%s}" % (self.least, b"" if self.most is None else b"%d" % self.most)
        return self.text + count + (b"?" if self.lazy else b"")


def replacer(pattern: bytes, rewrite: bytes, *, everywhere: bool) -> Callable[[bytes], bytes]:
    """What RE2's GlobalReplace (everywhere) or Replace makes of a text; PatternError for what cannot be translated."""
    parsed = _parse(pattern)
    branches = parsed.branches
    for branch in branches:
        _check_time(branch, is_anchored=False)
    compiled = re.compile(_source(branches))
    template = _template(rewrite, groups=compiled.groups)
    if parsed.is_spread and re.search(rb"\\[1-9]", rewrite):
        raise PatternError("the replacement refers to a group beside one that has branches or may be missing")
    [first, *others] = branches
    is_one_byte = not others and len(first) == 1 and first[0].holds <= _ASCII
    if everywhere and is_one_byte and (first[0].least, first[0].most) == (1, 1) and not template and len(rewrite) <= 1:
        return _by_table(first[0].holds, rewrite)
    count = 0 if everywhere else 1
    return lambda text: compiled.sub(template or (lambda match: rewrite), text, count)


def full_matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether RE2's FullMatch finds that a whole text matches; PatternError for what cannot be translated."""
    branches = _parse(pattern).branches
    for branch in branches:
        _check_time(branch, is_anchored=True)
    compiled = re.compile(_source(branches))
    return lambda text: compiled.fullmatch(text) is not None


def _by_table(chosen: frozenset[int], rewrite: bytes) -> Callable[[bytes], bytes]:
    if not rewrite:
        return functools.partial(_without, bytes(sorted(chosen)))
    table = bytes(rewrite[0] if byte in chosen else byte for byte in range(256))
    return lambda text: text.translate(table)


def _without(chosen: bytes, text: bytes) -> bytes:
    return text.translate(None, chosen)


def _template(rewrite: bytes, groups: int) -> Callable[[re.Match[bytes]], bytes] | None:
    """The replacement of a match, if it holds parts of it: `\\0` all, `\\1` the first group; None for plain text."""
    if b"\\" not in rewrite:
        return None
    parts: list[bytes | int] = []
    for plain, escaped in re.findall(rb"([^\\]+)|\\(.?)", rewrite, re.DOTALL):
        if plain:
            parts.append(plain)
        elif escaped == b"\\":
            parts.append(b"\\")
        elif escaped.isdigit() and int(escaped) <= groups:
            parts.append(int(escaped))
        else:
            raise PatternError(f"the replacement {rewrite.decode('latin-1')!r} refers to a group that is not there")
    return lambda match: b"".join(part if isinstance(part, bytes) else match[part] or b"" for part in parts)


def _source(branches: list[list[_Atom]]) -> bytes:
    return b"|".join(b"".join(atom.source for atom in branch) for branch in branches)


def _check_time(branch: list[_Atom], *, is_anchored: bool) -> None:
    """PatternError unless the branch matches at least one character, and matching takes linear time."""
    atoms = [atom for atom in branch if atom.holds]
    if not is_anchored and not any(atom.least for atom in atoms):
        raise PatternError("it may match nothing")
    ways = 1
    endless = [i for i, atom in enumerate(branch) if atom.holds and atom.most is None]
    for atom in atoms:
        if atom.most is not None:
            ways *= atom.most - atom.least + 1
    if ways > _MOST_WAYS:
        raise PatternError("it has too many optional parts")
    for i in endless:
        for following in branch[i + 1 :]:
            if following.text in (b"(", b")"):
                continue
            if not following.holds or following.holds & branch[i].holds:
                raise PatternError("what follows a repetition could be a part of it")
            if following.least:
                break
    if is_anchored or not endless or branch[0].text == rb"\A":
        return
    first = atoms[0]
    if first.most is None:
        if len(branch) > 1:
            raise PatternError("it begins with a repetition")
    elif not first.least or any(first.holds & branch[i].holds for i in endless if _may_fail(branch[i + 1 :])):
        raise PatternError("its beginning could be a part of its repetition")


def _may_fail(rest: list[_Atom]) -> bool:
    """Whether the rest of a branch can find that a text does not match."""
    return any(atom.least and atom.text not in (b"(", b")") for atom in rest)


@dataclass(frozen=True)
class _Parsed:
    """The branches of a pattern, each a sequence: `a|b` has two, and so has `a(b)?`.

    is_spread  whether a group became branches, so that others have other numbers than in the pattern
    """

    branches: list[list[_Atom]]
    is_spread: bool


def _parse(pattern: bytes) -> _Parsed:
    """The branches in the order in which RE2 tries them."""
    try:
        text = pattern.decode()
    except UnicodeDecodeError:
        raise PatternError("it is not UTF-8") from None
    reader = _Reader(text)
    branches = reader.branches(0)
    if reader.at < len(text):
        raise PatternError(f"{text[reader.at]!r} at character {reader.at + 1} is not translated")
    if reader.is_spread:
        for branch in branches:
            _check_extents(branch)
    return _Parsed(branches, reader.is_spread)


def _check_extents(branch: list[_Atom]) -> None:
    """PatternError unless a text tells how often each part is repeated: else the order of branches would decide."""
    atoms = [atom for atom in branch if atom.holds]
    for n, atom in enumerate(atoms):
        if atom.least == atom.most:
            continue
        for following in atoms[n + 1 :]:
            if following.holds & atom.holds:
                raise PatternError("what follows a part that may be missing could be a part of it")
            if following.least:
                break


class _Reader:
    """Reads a pattern from `at` on."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.is_spread = text, 0, False

    def branches(self, depth: int) -> list[list[_Atom]]:
        """The branches up to the end, or up to the bracket that closes a group."""
        found = self._sequence(depth)
        while self.text[self.at : self.at + 1] == "|":
            self.at += 1
            found += self._sequence(depth)
        return found

    def _sequence(self, depth: int) -> list[list[_Atom]]:
        found: list[list[_Atom]] = [[]]
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            letter = self.text[self.at]
            if letter == "(":
                group = self._group(depth)
                found = [[*before, *inner] for before in found for inner in group]
                if len(found) > _MOST_BRANCHES:
                    raise PatternError("it has too many branches")
                continue
            if letter == "^" and self.at == begin and not depth:
                atom, self.at = _Atom(rb"\A", frozenset()), self.at + 1
            elif letter == "$" and not depth and self.text[self.at + 1 : self.at + 2] in ("", "|"):
                atom, self.at = _Atom(rb"\Z", frozenset()), self.at + 1
            else:
                atom, self.at = _atom(self.text, self.at)
                atom, self.at = _repeated(atom, self.text, self.at)
            for branch in found:
                branch.append(atom)
        if self.at == begin:
            raise PatternError("it has an empty branch or an open group")
        return found

    def _group(self, depth: int) -> list[list[_Atom]]:
        """A group's branches; that of one which may be missing is empty."""
        self.at += 1
        is_named = self.text[self.at : self.at + 1] != "?"
        if not is_named:
            if self.text[self.at : self.at + 2] != "?:":
                raise PatternError(f"'?' at character {self.at + 1} is not translated")
            self.at += 2
        inner = self.branches(depth + 1)
        if self.text[self.at : self.at + 1] != ")":
            raise PatternError("it has an empty branch or an open group")
        self.at += 1
        following = self.text[self.at : self.at + 1]
        if following in ("*", "+", "{") or (following == "?" and self.text[self.at + 1 : self.at + 2] in tuple("?*+")):
            raise PatternError(f"{following!r} at character {self.at + 1} is not translated")
        if following == "?":
            self.at, self.is_spread = self.at + 1, True
            return [*inner, []]
        if len(inner) > 1:
            self.is_spread = True
            return inner
        ends = [_Atom(bracket, frozenset()) for bracket in (b"(", b")")] if is_named else []
        return [[*ends[:1], *inner[0], *ends[1:]]]


def _atom(text: str, at: int) -> tuple[_Atom, int]:
    letter = text[at]
    if letter == "[":
        return _class(text, at)
    if letter == ".":
        return _set(frozenset(b"\n"), negated=True), at + 1
    if letter == "\\":
        escaped = text[at + 1 : at + 2]
        if escaped in ("b", "B"):
            return _Atom(b"\\" + escaped.encode(), frozenset()), at + 2
        if escaped.lower() in _CLASSES and escaped:
            return _set(_CLASSES[escaped.lower()], negated=escaped.isupper()), at + 2
        letter, at = _escaped(text, at)
        return _literal(letter), at
    if letter in _META:
        raise PatternError(f"{letter!r} at character {at + 1} is not translated")
    return _literal(letter), at + 1


def _escaped(text: str, at: int) -> tuple[str, int]:
    """The character that an escape stands for, and where the text goes on."""
    escaped = text[at + 1 : at + 2]
    if escaped in _ESCAPES:
        return _ESCAPES[escaped], at + 2
    if not escaped or escaped.isalnum() or ord(escaped) >= 0x80:
        raise PatternError(f"\\{escaped} is not translated")
    return escaped, at + 2


def _literal(letter: str) -> _Atom:
    encoded = letter.encode()
    text = re.escape(encoded)
    return _Atom(text if len(encoded) == 1 else b"(?:" + text + b")", frozenset(encoded))


def _set(members: frozenset[int], *, negated: bool, late: frozenset[str] = frozenset()) -> _Atom:
    """A class of ASCII characters, and single ones beyond."""
    if negated:
        if late:
            raise PatternError("a negated class with characters beyond ASCII is not translated")
        own = _one_of(_ASCII - members)
        return _Atom(b"(?:" + own + b"|" + _ANY_LATE + b")", (_ASCII - members) | _LATE_BYTES)
    if not late:
        return _Atom(_one_of(members), members)
    others = [re.escape(letter.encode()) for letter in sorted(late)]
    every = b"|".join([*([_one_of(members)] if members else []), *others])
    return _Atom(b"(?:" + every + b")", members | frozenset(b"".join(letter.encode() for letter in late)))


def _one_of(members: frozenset[int]) -> bytes:
    if not members:
        raise PatternError("an empty class")
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(members)) + b"]"


def _class(text: str, at: int) -> tuple[_Atom, int]:
    """`[...]`: characters, ranges, escapes, and names such as [:punct:]."""
    at += 1
    negated = text[at : at + 1] == "^"
    at += negated
    members: set[int] = set()
    late: set[str] = set()
    begin = at
    while at < len(text) and (text[at] != "]" or at == begin):
        named = re.match(r"\[:(\^?)(\w+):\]", text[at:])
        if named:
            if named[1] or named[2] not in _NAMED:
                raise PatternError(f"{named[0]} is not translated")
            members |= _NAMED[named[2]]
            at += named.end()
            continue
        if text[at] == "\\" and text[at + 1 : at + 2].lower() in _CLASSES and text[at + 1 : at + 2]:
            chosen = _CLASSES[text[at + 1].lower()]
            if text[at + 1].isupper():
                raise PatternError(f"\\{text[at + 1]} in a class is not translated")
            members |= chosen
            at += 2
            continue
        low, at = _escaped(text, at) if text[at] == "\\" else (text[at], at + 1)
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("]", ""):
            high, at = _escaped(text, at + 1) if text[at + 1] == "\\" else (text[at + 1], at + 2)
        if high < low:
            raise PatternError("a range runs backwards")
        if ord(high) < 0x80:
            members |= set(range(ord(low), ord(high) + 1))
        elif low == high:
            late.add(low)
        else:
            raise PatternError("a range beyond ASCII is not translated")
    if at >= len(text):
        raise PatternError("a class has no end")
    return _set(frozenset(members), negated=negated, late=frozenset(late)), at + 1


def _repeated(atom: _Atom, text: str, at: int) -> tuple[_Atom, int]:
    match = re.match(r"([*+?]|\{(\d+)(,(\d*))?\})(\??)", text[at:])
    if match is None:
        return atom, at
    if not atom.holds:
        raise PatternError("a repeated anchor")
    if match[1] in ("*", "+", "?"):
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[match[1]]
    else:
        least = int(match[2])
        most = least if match[3] is None else int(match[4]) if match[4] else None
    if max(least, most or 0) > _MOST_WAYS or (most is not None and most < least):
        raise PatternError("a repetition has a wrong or large bound")
    if match[5] and most is None:
        raise PatternError("a repetition that takes as little as it can is not translated")
    following = text[at + match.end() : at + match.end() + 1]
    if following in ("*", "+", "?"):
        raise PatternError("a repetition of a repetition")
    return _Atom(atom.text, atom.holds, least, most, bool(match[5])), at + match.end()
