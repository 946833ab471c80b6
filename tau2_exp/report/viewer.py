"""The trajectory viewer as a part of a page: its markup, its style and its script, all without a network."""

from __future__ import annotations

from html import escape
from importlib import resources

_SCRIPTS = ("dom", "data", "filters", "list", "score", "tree", "messages", "episode", "viewer")


def viewer_style() -> str:
    """CSS, all of it below the class `viewer`."""
    return _read("viewer.css")


def viewer_script() -> str:
    """JavaScript that finds every viewer of the page and fills it; its names stay its own."""
    return '(() => {\n"use strict";\n' + "\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "})();\n"


def viewer_markup(folder: str) -> str:
    """The markup of the viewer; `folder` holds the episode data, relative to the page."""
    return f'<div class="viewer" data-folder="{escape(folder)}"><noscript>The viewer needs JavaScript.</noscript></div>'


def _read(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text(encoding="utf-8")
