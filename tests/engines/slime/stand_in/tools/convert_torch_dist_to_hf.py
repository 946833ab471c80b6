"""Checkpoint → Hugging Face: the weights of the one, all other files of the folder it came from."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import megatron
from safetensors.numpy import save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("input-dir", "output-dir", "origin-hf-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, required=True)
    args = parser.parse_args()
    if args.output_dir.exists():
        raise SystemExit(f"{args.output_dir} already exists")
    weights = megatron.load(args.input_dir)
    args.output_dir.mkdir()
    save_file(weights, args.output_dir / "model.safetensors", metadata={"format": "pt"})
    for path in args.origin_hf_dir.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copy(path, args.output_dir)


if __name__ == "__main__":
    main()
