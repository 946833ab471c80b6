"""`python -m tau2_exp COMMAND`, and `tau2-exp COMMAND` where it is installed: run, and work on run folders.

Everything is imported by the command that needs it: `run` answers on machines where the others could not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tau2_exp.config import ConfigError
from tau2_exp.system.code import run_command


def main(words: Sequence[str] | None = None) -> int:
    """Do one command and return its exit status. `words` follow the program's name; None: those of sys.argv."""
    try:
        return _do(sys.argv[1:] if words is None else words)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # At its exit Python would write what is left, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        about = error.filename2 or error.filename
        print(f"error: {f'{about}: ' if about else ''}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _do(words: Sequence[str]) -> int:
    if words[:1] == ["run"]:
        from tau2_exp.dispatch.command_line import run

        return run(words[1:])
    from tau2_exp.runs.outputs import check_name

    arguments = make_parser().parse_args(words)
    if "name" in arguments:
        check_name(arguments.name)
    status: int = arguments.run(arguments)
    sys.stdout.flush()
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands but `run`, whose words are Hydra's."""
    from tau2_exp.compose import reference
    from tau2_exp.dispatch.following import logs, status
    from tau2_exp.engines.slime.cluster import cached, ray_cluster
    from tau2_exp.evaluation import exporting, importing, merge, replay
    from tau2_exp.report import command as report
    from tau2_exp.report import workspace
    from tau2_exp.serve import command as serve
    from tau2_exp.stages import credit_command

    parser = argparse.ArgumentParser(prog=_program(), description="Train and evaluate agents on τ²-bench.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="compose a configuration and do what it says: run --help")
    _register_freeze(commands)
    _register_work(commands)
    evaluations = (replay, exporting, importing, merge)
    for room in (status, logs, *evaluations, workspace, report, credit_command, serve, cached, ray_cluster, reference):
        room.register(commands)
    _register_slime(commands)
    return parser


def _program() -> str:
    name = Path(sys.argv[0]).name
    return name if name == "tau2-exp" else "python -m tau2_exp"


def _register_freeze(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("freeze", help=f"make the run folders that {run_command()} would, and start nothing")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"as for {run_command()}")
    command.set_defaults(run=_freeze)


def _freeze(arguments: argparse.Namespace) -> int:
    from tau2_exp.dispatch.dry_run import freeze_only

    return freeze_only(arguments.overrides, sys.argv)


def _register_work(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("work", help=f"execute frozen runs one after another ({run_command()} calls this)")
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--attended", action="store_true", help="exit when standard input closes")
    command.set_defaults(run=_work)


def _register_slime(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("slime", help="run one part of a stage that slime trains (plans call this)")
    command.add_argument("part", choices=["tasks", "rows", "samples", "evaluate", "demos"])
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder")
    command.set_defaults(run=_slime)


def _slime(arguments: argparse.Namespace) -> int:
    from tau2_exp.runs.run import Run
    from tau2_exp.stages.slime_parts import do_part

    do_part(arguments.part, Run.open(arguments.folder))
    return 0


def _work(arguments: argparse.Namespace) -> int:
    from tau2_exp.dispatch.worker import work

    return work(arguments.folders, arguments.attended)


if __name__ == "__main__":
    sys.exit(main())
