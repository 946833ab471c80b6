"""What a wrong setting raises."""

from __future__ import annotations


class ConfigError(Exception):
    """A wrong setting. The message is one line: the key, the given value, and how to correct it."""


class OutOfMemory(ConfigError):
    """A device has no memory for what was asked of it: no fault that another try mends. Names what to lower."""
