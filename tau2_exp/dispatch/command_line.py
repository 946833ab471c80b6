"""`python run.py …` and `tau2-exp run …`: compose a configuration, check it, freeze it into a run's folder, do it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

from tau2_exp.compose.choices import CONF
from tau2_exp.compose.help import help_text
from tau2_exp.config import ConfigError
from tau2_exp.dispatch.hydra_launcher import translate


def run(words: Sequence[str]) -> int:
    """Run the command line after `run`: overrides and Hydra's flags; the exit status. Raises ConfigError."""
    arguments = get_args_parser().parse_intermixed_args(words)
    if arguments.config_path or arguments.config_name or arguments.config_dir:
        raise ConfigError("--config-…: not taken here; a folder of your own goes into hydra.searchpath=[FOLDER]")
    arguments.overrides = translate(arguments.overrides)
    if arguments.help:
        print(help_text())
        return 0
    if arguments.cfg == "job":
        from tau2_exp.compose.composition import compose_config
        from tau2_exp.compose.listing import config_yaml

        config = compose_config(arguments.overrides)
        if config.resume:
            raise ConfigError(
                f"resume: --cfg prints what is composed; the run's own settings: {config.resume}/config.json"
            )
        print(config_yaml(config, arguments.package))
        return 0
    if arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion:
        return _hydra_answers(words)

    from tau2_exp.dispatch.launch import launch

    return launch(arguments.overrides, arguments.multirun, sys.argv)


def _hydra_answers(words: Sequence[str]) -> int:
    """Flags about Hydra itself; it reads the command line again and never comes to run anything."""
    import hydra

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(lambda _: None)()
    return 0
