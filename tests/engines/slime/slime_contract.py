"""The little of slime that the hooks touch: slime itself where it can be imported, and a stand-in of that contract.

The stand-in knows samples, the filter's answer, a rollout's answer, the mark of an ended rollout, and how samples
reach a trainer: the fields that go along, as tensors, in data-parallel parts. What is asserted on one is asserted on
the other; slime lies beside the project, in the folder SLIME_ROOT, or is installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tau2_exp.runs.run import Run

MakeRun = Callable[..., Run]
BESIDE = Path(__file__).resolve().parents[3].with_name("slime")
TYPES, FILTER = "slime.utils.types", "slime.rollout.filter_hub.base_types"
OUTPUT, LOOP = "slime.rollout.base_types", "slime.rollout.sglang_rollout"
TRAVELS = ("tokens", "response_lengths", "rewards", "loss_masks", "rollout_log_probs", "teacher_log_probs")
FLOATS = ("rollout_log_probs", "teacher_log_probs")


@dataclass
class Sample:
    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: Any = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: Any = None
    loss_mask: list[int] | None = None
    rollout_log_probs: list[float] | None = None
    remove_sample: bool = False
    teacher_log_probs: list[float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    non_generation_time: float = 0.0

    class Status(Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    status: Status = Status.PENDING

    def append_response_tokens(
        self, args: Any = None, *, tokens: Any, log_probs: Any = None, trainable: bool = True
    ) -> None:
        tokens = list(tokens)
        if trainable == (log_probs is None) and tokens:
            raise ValueError("log-probabilities come with what is trained on, and with nothing else")
        log_probs = list(log_probs) if trainable and log_probs is not None else [0.0] * len(tokens)
        if len(log_probs) != len(tokens):
            raise ValueError("one log-probability each token")
        self.tokens += tokens
        self.response_length += len(tokens)
        self.loss_mask = (self.loss_mask or []) + [int(trainable)] * len(tokens)
        self.rollout_log_probs = (self.rollout_log_probs or []) + log_probs


@dataclass
class DynamicFilterOutput:
    keep: bool
    reason: str | None = None
    keep_when_insufficient: bool = False


@dataclass
class RolloutFnTrainOutput:
    samples: list[list[Sample]]
    metrics: dict[str, Any] | None = None


def to_tensors(rollout_data: dict[str, Any]) -> None:
    for key in FLOATS:
        if key in rollout_data:
            rollout_data[key] = [torch.tensor(values, dtype=torch.float32) for values in rollout_data[key]]


@contextmanager
def stand_in() -> Iterator[SimpleNamespace]:
    """The stand-in's modules under slime's names."""
    contents = {
        TYPES: {"Sample": Sample},
        FILTER: {"DynamicFilterOutput": DynamicFilterOutput},
        OUTPUT: {"RolloutFnTrainOutput": RolloutFnTrainOutput},
    }
    with _instead(_modules(contents)):
        yield SimpleNamespace(Sample=Sample, to_tensors=to_tensors, travels=TRAVELS, loop=_loop())


@contextmanager
def itself() -> Iterator[SimpleNamespace]:
    """slime's own modules. Raises ImportError where it is not to be had."""
    root = os.environ.get("SLIME_ROOT") or (str(BESIDE) if (BESIDE / "slime" / "utils").is_dir() else None)
    with _instead(_kept):
        if root:
            sys.path.insert(0, root)
        try:
            found = importlib.import_module(TYPES), importlib.import_module("slime.observability.rollout_data_utils")
            for name in (FILTER, OUTPUT):
                importlib.import_module(name)
        finally:
            if root:
                sys.path.remove(root)
            _kept.update({name: module for name, module in sys.modules.items() if _is_slime(name)})
        source = Path(str(importlib.import_module("slime.utils").__path__[0])).parent / "ray" / "rollout.py"
        yield SimpleNamespace(
            Sample=found[0].Sample, to_tensors=found[1].tensorize_rollout_data_for_training, loop=_loop(),
            travels=tuple(name for name in TRAVELS if f'"{name}",' in source.read_text()),
        )  # fmt: skip


def arguments(run: Run, pupil: Run, url: str = "http://127.0.0.1:9", **more: Any) -> Namespace:
    """slime's arguments, as a plan sets them."""
    host, _, port = url.removeprefix("http://").partition(":")
    stage = run.config.stage
    settings = {
        "tau2_exp_run": str(run.folder),
        "hf_checkpoint": str(pupil.folder / pupil.results["model"]),
        "sglang_router_ip": host,
        "sglang_router_port": int(port),
        "rollout_batch_size": getattr(stage, "prompts_per_step", 4),
        "over_sampling_batch_size": getattr(stage, "prompts_per_step", 4),
        "n_samples_per_prompt": getattr(stage, "samples_per_prompt", 1),
        "rollout_global_dataset": True,
        "partial_rollout": False,
        "use_opd": False,
        "reward_key": None,
        "save": str(run.folder / "slime" / "checkpoints"),
        "load": str(run.folder / "slime" / "checkpoints"),
    }
    return Namespace(**(settings | more))


def train_data(slime: SimpleNamespace, samples: list[Any], rewards: list[float], ranks: int) -> list[dict[str, Any]]:
    """What each data-parallel rank is sent of a rollout's samples, every `ranks`th one."""
    fields = {
        "tokens": [sample.tokens for sample in samples],
        "response_lengths": [sample.response_length for sample in samples],
        "rewards": rewards,
        "loss_masks": [[0] * s.response_length if s.remove_sample else s.loss_mask for s in samples],
    }
    for name in FLOATS:
        if getattr(samples[0], name) is not None:
            fields[name] = [getattr(sample, name) for sample in samples]
    sent = []
    for rank in range(ranks):
        part = range(rank, len(samples), ranks)
        data: dict[str, Any] = {"partition": list(part)}
        data |= {name: [values[i] for i in part] for name, values in fields.items() if name in slime.travels}
        slime.to_tensors(data)
        sent.append(data)
    return sent


_kept: dict[str, ModuleType] = {}  # slime's modules, once imported


def _loop() -> SimpleNamespace:
    """slime's rollout loop as the hooks see it: whether it has ended. (Itself it wants ray and sglang.)"""
    state = SimpleNamespace(aborted=False)
    module = ModuleType(LOOP)
    module.GenerateState = lambda args: state  # type: ignore[attr-defined]
    sys.modules[LOOP] = module
    return state


def _modules(contents: dict[str, dict[str, Any]]) -> dict[str, ModuleType]:
    made: dict[str, ModuleType] = {}
    for name, values in contents.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        vars(made[name]).update(values)
    return made


@contextmanager
def _instead(modules: dict[str, ModuleType]) -> Iterator[None]:
    """`modules` for all that is imported of slime; everything as before afterwards."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_slime(name)}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_slime(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_slime(name: str) -> bool:
    return name == "slime" or name.startswith("slime.")
