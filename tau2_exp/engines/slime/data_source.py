"""slime's data source with our curriculum in it: which tasks are played next, saved with slime's own checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tau2_exp.config import ConfigError, GrpoConfig
from tau2_exp.engines.slime.context import Context, open_context
from tau2_exp.engines.slime.rollout_log import rewind
from tau2_exp.jsonl import write_json


class DataSource:
    """Hands out groups of empty samples: the prompt is a task's key, the rest is written when it was played.

    In a supervised stage it only counts: `sft_rollout` finds its rows by the rollout's number. Without a global
    dataset (slime's way of saying that there is none) it hands out samples of nothing, as slime's own does.
    """

    def __init__(self, args: Any):
        self.args = args
        self.context = open_context(args)
        if self.context is None and args.rollout_global_dataset:
            raise ConfigError("--custom-config-path: names no tau2_exp_run, the folder of the run")
        if getattr(args, "partial_rollout", False):
            raise ConfigError("--partial-rollout: a world cannot be taken up in the middle; drop the flag")
        self.buffer: list[list[Any]] = []  # groups that slime gave back unfinished
        self._nothing = 0  # groups of nothing handed out
        if self.context is not None and isinstance(self.context.config.stage, GrpoConfig):
            self._load_everything(self.context)

    def get_samples(self, num_samples: int) -> list[list[Any]]:
        """Groups to play: those given back first, then as many new ones as are missing.

        slime asks for a whole batch more whenever the filter refused one group. Where it was not told to oversample,
        it gets what the batch lacks, and asks again.
        """
        groups, self.buffer = self.buffer[:num_samples], self.buffer[num_samples:]
        count = num_samples - len(groups)
        if self.context is None:
            first, self._nothing = self._nothing, self._nothing + count
            return groups + [self._group(index, "") for index in range(first, first + count)]
        if not isinstance(self.context.config.stage, GrpoConfig):
            raise ConfigError("--rollout-function-path: a supervised stage wants sft_rollout, which reads rows")
        drawn = self.context.groups.draw(self._missing(self.context, count))
        return groups + [self._group(index, key) for index, key in drawn]

    def add_samples(self, samples: list[list[Any]]) -> None:
        """Take groups back. Of each, what has ended is kept, and the rest is played from the beginning."""
        self.buffer += samples

    def save(self, rollout_id: int) -> None:
        """The state as it was when this rollout was done, whatever has been handed out since."""
        if self.context is None or not self.args.rollout_global_dataset or self.args.save is None:
            return
        if not isinstance(self.context.config.stage, GrpoConfig):
            return
        state = self.context.saved.get(rollout_id) or self.context.groups.state()
        path = _state_file(self.args.save, rollout_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, state)

    def load(self, rollout_id: int | None = None) -> None:
        """Go on after `rollout_id` (-1 or None: from the start), and let the run's folder forget what came later."""
        if self.context is None:
            return
        if isinstance(self.context.config.stage, GrpoConfig) and self.args.load is not None and rollout_id is not None:
            path = _state_file(self.args.load, rollout_id)
            if path.is_file():
                self.context.groups.restore(json.loads(path.read_text()))
        rewind(self.context, 0 if rollout_id is None else rollout_id + 1)

    def __len__(self) -> int:
        """Tasks; in a supervised stage rows, made up to whole batches, so that no row is left out of an epoch."""
        if self.context is None:
            return 0
        if isinstance(self.context.config.stage, GrpoConfig):
            return len(self.context.groups.curriculum.keys)
        batch = self.args.rollout_batch_size
        return -(-len(self.context.rows) // batch) * batch

    def _missing(self, context: Context, count: int) -> int:
        """All of `count`, but in a synchronous rollout without oversampling no more than the batch lacks."""
        batch = self.args.rollout_batch_size
        oversampled = getattr(self.args, "over_sampling_batch_size", None) not in (None, batch)
        if context.config.engine.slime.asynchronous or oversampled:
            return count
        return min(count, max(1, batch - context.groups.standing))

    def _group(self, group: int, key: str) -> list[Any]:
        from slime.utils.types import Sample

        size = self.args.n_samples_per_prompt
        domain, _, task = key.partition("/")
        return [
            Sample(
                group_index=group,
                index=group * size + number,
                prompt=key,
                metadata={"domain": domain, "task": task} if key else {},
            )
            for number in range(size)
        ]

    @staticmethod
    def _load_everything(context: Context) -> None:
        """Before the first episode: what loads once must not hold up a loop that many episodes share."""
        context.run.record(provider=context.scenery.provider)
        _ = context.groups, context.tokenizer, context.scenery.prompts
        for key in context.groups.curriculum.keys[:1]:
            context.scenery.scene.world(context.task(key))


def _state_file(folder: str, rollout_id: int) -> Path:
    return Path(folder) / "rollout" / f"tau2_exp_{rollout_id}.json"
