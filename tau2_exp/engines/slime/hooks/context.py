"""What the hooks of one run share within a process, read from the run's folder."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tau2_exp import codec
from tau2_exp.config import Config, ConfigError, GrpoConfig
from tau2_exp.engines.slime.hooks.generator import RouterGenerator
from tau2_exp.engines.slime.hooks.groups import Groups
from tau2_exp.engines.slime.plan.places import ROWS
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.interfaces import Tokenizer
from tau2_exp.jsonl import read_jsonl, write_json
from tau2_exp.learning.curriculum import make_curriculum
from tau2_exp.rollouts.setting import RolloutSetting
from tau2_exp.runs.run import Run
from tau2_exp.types import Row, Task


class Context:
    """A run's folder, and what is loaded for it once a process: worlds, tokenizer, curriculum, rows."""

    def __init__(self, folder: Path, checkpoint: str | None):
        self.run = Run.open(folder)
        self.config: Config = self.run.config
        self.checkpoint = checkpoint
        self.setting = RolloutSetting(self.run)
        self.began, self.clock = 0, time.monotonic()  # the step that this process began with, and when
        self._saved: set[int] = set()  # rollouts whose state this process wrote down
        self._generators: dict[str, RouterGenerator] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint that slime serves. Raises ConfigError where --hf-checkpoint is not set."""
        if self.checkpoint is None:
            raise ConfigError("--hf-checkpoint is not set: it holds the tokenizer")
        return self.setting.adopt(load_tokenizer(self.checkpoint), self.checkpoint)

    @cached_property
    def groups(self) -> Groups:
        """The groups of episodes of this run's GRPO stage, over its curriculum."""
        stage = self.config.stage
        assert isinstance(stage, GrpoConfig)
        curriculum = make_curriculum(self.task_keys, self.config.curriculum, self.config.seed)
        return Groups(curriculum, stage.samples_per_prompt)

    @cached_property
    def task_keys(self) -> list[str]:
        """The `Task.key` of each training task, in the split's order."""
        return [task.key for task in self.setting.tasks(self.config.domain.train_split)]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows to train on, for SFT and RFT. Raises ConfigError where none of them has a trained token."""
        path = self.run.folder / ROWS
        rows = [codec.decode(Row, record) for record in read_jsonl(path)]
        rows = [row for row in rows if any(row.trained)]
        if not rows:
            raise ConfigError(f"{path}: no conversation there to learn from")
        return rows

    def task(self, key: str) -> Task:
        """The task with this key. Raises ValueError where no domain of this run has it."""
        domain, _, name = key.partition("/")
        if domain not in self.setting.domains:
            raise ValueError(f"{key!r} is no task of {', '.join(self.setting.domains)}")
        return self.setting.domains[domain].task(name)

    @property
    def trains_on_episodes(self) -> bool:
        """Whether the stage trains on new episodes (GRPO), not on rows of a file."""
        return isinstance(self.config.stage, GrpoConfig)

    def begin(self) -> None:
        """Reset the groups and the curriculum to the start of training."""
        self.__dict__.pop("groups", None)
        self._saved.clear()

    def save(self, checkpoints: str, rollout_id: int) -> None:
        """Write the groups' state beside slime's checkpoints, at the first call for a rollout; later calls do nothing.

        The first call comes when the rollout is done. slime's own call comes after the checkpoint, and that of an
        asynchronous trainer after the next rollout: a job killed between would have a checkpoint and no state.
        """
        if rollout_id in self._saved:
            return
        self._saved.add(rollout_id)
        path = _state_file(checkpoints, rollout_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.groups.state())

    def load(self, checkpoints: str, rollout_id: int) -> None:
        """Restore the groups' state that was saved for this rollout; without one, change nothing."""
        path = _state_file(checkpoints, rollout_id)
        if path.is_file():
            self.groups.restore(json.loads(path.read_text()))

    def refuse(self) -> bool:
        """Whether one more group without signal may be drawn again; counts it where so.

        The bound is as many groups as stage.refill whole batches have.
        """
        stage, groups = self.config.stage, self.groups
        assert isinstance(stage, GrpoConfig)
        if groups.rejected >= stage.refill * (stage.prompts_per_step or 0):
            return False
        groups.rejected += 1
        return True

    def generator(self, url: str) -> RouterGenerator:
        """The generator that samples from the router at `url`; one for each URL."""
        if url not in self._generators:
            self._generators[url] = RouterGenerator(dataclasses.replace(self.config.policy, url=url))
        return self._generators[url]


def _state_file(checkpoints: str, rollout_id: int) -> Path:
    return Path(checkpoints) / "rollout" / f"tau2_exp_{rollout_id}.json"


def open_context(args: Any) -> Context | None:
    """The context of the run that `args.tau2_exp_run` names, one a process; None where it names none."""
    folder = getattr(args, "tau2_exp_run", None)
    return _open(str(folder), getattr(args, "hf_checkpoint", None)) if folder else None


@cache
def _open(folder: str, checkpoint: str | None) -> Context:
    return Context(Path(folder), checkpoint)


forget = _open.cache_clear
