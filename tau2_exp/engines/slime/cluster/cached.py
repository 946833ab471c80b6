"""`cached`: a conversion of a model, made whole or not at all, and once for all runs that need the same one.

    python -m tau2_exp cached --of MODEL --into TARGET --cache DIR -- COMMAND … {source} … {target} …

COMMAND writes what it makes into {target}, a folder that is not there yet. With --cache the result lies in DIR under
the hash of the model's content and of the command, and TARGET is a link to it; without, it is TARGET itself. MODEL is
a folder in Hugging Face's format, a hub name, or (without --cache) a folder of Megatron checkpoints, of which {source}
is the newest.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tau2_exp.codec import decode, encode
from tau2_exp.config import ConfigError
from tau2_exp.engines.torch.hub import download
from tau2_exp.files import part_of
from tau2_exp.jsonl import write_json
from tau2_exp.system.processes import INNER_GRACE_SECONDS, end, how_it_ended, start, status_of, terminable, undisturbed

CONVERSION = "conversion.json"  # in what was made: where it comes from
TRACKER = "latest_checkpointed_iteration.txt"  # Megatron's
WEIGHTS = ("*.safetensors", "*.bin")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Conversion:
    """What a converted model was made from, and how."""

    source: str
    command: tuple[str, ...]  # with {source} and {target} in the places of the two
    made: str
    content: str | None = None  # the hash of the source's content


class ConversionFailed(Exception):
    """The conversion's command failed, or wrote nothing."""


def register(commands: argparse._SubParsersAction) -> None:
    """Add `cached` to a parser's subcommands."""
    command = commands.add_parser("cached", help="convert a model once and keep the result")
    command.add_argument("--of", required=True, metavar="MODEL", help="a folder, or a hub name")
    command.add_argument("--into", required=True, type=Path, metavar="TARGET", help="path of the result")
    command.add_argument("--cache", type=Path, metavar="DIR", help="cache of results, by the content of their source")
    command.add_argument("argv", nargs="+", metavar="-- COMMAND", help="{source} and {target} are filled in")
    command.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    with terminable():
        try:
            convert(given.of, given.into, given.cache, given.argv)
        except ConversionFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def convert(model: str, target: Path, cache: Path | None, argv: Sequence[str]) -> Path:
    """The folder of the converted model, which `target` is or leads to. Raises ConversionFailed, ConfigError."""
    source = find_source(model)
    command = tuple("{source}" if part in (model, str(source)) else part for part in argv)
    made, content = target, None
    if cache is not None:
        content = content_hash(source)
        made = cache / hashlib.sha256(json.dumps([content, command]).encode()).hexdigest()[:24]
    made.parent.mkdir(parents=True, exist_ok=True)
    with _locked(made.with_name(f".{made.name}.lock")):
        if made.exists():
            print(f"{made}: already there, made from {read_conversion(made).source}", flush=True)
        else:
            _make(made, source, argv, Conversion(str(source), command, _now(), content))
    if made != target:
        _link(target, made)
    return made


def find_source(model: str) -> Path:
    """The folder of a model: a Megatron checkpoint's newest iteration, the folder itself, or what the hub gives."""
    folder = Path(model)
    if (folder / TRACKER).is_file():
        return folder / iteration_folder((folder / TRACKER).read_text().strip())
    if folder.is_dir():
        return folder
    return download(model, HUB_FILES)


def iteration_folder(iteration: str) -> str:
    """Megatron's name for the folder of an iteration (a number, or `release`)."""
    return iteration if iteration == "release" else f"iter_{int(iteration):07d}"


def content_hash(folder: Path) -> str:
    """SHA-256 of a Hugging Face folder's configuration and weights, whatever it is called and wherever it lies.

    Raises ConfigError where it holds no model.
    """
    weights = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    if not (folder / "config.json").is_file() or not weights:
        raise ConfigError(f"{folder}: no model in Hugging Face's format (config.json and *.safetensors)")
    total = hashlib.sha256()
    for path in [folder / "config.json", *weights]:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


def read_conversion(folder: Path) -> Conversion:
    """The record of how a converted model was made. Raises OSError where `folder` has none."""
    return decode(Conversion, json.loads((folder / CONVERSION).read_text()))


def _make(made: Path, source: Path, argv: Sequence[str], conversion: Conversion) -> None:
    for left in made.parent.glob(f".{made.name}.part*"):
        shutil.rmtree(left)  # a killed attempt's; we hold the lock
    part = part_of(made)
    filled = [piece.replace("{source}", str(source)).replace("{target}", str(part)) for piece in argv]
    began = time.monotonic()
    print(f"{made}: is made from {source}", flush=True)
    process = start(filled, {})
    try:
        while (status := status_of(process)) is None:
            time.sleep(POLL_SECONDS)
    finally:
        with undisturbed():
            end([process], INNER_GRACE_SECONDS)
    if status or not part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        raise ConversionFailed(f"{filled[0]} {how_it_ended(status)}" + ("" if status else " but wrote nothing"))
    write_json(part / CONVERSION, encode(conversion))
    part.rename(made)
    print(f"{made}: made in {time.monotonic() - began:.0f} s", flush=True)


def _link(target: Path, made: Path) -> None:
    """A relative link, so that both can be moved together."""
    if target.is_dir() and not target.is_symlink():
        raise ConfigError(f"--into {target}: is a folder that holds something else; remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    part.symlink_to(os.path.relpath(made.resolve(), target.parent.resolve()))
    part.replace(target)
    print(f"{target} -> {made}", flush=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock among all processes; a killed process releases its lock."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path.parent}: another run is making the same; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
