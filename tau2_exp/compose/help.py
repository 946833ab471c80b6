"""What `run.py --help` says. The choices are read from conf/, so that none is missing."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from tau2_exp.config import STAGES

GROUPS = {
    "stage": "what to do; `pipeline` is all of it",
    "model": "who learns, or is evaluated",
    "domain": "τ²-bench's tasks",
    "reward": "what an episode earns",
    "curriculum": "which task next, and how much it counts",
    "hardware": "where",
    "engine": "what trains and generates",
    "user": "who the agent talks to",
    "policy": "who is the agent (stage=eval)",
    "logger": "a copy of the run's metrics elsewhere",
    "experiment": "named compositions",
}

TEXT = """\
Train and evaluate multi-turn tool-use agents on τ²-bench.

  python run.py                                       the whole pipeline: demos, SFT, RFT, GRPO, evaluations
  python run.py experiment=smoke                      the same on a few tasks, in under a minute
  python run.py stage=grpo reward.alpha=0.5           one stage; what it depends on is created first, or reused
  python run.py stage=eval parent=RUN                 one stage on a run folder of your own
  python run.py -m stage=grpo reward.alpha=0,0.25,0.5 seed=0,1,2
                                                      a sweep: every combination, side by side
  python run.py resume=RUN                            go on with a run or a sweep that was ended
  python run.py … dry_run=true                        what would run, as a script to paste; dry_run=json: as data
  python run.py experiment=reference_grpo hardware=gpu_8
                                                      Qwen3-4B by slime on eight GPUs, in its container
  python run.py experiment=reference_pipeline hardware=slurm_8gpu
                                                      a chain of SLURM jobs; python -m tau2_exp status tells of them
  python run.py … --cfg job                           every setting, with its value

Choices (GROUP=CHOICE; the default first):
{groups}

Settings (KEY=VALUE; `--cfg job` lists them all), among them:
  seed=0              of everything that is drawn
  parent=RUN          what the stage depends on; parent=model begins with model.path itself
  name=NAME           of the run's folder
  outputs=FOLDER      where run folders go
  domain.limit=N      only N tasks of each split and domain, evenly spaced
  engine.slime.flags  further flags of slime's own: +engine.slime.flags.NAME=VALUE

Flags: -m (sweep), --cfg job, --info, --shell-completion, --hydra-help
"""


def help_text(conf: Path) -> str:
    lines = []
    for group, meaning in GROUPS.items():
        choices = sorted(STAGES if group == "stage" else (path.stem for path in (conf / group).glob("*.yaml")))
        default = _defaults(conf).get(group)
        if default in choices:
            choices = [default, *(choice for choice in choices if choice != default)]
        listed = wrap(", ".join(choices), 86, break_on_hyphens=False)
        lines += [f"  {group:12}{meaning}", *(f"{'':14}{line}" for line in listed)]
    return TEXT.format(groups="\n".join(lines))


def _defaults(conf: Path) -> dict[str, str]:
    """The choices in the primary config's defaults list."""
    pairs = (line.strip(" -").partition(": ") for line in (conf / "config.yaml").read_text().splitlines())
    return {key: value for key, _, value in pairs if key in GROUPS}
