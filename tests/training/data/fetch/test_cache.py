from __future__ import annotations

import gzip
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ladle.training.data import DataError
from ladle.training.data.fetch import cache


def test_the_cache_is_the_argument_then_the_variables_then_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LADLE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.root() == tmp_path / "home" / ".cache" / "ladle"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "ladle"
    monkeypatch.setenv("LADLE_CACHE", str(tmp_path / "own"))
    assert cache.root() == tmp_path / "own"
    assert cache.root(tmp_path / "argument") == tmp_path / "argument"


def test_a_folder_appears_whole_and_sealed(tmp_path: Path) -> None:
    target = tmp_path / "data" / "set" / "source"

    def write(folder: Path) -> None:
        assert not target.exists()
        (folder / "a.txt").write_text("a")

    cache.fill(target, write)
    assert cache.intact(target)
    assert (target / "SHA256SUMS").read_text() == f"{hashlib.sha256(b'a').hexdigest()}  a.txt\n"


def test_a_fetch_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("ha")
        raise DataError("the line is dead")

    with pytest.raises(DataError, match="the line is dead"):
        cache.fill(tmp_path / "set" / "source", write)
    assert [file.name for file in (tmp_path / "set").iterdir()] == [".source.lock"]


def test_leavings_of_a_killed_fetch_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "set" / ".source-killed" / "whole").mkdir(parents=True)
    cache.fill(tmp_path / "set" / "source", lambda folder: None)
    assert not (tmp_path / "set" / ".source-killed").exists()


def test_a_folder_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    calls: list[Path] = []
    for _ in range(2):
        cache.fill(tmp_path / "source", calls.append)
    assert len(calls) == 1


@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_a_harmed_file_is_noticed_and_replaced(tmp_path: Path, harm: str) -> None:
    target = tmp_path / "source"

    def write(folder: Path) -> None:
        (folder / "a").write_text("whole")

    cache.fill(target, write)
    if harm == "changed":
        (target / "a").write_text("whale")
    else:
        (target / "a").unlink()
    assert not cache.intact(target)
    cache.fill(target, write)
    assert (target / "a").read_text() == "whole"


def test_a_digest_looks_into_gzip_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"inside"))
    assert cache.sha256(path, unpacked=True) == hashlib.sha256(b"inside").hexdigest()
    assert cache.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_truncated_gzip_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"inside" * 99)[:-9])
    with pytest.raises(DataError, match=r"a\.gz: cannot be read to the end"):
        cache.sha256(path, unpacked=True)


def test_a_cache_in_the_way_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="set LADLE_CACHE"):
        cache.fill(tmp_path / "file" / "set" / "source", lambda folder: None)


def test_two_fetches_at_once_write_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(cache.fill, tmp_path / "source", calls.append) for _ in range(4)]:
            result.result()
    assert len(calls) == 1
