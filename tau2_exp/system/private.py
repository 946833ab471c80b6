"""Files that hold a secret: their owner alone may read them."""

from __future__ import annotations

import os
from pathlib import Path

from tau2_exp.files import whole_file


def write_private(path: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner alone from the first byte on."""
    with whole_file(path) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text.encode())
