"""The text of `run --help`. Groups, choices and their meanings are read from the schema and conf/."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from tau2_exp.compose.choices import choices, group_meanings
from tau2_exp.system.code import run_command

WIDTH, COLUMN = 104, 28

TEXT = """\
Train and evaluate multi-turn tool-use agents on τ²-bench.

  python run.py                                       the whole pipeline: demos, SFT, RFT, GRPO, evaluations
  python run.py experiment=smoke                      the same on a few tasks, in under a minute
  python run.py stage=grpo reward.alpha=0.5           one stage; what it depends on is reused, or created first
  python run.py stage=eval parent=RUN                 one stage on a run folder of your own
  python run.py -m stage=grpo reward.alpha=0,0.25,0.5 seed=0,1,2
                                                      a sweep: every combination, side by side
  python run.py resume=RUN                            go on with a run or a sweep that was ended
  python run.py … dry_run=true                        what would run, as a script to paste; dry_run=json: as data
  python run.py experiment=reference_grpo hardware=gpu_8
                                                      Qwen3-4B by slime on eight GPUs, in its container
  python run.py experiment=reference_pipeline hardware=slurm_8gpu
                                                      a chain of SLURM jobs; python -m tau2_exp status shows them
  python run.py … --cfg job                           every setting, with its value and what it means

Choices (GROUP=CHOICE; the default first):

{groups}

Settings (KEY=VALUE; `--cfg job` lists them all), among them:
  seed=0              of everything that is drawn at random
  parent=RUN          what the stage depends on; parent=model begins with model.path itself
  name=NAME           of the run's folder
  outputs=FOLDER      where run folders are created
  domain.limit=N      only N tasks of each split and domain, evenly spaced
  engine.slime.flags  further flags of slime's own: +engine.slime.flags.NAME=VALUE

Flags: -m (sweep), --cfg job, --package SECTION (with --cfg job), --info, --shell-completion, --hydra-help
"""


def help_text() -> str:
    """The whole text, in lines of about 100 columns."""
    groups = sorted(group_meanings().items(), key=lambda item: item[0] != "stage")
    text = TEXT.replace("python run.py", f"{run_command():13}")
    return text.format(groups="\n\n".join("\n".join(_group(*item)) for item in groups))


def _group(group: str, meaning: str) -> Iterator[str]:
    yield f"  {group}: {meaning}"
    for name, means in choices(group).items():
        lines = wrap(means, WIDTH - COLUMN) or [""]
        if len(name) > COLUMN - 6:
            yield f"    {name}"
            name = ""
        yield f"    {name:{COLUMN - 4}}{lines[0]}"
        yield from (f"{'':{COLUMN}}{line}" for line in lines[1:])
