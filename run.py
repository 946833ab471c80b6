"""Compose a configuration, check it, freeze it into a run's folder, do it: `python run.py --help`."""

from __future__ import annotations

import sys

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from tau2_exp.compose import compose_config
from tau2_exp.config import ConfigError


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def _hydra(_: DictConfig) -> None:
    """For what Hydra itself answers: --help, --cfg, --info, shell completion."""


def main() -> int:
    arguments = get_args_parser().parse_args()
    try:
        if arguments.config_path or arguments.config_name or arguments.config_dir:
            raise ConfigError("--config-…: not taken here; a folder of your own goes into hydra.searchpath=[FOLDER]")
        if arguments.cfg or arguments.info:
            compose_config(arguments.overrides)
        if arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion:
            _hydra()
            return 0
        from tau2_exp.dispatch.launch import launch

        return launch(arguments.overrides, arguments.multirun, sys.argv)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
