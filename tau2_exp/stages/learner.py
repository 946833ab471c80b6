"""A model in training: where it begins, its steps, and the checkpoint a killed run goes on from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from tau2_exp.config import RANDOM_BASE, ConfigError, GrpoConfig, TrainingConfig
from tau2_exp.engines.torch.backbone import LanguageModel, check_context
from tau2_exp.engines.torch.checkpoint import (
    drop_training,
    ending_with,
    has_training,
    load_model,
    load_training,
    save_checkpoint,
)
from tau2_exp.engines.torch.device import TRAINING, dtype_of, memory_for, prepare
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.model import new_model
from tau2_exp.engines.torch.sampler import is_served
from tau2_exp.engines.torch.shape import ModelShape
from tau2_exp.engines.torch.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from tau2_exp.engines.torch.trainer import Metrics, Trainer
from tau2_exp.interfaces import Tokenizer
from tau2_exp.policies.tokens import TokenPolicy
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policies import starting_point
from tau2_exp.stages.served import ServedModel, served_model
from tau2_exp.types import Row, Sampling, stable_seed

CHECKPOINT = "checkpoints/last"  # within a run's folder: what the next stage starts from


class Learner:
    """The model of a training run, with its tokenizer; `begin` makes its trainer and resumes a killed run.

    `scratch` makes the tokenizer where there is neither a parent nor a model.path: the model is then new.
    """

    def __init__(self, context: StageContext, scratch: Callable[[], TextTokenizer] | None = None):
        self.context, self.run = context, context.run
        self.path, self.folder = CHECKPOINT, self.run.folder / CHECKPOINT
        config = context.config
        if scratch is not None and config.model.path is None and not context.has_parent_model:
            if config.model.lora:
                raise ConfigError(f"model.lora={config.model.lora}: {RANDOM_BASE}")
            self.tokenizer = scratch()
            shape = ModelShape.from_config(config.model, self.tokenizer.size)
            device = prepare(config.hardware)
            self.model: LanguageModel = new_model(shape, config.seed).to(device, dtype_of(config.hardware))
            stops = (self.tokenizer.token_id(stop) for stop in context.protocol.stops)
            self.model.source = ending_with(shape, [stop for stop in stops if stop is not None])
        else:
            start = starting_point(context)
            self.tokenizer = context.adopt(load_tokenizer(start), start)
            self.model = load_model(start, config.hardware, config.engine.backbone)
            if not self.has_begun:  # what a killed run began with, it goes on with
                check_context(self.model, config.model.context)
            if config.model.lora:
                seed = stable_seed(config.seed, config.stage.name)  # the next stage's adapter begins otherwise
                self.model.adapter = Adapter(self.model, config.model, seed, str(start))
                print(f"{config.stage.name}: {self.model.adapter}")
        self.saved: dict[str, Any] = {}
        self._step_open = self._told_to_stop = False

    @property
    def step(self) -> int:
        """How many steps the model has been trained for."""
        return self.trainer.step

    @property
    def has_begun(self) -> bool:
        """Whether a killed attempt has left a state of training to continue from."""
        return has_training(self.folder)

    def policy(self, sampling: Sampling) -> TokenPolicy:
        """A policy of this model, which samples with its newest weights."""
        served, context = is_served(self.context.config), self.context.config.model.context
        generator = self._served if served else TorchGenerator(self.model, self.context.engine, context)
        return self.context.token_policy(generator, self.tokenizer, sampling)

    @cached_property
    def _served(self) -> ServedModel:
        """One for all policies: it knows which weights the server has."""
        return served_model(self.run, self.model)

    @memory_for("making the optimiser", TRAINING)
    def begin(self, total_steps: int) -> None:
        """Make the trainer for `total_steps` steps; where a checkpoint of a killed run exists, continue from it."""
        config = self.context.config
        stage = config.stage
        assert isinstance(stage, TrainingConfig)
        self.save_every = stage.save_every
        adapter = self.model.adapter
        copied = isinstance(stage, GrpoConfig) and stage.kl > 0 and adapter is None
        reference = copy.deepcopy(self.model).requires_grad_(False) if copied else None
        self.trainer = Trainer(self.model, stage, total_steps, config.engine, reference)
        state = load_training(self.folder, self.model.device)
        if state is not None:
            if adapter:
                adapter.load(self.folder)
            else:
                saved = load_model(self.folder, config.hardware, config.engine.backbone)
                self.model.load_state_dict(saved.state_dict())
            self.trainer.load_state_dict(state.trainer)
            self.saved = state.extra
            print(f"{stage.name}: resuming after step {self.step} of {total_steps}")
        self._saved_step = self.step
        self.run.rewind(self.step)
        self.run.on_stop(self._stop)

    def open_step(self) -> None:
        """Begin to change the model: until `advance`, a request to stop waits."""
        self._step_open = True

    def advance(self, metrics: Metrics, extra: dict[str, Any] | None = None) -> None:
        """Record the step just taken; `extra` is what else the stage needs to resume after it.

        Raises KeyboardInterrupt, once the model is saved, where a request to stop came during the step.
        """
        self.run.log(metrics, self.step)
        self.saved = extra or {}
        if self.step % self.save_every == 0:
            self._save()
        self._step_open = False
        if self._told_to_stop:
            self._save()
            raise KeyboardInterrupt

    def finish(self, results: dict[str, Any]) -> None:
        """Save the model, an adapter merged into it, and finish the run with these results.

        The optimiser's state is dropped unless it is to be kept.
        """
        self._save(merged=True)
        self.run.finish({**results, "model": self.path})
        stage = self.run.config.stage
        if isinstance(stage, TrainingConfig) and not stage.keep_optimiser:
            drop_training(self.folder)

    def _stop(self) -> bool:
        """Called by a signal: save and return True between steps; within a step return False, and `advance` stops."""
        if self._step_open:
            self._told_to_stop = True
            return False
        self._save()
        return True

    def _save(self, merged: bool = False) -> None:
        adapter = self.model.adapter is not None
        if self.step > self._saved_step or not self.folder.exists() or (adapter and merged):
            weights = merged or not adapter
            save_checkpoint(self.folder, self.model, self.tokenizer, self.trainer, self.saved, weights)
            self._saved_step = self.step


def new_tokenizer(context: StageContext, rows: Callable[[Tokenizer], Iterable[Row]]) -> TextTokenizer:
    """A tokenizer trained on conversations as the model will read them; `rows` gives them by any tokenizer."""
    letters = _Letters()
    texts = [letters.decode(row.ids) for row in rows(letters)]
    return train_tokenizer(texts, context.config.model.vocab_size, context.protocol.specials)


class _Letters:
    """The tokenizer of one id a character: with it, ids are text."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def token_id(self, token: str) -> int | None:
        return None

    @property
    def chat_template(self) -> str | None:
        return None
