"""slime's data source with our curriculum in it: which tasks come next, saved with slime's own checkpoints."""

from __future__ import annotations

from typing import Any

from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.hooks.context import Context, open_context
from tau2_exp.engines.slime.hooks.rollout_log import rewind


class DataSource:
    """Hands out groups of empty samples: the prompt is a task's key, the rest is written when it was run.

    In a supervised stage it only counts: `sft_rollout` finds its rows by the rollout's number. Without a global
    dataset (slime's way of saying that there is none) it hands out samples of nothing, as slime's own does.
    """

    def __init__(self, args: Any):
        self.args = args
        self.context = open_context(args)
        if self.context is None and args.rollout_global_dataset:
            raise ConfigError("--custom-config-path: names no tau2_exp_run, the folder of the run")
        if getattr(args, "partial_rollout", False):
            raise ConfigError("--partial-rollout: a world cannot be taken up in the middle; remove the flag")
        self.buffer: list[list[Any]] = []  # groups that slime gave back unfinished
        self._nothing = 0  # groups of nothing handed out
        if self.context is not None and self.context.trains_on_episodes:
            self._load_everything(self.context)

    def get_samples(self, num_samples: int) -> list[list[Any]]:
        """Groups to run: those given back first, then as many new ones as are missing.

        slime requests a whole batch more whenever the filter refused one group. Unless oversampling is set, it gets
        what the batch lacks, and requests again.
        """
        groups, self.buffer = self.buffer[:num_samples], self.buffer[num_samples:]
        count = num_samples - len(groups)
        if self.context is None:
            first, self._nothing = self._nothing, self._nothing + count
            return groups + [self._group(index, "") for index in range(first, first + count)]
        if not self.context.trains_on_episodes:
            raise ConfigError("--rollout-function-path: a supervised stage needs sft_rollout, which reads rows")
        drawn = self.context.groups.draw(self._missing(self.context, count))
        return groups + [self._group(index, key) for index, key in drawn]

    def add_samples(self, samples: list[list[Any]]) -> None:
        """Take groups back. Of each, what has ended is kept, and the rest runs from the beginning."""
        self.buffer += samples

    def save(self, rollout_id: int) -> None:
        """Save the state as it was when this rollout was done, where `log_rollout` has not done so already."""
        if self.context is not None and self.context.trains_on_episodes and self.args.save is not None:
            self.context.save(self.args.save, rollout_id)

    def load(self, rollout_id: int | None = None) -> None:
        """Go on after `rollout_id` (-1 or None: from the start), and let the run's folder forget what came later."""
        if self.context is None:
            return
        done = -1 if rollout_id is None else rollout_id
        if self.context.trains_on_episodes and self.args.load is not None:
            self.context.load(self.args.load, done)
        rewind(self.context, done + 1)

    def __len__(self) -> int:
        """Tasks; in a supervised stage rows, made up to whole batches, so that no row is left out of an epoch."""
        if self.context is None:
            return 0
        if self.context.trains_on_episodes:
            return len(self.context.task_keys)
        batch = self.args.rollout_batch_size
        return -(-len(self.context.rows) // batch) * batch

    def _missing(self, context: Context, count: int) -> int:
        """How many of `count` new groups are wanted now.

        A synchronous rollout without oversampling wants what its batch lacks. Asynchronous ones go on while a batch is
        trained on, but with no more than fill the next one and keep all places busy: what waits longer grows stale.
        """
        batch, groups = self.args.rollout_batch_size, context.groups
        if context.config.engine.slime.asynchronous:
            places = -(-context.config.rollout.concurrency // groups.size)
            return min(count, max(0, batch + places - groups.outstanding))
        if getattr(self.args, "over_sampling_batch_size", None) not in (None, batch):
            return count
        return min(count, max(1, batch - groups.progress))

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
        context.begin()
        context.run.record(provider=context.setting.provider)
        _ = context.groups, context.tokenizer, context.setting.prompts
        for key in context.task_keys[:1]:
            context.setting.episode_setting.world(context.task(key))
