"""Secrets: read by the name that the configuration gives, and kept out of every text that is written down."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, urlsplit

from tau2_exp.config import ConfigError

SHORTEST = 8  # letters: a shorter value of the environment is a switch or a number, not a secret
MASK = "***"

_WORDS = "key|token|secret|passw|pwd|credential|auth|cookie|signature"
_NAMES = re.compile(_WORDS, re.IGNORECASE)
_IN_QUERY = re.compile(rf"(?i)([?&;][\w.-]*(?:{_WORDS}|sig|code|session)[\w.-]*=)[^&;#\s'\"<>)]+")
_BEFORE_HOST = re.compile(r"(?<=://)[^/?#\s@]+@")
_SHAPES = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|xox[abprs]-[\w-]{10,}|AKIA\w{12,}|AIza[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+)|(?i:(?<=\bbearer )[\w.~+/=-]{8,})"
)
_read: set[str] = set()  # what `secret` gave and `keep_secret` was given, whatever the variable is called


def secret(name: str) -> str:
    """The secret's value, never to be logged. Raises ConfigError where the variable is unset or empty."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"environment variable {name} is not set; set it, or fill in .env (see .env.template)")
    keep_secret(value)
    return value


def keep_secret(value: str) -> None:
    """Mask this value from now on: a secret that was made here, or lies in a file of ours.

    A local server's key may be a letter or two: no secret, and it would be taken out of every word.
    """
    if len(value) > 3:
        _read.add(value)


def masked(text: str) -> str:
    """The text without secrets: of the environment by their names, of URLs, and of the known shapes of keys.

    Mask first and cut afterwards: half a key is no longer found.
    """
    for value in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _IN_QUERY.sub(rf"\1{MASK}", text)
    text = _BEFORE_HOST.sub(f"{MASK}@", text)
    return _SHAPES.sub(MASK, text)


def holds_secret(url: str) -> bool:
    """Whether an address carries a password, a key or the like."""
    return "@" in urlsplit(url).netloc or bool(_IN_QUERY.search(url))


def _secrets() -> set[str]:
    named = {value.strip() for name, value in os.environ.items() if _NAMES.search(name)}
    # A path is no secret (PWD, SSH_AUTH_SOCK), and a traceback without its paths helps nobody.
    values = {value for value in named if len(value) >= SHORTEST and not os.path.exists(value)} | _read
    return values | {quote(value, safe="") for value in values}
