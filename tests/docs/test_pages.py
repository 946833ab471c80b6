"""The README, the pages of docs/ and the files beside them: complete, linked, plain, and a site without a network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from flows import ROOT

import tau2_exp
from tau2_exp.report.readme import BEGIN, END

README = ROOT / "README.md"
BESIDE = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# The project's own words of old, for which the field has others.
PRIVATE = re.compile(r"stands? on\b|told apart|could have seen|\bspoiled\b|\bIn short\b")
# What no page tells: the machine that it was written on.
ELSEWHERE = re.compile(r"\.\./shared|/work/|/tmp/|at hand here")


def test_the_readme_can_be_read_in_one_go() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert BEGIN in text and END in text, "`report --readme README.md` renews the diagram"


@pytest.mark.parametrize("page", BESIDE, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path
        assert target.exists(), f"{page.name}: {link}"
        assert not heading or heading in headings(target), f"{page.name}: {link}"


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs").rglob("*.png"))
    assert pictures and all(picture.stat().st_size < 200_000 for picture in pictures)


@pytest.mark.skipif(not find_spec("material"), reason="mkdocs-material is not installed (the extra 'dev')")
def test_the_pages_make_a_site_that_loads_nothing_from_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = list(tmp_path.rglob("*.html"))
    assert len(made) > len(list((ROOT / "docs").glob("*.md")))
    for page in made:
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"', page.read_text())
        assert not loaded, f"{page.name}: {loaded}"


def test_texts_use_the_fields_words() -> None:
    for page in [*BESIDE, *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        found = [m[0] for pattern in (PRIVATE, ELSEWHERE) for m in pattern.finditer(text)]
        assert not found, f"{page.name}: {found}"
    for path in sorted((ROOT / "tau2_exp").rglob("*.py")):
        found = [text for text in strings(path) if PRIVATE.search(text)]
        assert not found, f"{path.name}: {found}"


def test_the_citation_and_the_changelog_know_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert citation["version"] == tau2_exp.__version__ and citation["license"] == "Apache-2.0"
    assert f"## [{tau2_exp.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


def strings(path: Path) -> Iterator[str]:
    """The strings of a module that are no docstrings: messages, help, headings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
