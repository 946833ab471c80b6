"""The actor that trains: the torch engine's model and optimiser."""

from __future__ import annotations

from pathlib import Path

import megatron
import ray
import torch

from tau2_exp.config import GrpoConfig, HardwareConfig, TrainingConfig
from tau2_exp.engines.torch.checkpoint import load_model, save_checkpoint
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.engines.torch.trainer import Trainer
from tau2_exp.runs.run import Run
from tau2_exp.types import Row

TOTAL_STEPS = 100  # of a schedule that is not compared with anything


@ray.remote(num_cpus=1)
class Learner:
    def __init__(self, run: str, hf_checkpoint: str) -> None:
        config = Run.open(run).config
        assert isinstance(config.stage, TrainingConfig)
        self.model = load_model(Path(hf_checkpoint), HardwareConfig(name="cpu"))
        self.tokenizer = load_tokenizer(hf_checkpoint)
        reference = self.model if isinstance(config.stage, GrpoConfig) else None
        self.trainer = Trainer(self.model, config.stage, TOTAL_STEPS, config.engine, reference)

    def load(self, checkpoint: str, step: int) -> None:
        weights = megatron.load(Path(checkpoint))
        self.model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
        self.trainer.step = step

    def step(self, samples: list[tuple[list[int], list[int]]], credit: list[float]) -> None:
        """The policy gradient: each token of a sample by the sample's credit."""
        rows = []
        for (ids, mask), advantage in zip(samples, credit, strict=True):
            trained = tuple(map(bool, mask))
            rows.append(Row(tuple(ids), trained, (0.0,) * len(ids), tuple(advantage * number for number in mask)))
        if any(any(row.trained) for row in rows):
            self.trainer.sft_step([row for row in rows if any(row.trained)])

    def save(self, folder: str, rollout: int) -> None:
        weights = {name: weight.numpy() for name, weight in self.model.state_dict().items()}
        megatron.save(Path(folder), f"iter_{rollout:07d}", weights)

    def serve(self, folder: str) -> str:
        """Where the weights lie as they are now, for a server."""
        save_checkpoint(Path(folder), self.model, self.tokenizer)
        return folder
