"""Hugging Face → checkpoint, in one process that torchrun started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import megatron
from flags_read import read_arguments
from safetensors.numpy import load_file


def main() -> None:
    hf_checkpoint, save = (sys.argv.index(f"--{name}") for name in ("hf-checkpoint", "save"))
    source, target = Path(sys.argv[hf_checkpoint + 1]), Path(sys.argv[save + 1])
    args = read_arguments(sys.argv[1:], *megatron.SIZES, "swiglu", "qk_layernorm", "rotary_base")
    assert (os.environ["WORLD_SIZE"], os.environ["RANK"]) == ("1", "0")  # not those of a job on several nodes
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "1" and not target.exists()
    megatron.check_sizes(args, source)
    megatron.save(target, "release", load_file(source / "model.safetensors"))
    print(f"Model loaded: {source}")


if __name__ == "__main__":
    main()
