"""`python -m tau2_exp COMMAND`: what works on run folders that are already there."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tau2_exp.compose import reference
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.following import logs, status
from tau2_exp.engines.slime.cluster import cached, ray_cluster
from tau2_exp.evaluation import exporting, importing, merge, replay
from tau2_exp.report import command as report
from tau2_exp.report import workspace
from tau2_exp.runs.run import Run, check_name
from tau2_exp.serve import command as serve


def main() -> int:
    arguments = make_parser().parse_args()
    try:
        if "name" in arguments:
            check_name(arguments.name)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # At its exit Python would write what is left, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tau2_exp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _register_freeze(commands)
    _register_work(commands)
    status.register(commands)
    logs.register(commands)
    replay.register(commands)
    exporting.register(commands)
    importing.register(commands)
    merge.register(commands)
    workspace.register(commands)
    report.register(commands)
    serve.register(commands)
    cached.register(commands)
    ray_cluster.register(commands)
    reference.register(commands)
    _register_slime(commands)
    return parser


def _register_freeze(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("freeze", help="create the run folders that run.py would create, and start nothing")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run.py")
    command.set_defaults(run=_freeze)


def _freeze(arguments: argparse.Namespace) -> int:
    from tau2_exp.dispatch.dry_run import freeze_only

    return freeze_only(arguments.overrides, sys.argv)


def _register_work(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("work", help="execute frozen runs one after another (run.py calls this)")
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--attended", action="store_true", help="exit when standard input closes")
    command.set_defaults(run=_work)


def _register_slime(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("slime", help="run one part of a stage that slime trains (plans call this)")
    command.add_argument("part", choices=["tasks", "rows", "samples", "evaluate", "demos"])
    command.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder")
    command.set_defaults(run=_slime)


def _slime(arguments: argparse.Namespace) -> int:
    from tau2_exp.stages.slime_parts import do_part

    do_part(arguments.part, Run.open(arguments.folder))
    return 0


def _work(arguments: argparse.Namespace) -> int:
    from tau2_exp.dispatch.worker import work

    return work(arguments.folders, arguments.attended)


if __name__ == "__main__":
    sys.exit(main())
