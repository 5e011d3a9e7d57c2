"""The site of the documentation: it is built without a warning, and is whole by itself."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

import moderngl_colab
from moderngl_colab.options import Settings

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "docs" / "site" / "mkdocs.yml"
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """What a page links to, loads, and can be linked to by; its words beside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += [given[name] for kind, name in LOADED if kind == tag and name in given]


class Site(NamedTuple):
    folder: Path
    said: str
    pages: Mapping[str, Page]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIGURATION)]
    # A traceback would be all that is said of a proxy which is not there.
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [*command, "-d", str(folder)], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {
        str(path.relative_to(folder)): Page(path.read_text()) for path in folder.rglob("*.html")
    }
    return Site(folder, done.stdout + done.stderr, pages)


def test_it_is_built_without_a_warning(site: Site) -> None:
    assert "WARNING" not in site.said
    assert "Documentation built in" in site.said


def test_every_page_of_the_navigation_is_there(site: Site) -> None:
    named = re.findall(r"^ +- .*: (\S+)\.md$", CONFIGURATION.read_text(), re.MULTILINE)

    assert len(named) > 15
    for name in named:
        assert f"{name}.html" in site.pages
        assert f"{name}.html" in site.pages["index.html"].links


def test_a_page_says_in_which_language_it_is(site: Site) -> None:
    said = {
        name: re.findall(r"<html lang=\"([^\"]*)\"", (site.folder / name).read_text())
        for name in ("index.html", "README.zh-CN.html")
    }

    assert said == {"index.html": ["en"], "README.zh-CN.html": ["zh-CN"]}


def test_links_lead_to_what_is_there(site: Site) -> None:
    looked_at = 0
    for name, page in site.pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            base = site.folder if name == "404.html" else (site.folder / name).parent
            path = unquote(parts.path)
            there = site.folder / name
            if path:
                there = site.folder / path[1:] if path.startswith("/") else base / path
            assert there.exists(), (name, link)
            if parts.fragment and there.suffix == ".html":
                target = str(there.resolve().relative_to(site.folder.resolve()))
                fragment = unquote(parts.fragment)
                assert fragment in site.pages[target].ids | {"__codelineno"}, (name, link)
            looked_at += 1
    assert looked_at > 500


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    for name, page in site.pages.items():
        assert [load for load in page.loads if urlsplit(load).netloc] == [], name
    styles = "".join(path.read_text() for path in site.folder.rglob("*.css"))
    assert re.findall(r"@import[^;]+|url\(\W?(?:https?:)?//[^)]*", styles) == []


def test_examples_and_their_source_are_pages(site: Site) -> None:
    for path in (ROOT / "examples").rglob("*.py"):
        page = site.folder / f"{path.relative_to(ROOT)}.html"
        text = re.sub(r"<[^>]+>", "", page.read_text())
        assert "from __future__ import annotations" in text, path


def test_the_api_has_every_public_name_with_its_arguments(site: Site) -> None:
    text = (site.folder / "api.html").read_text()
    # From a name's heading to the next one of its level.
    sections = dict(
        re.findall(r'<h3 [^>]*id="moderngl_colab\.(\w+)"(.*?)(?=<h[23] |$)', text, re.S)
    )
    assert set(moderngl_colab.__all__) - {"errors", "strategies"} <= set(sections)
    for name in set(moderngl_colab.__all__) & set(sections):
        words = set(re.findall(r"\w+", re.sub(r"<[^>]+>", " ", sections[name])))
        public = getattr(moderngl_colab, name)
        expected = set(getattr(public, "_fields", ()))
        if inspect.isfunction(public):
            expected = set(inspect.signature(public).parameters) - {"settings"}
        if name == "get_gpu_context":
            expected |= set(Settings.__annotations__)
        summary = (inspect.getdoc(public) or "").partition("\n")[0]
        expected |= set(re.findall(r"\w+", re.sub(r":\w+:`(?:moderngl_colab\.)?", " ", summary)))
        assert expected <= words, name
        assert not re.search(r":(?:func|class|attr|meth):|::", sections[name]), name
