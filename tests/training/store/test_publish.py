"""Versions that appear whole: numbering, races, leftovers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ladle.training.store import publish

WRITER = """
import sys
from pathlib import Path
from ladle.training.store import publish
with publish.draft(Path(sys.argv[1])) as path:
    (path / "half").write_text("written")
    print("writing", flush=True)
    sys.stdin.read()
"""


def published(folder: Path, content: str = "") -> Path:
    with publish.draft(folder) as path:
        return publish.publish(path, lambda version: path.joinpath("card").write_text(f"{version}{content}") and None)


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".tmp-*"))


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is in the middle of writing a version to tmp_path / "model"."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "model")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def test_versions_count_up_from_one(tmp_path: Path) -> None:
    assert [published(tmp_path / "model").name for _ in range(3)] == ["1", "2", "3"]


def test_a_version_is_one_above_the_highest_whatever_its_name(tmp_path: Path) -> None:
    for name in ("2", "0007", "latest", "3.5", "-9"):
        (tmp_path / "model" / name).mkdir(parents=True)
    assert published(tmp_path / "model").name == "8"


def test_the_version_is_told_its_own_number(tmp_path: Path) -> None:
    published(tmp_path / "model")
    assert (published(tmp_path / "model") / "card").read_text() == "2"


def test_a_draft_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    def fail(version: int) -> None:
        raise ArithmeticError(version)

    with pytest.raises(ArithmeticError), publish.draft(tmp_path / "repository" / "model") as path:
        publish.publish(path, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_versions_that_were_there(tmp_path: Path) -> None:
    published(tmp_path / "model")
    with pytest.raises(ArithmeticError), publish.draft(tmp_path / "model"):
        raise ArithmeticError
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["1"]


def test_writers_at_once_each_get_a_version_of_their_own(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def write(n: int) -> None:
        with publish.draft(tmp_path / "model") as path:
            (path / "writer").write_text(str(n))
            start.wait()
            publish.publish(path, lambda version: (path / "card").write_text(str(version)) and None)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folders = publish.versions(tmp_path / "model")
    assert sorted(folders) == list(range(1, 9))
    assert {(path / "card").read_text() for path in folders.values()} == set("12345678")
    assert {(path / "writer").read_text() for path in folders.values()} == set("01234567")
    assert drafts(tmp_path / "model") == []


def test_a_draft_of_a_living_writer_is_kept(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    published(tmp_path / "model")
    assert [(path / "half").read_text() for path in drafts(tmp_path / "model")] == ["written"]


def test_a_draft_of_a_killed_writer_is_removed_by_the_next(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(drafts(tmp_path / "model")) == 1
    published(tmp_path / "model")
    assert drafts(tmp_path / "model") == []


def test_a_version_has_the_rights_that_the_user_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert published(tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_is_replaced_whole_and_leaves_no_other(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        publish.write_file(tmp_path / "card.json", content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("card.json", b"new")]
