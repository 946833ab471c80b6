"""What a wrong setting raises."""

from __future__ import annotations


class ConfigError(Exception):
    """One line for a person: the key, what was given, and what would do."""
