"""The asynchronous trainer: GPUs apart."""

from __future__ import annotations

import train

if __name__ == "__main__":
    train.main(colocate=False)
