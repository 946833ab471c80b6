"""What a wrong setting raises."""

from __future__ import annotations


class ConfigError(Exception):
    """A wrong setting. The message is one line: the key, the given value, and how to correct it."""
