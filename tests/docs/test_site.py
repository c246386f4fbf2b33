"""The site: it builds without a warning, every link and picture leads somewhere, nothing comes from another host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="the extra `docs` is not installed; it needs Python 3.11")
pytest.importorskip("furo")

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does, elsewhere."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(target / "doctrees")]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(source), str(target / "html")], env=environment, cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    target = tmp_path_factory.mktemp("site")
    done = build(DOCS, target)
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING: |ERROR: ", done.stderr.replace("WARNING: All log messages", ""))
    return target / "html"


class Page(HTMLParser):
    """The ids of a page, what it links to and what a browser loads with it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "iframe") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon", "prefetch"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file.resolve(): Page(file) for file in sorted(site.rglob("*.html"))}


def broken(file: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for link in [*pages[file].links, *pages[file].loaded]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not target.is_file() or (
            parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
        ):
            yield link


def test_every_link_and_picture_leads_somewhere(pages: dict[Path, Page]) -> None:
    assert len(pages) > 30
    assert {file.name: found for file in pages if (found := list(broken(file, pages)))} == {}


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {link for page in pages.values() for link in page.loaded}
    assert {link for link in loaded if urlsplit(link).netloc} == set()
    styles = [file.read_text(encoding="utf-8") for file in site.rglob("*.css")]
    assert styles
    assert not [found for style in styles for found in re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style)]


def test_every_source_is_a_page_that_the_contents_name(site: Path, pages: dict[Path, Page]) -> None:
    sources = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    contents = {urlsplit(link).path for link in pages[(site / "index.html").resolve()].links}
    assert {str(source) for source in sources} - {"index.html"} <= contents


def test_the_reference_names_every_verb_flag_method_network_and_entry(site: Path) -> None:
    import ladle
    from ladle import command, models
    from ladle.serving.flag_table import FLAGS

    wanted = {
        "command-line": [f"ladle {verb}" for verb in command.VERBS],
        "server-flags": [f"--{flag.name}" for flag in FLAGS],
        "client": [f">{name}<" for name in vars(ladle.Client) if not name.startswith("_")],
        "networks": models.names(),
        "gateway": ["/api/v1/models/{name}:classify", "LADLE_GATEWAY_SERVER", "/healthz"],
        "card": ["training_seconds", "decode_image", "parity"],
    }
    for page, words in wanted.items():
        text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        assert [word for word in words if word not in text] == [], page


def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    for part in ("_extension", "_static"):
        shutil.copytree(DOCS / part, tmp_path / "docs" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DOCS / "conf.py", tmp_path / "docs")
    page = tmp_path / "docs" / "index.md"
    page.write_text("# Page\n\nText.\n")
    assert build(tmp_path / "docs", tmp_path / "good").returncode == 0
    # One build for all four: each takes seconds, and --keep-going reports every one of them.
    page.write_text("# Page\n\n[](absent.md)\n\n[](index.md#heading)\n\n![no](picture.png)\n\n{doc}`role`\n")
    done = build(tmp_path / "docs", tmp_path / "bad")
    assert done.returncode != 0
    for name in ("absent", "heading", "picture", "role"):
        assert name in done.stderr, done.stderr
