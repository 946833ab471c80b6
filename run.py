"""Compose a configuration, check it, freeze it into a run's folder, do it: `python run.py --help`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from hydra._internal.utils import get_args_parser

from tau2_exp.compose.choices import CONF
from tau2_exp.compose.composition import compose_config
from tau2_exp.compose.help import help_text
from tau2_exp.compose.listing import config_yaml
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.hydra_launcher import translate


def main() -> int:
    arguments = get_args_parser().parse_intermixed_args()
    try:
        return _answer(arguments)
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


def _answer(arguments: Namespace) -> int:
    if arguments.config_path or arguments.config_name or arguments.config_dir:
        raise ConfigError("--config-…: not taken here; a folder of your own goes into hydra.searchpath=[FOLDER]")
    arguments.overrides = translate(arguments.overrides)
    if arguments.help:
        print(help_text())
        return 0
    if arguments.cfg == "job":
        print(config_yaml(compose_config(arguments.overrides), arguments.package))
        return 0
    if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
        return _hydra_answers()

    from tau2_exp.dispatch.launch import launch

    return launch(arguments.overrides, arguments.multirun, sys.argv)


def _hydra_answers() -> int:
    """Flags about Hydra itself; it reads the command line again and never comes to run anything."""
    import hydra

    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(lambda _: None)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
