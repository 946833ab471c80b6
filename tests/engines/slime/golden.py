"""The commands of every shipped experiment and of GRPO on one GPU, as they were when a person last looked at them.

python -m tests.engines.slime.golden      writes them anew; look at the difference before it is committed
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tau2_exp.compose.choices import CONF
from tau2_exp.compose.composition import chain_settings, compose_config
from tau2_exp.dispatch.commands import parts
from tau2_exp.dispatch.plan import Planner
from tau2_exp.system.code import ROOT
from tau2_exp.system.commands import Command

FOLDER = Path(__file__).with_name("golden")
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("reference_*.yaml"))
ONE_GPU = {"grpo_gpu_1": ("experiment=reference_grpo", "hardware=gpu_1", "user=litellm", "user.model=gpt-4.1-mini")}
PLANS = {name: (f"experiment={name}",) for name in EXPERIMENTS} | ONE_GPU


def commands_of(plan: str) -> list[Command]:
    """Of one of PLANS from its base model on; of the pipeline, all its runs."""
    alone = [] if plan == "reference_pipeline" else ["parent=model"]
    overrides = [*PLANS[plan], "name=NAME", "outputs=/OUTPUTS", *alone]
    target = Planner(Path("/OUTPUTS")).plan(compose_config(overrides), partial(chain_settings, overrides))
    return [command for part in parts([target], {}) for command in part.commands]


def as_text(commands: list[Command]) -> str:
    return "\n".join(line for command in commands for line in _lines(command)).replace(str(ROOT), "OURS") + "\n"


def _lines(command: Command) -> Iterator[str]:
    yield f"{command.name}  after {', '.join(command.needs) or 'nothing'}"
    yield from (f"    {name}={value}" for name, value in command.env.items())
    for name in ("cwd", "makes", "ready", "until"):
        if value := getattr(command, name):
            yield f"    {name}: {value}"
    line = ""
    for word in command.argv:
        if word.startswith("--") and line:
            yield f"    {line}"
            line = ""
        line += f" {word}" if line else word
    yield f"    {line}"
    yield ""


if __name__ == "__main__":
    for plan in PLANS:
        (FOLDER / f"{plan}.txt").write_text(as_text(commands_of(plan)))
        print(os.path.relpath(FOLDER / f"{plan}.txt"))
