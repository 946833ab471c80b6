"""A model in training whose turns are sampled by the run's server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tau2_exp.config import ConfigError, PolicyConfig
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.files import whole_folder
from tau2_exp.policies.sglang import SglangGenerator
from tau2_exp.runs.run import Run
from tau2_exp.stages.policy_server import WEIGHTS
from tau2_exp.types import Generation, Sampling


class ServedModel(SglangGenerator):
    """A Generator over the run's server, which samples with the newest weights of a model that trains here.

    Weights go through a folder, an adapter merged into them, before the first turn after they changed. The server names
    its weights in every answer; one that was started again has old ones, is sent the new, and is asked once more.
    """

    def __init__(self, config: PolicyConfig, token: str | None, model: LanguageModel, folder: Path):
        super().__init__(config, token, seeded=True)
        self._model, self._folder = model, folder
        self._sent: int | None = None  # the weights_version of what the server has; None: unknown
        self._updates = 0
        self._sending = asyncio.Lock()

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """As SglangGenerator does. Raises ConfigError where the server refuses the weights."""
        for _ in range(1 + self._retries):
            version = await self._newest()
            generation = await super().generate(session, ids, sampling, seed)
            if generation.version == version:
                return generation
            if generation.version is None:
                raise ConfigError("engine.sampler=sglang: this SGLang does not name its weights; install a newer one")
            if version == str(self._updates):
                self._sent = None
        raise self.fault(f"it samples with weights {generation.version!r}, and {version!r} were sent to it")

    async def _newest(self) -> str:
        """The name of the newest weights, once the server has them."""
        async with self._sending:
            if self._sent != self._model.weights_version:
                with whole_folder(self._folder, replaces=lambda: None) as part:
                    self._model.write(part)
                await self.load(self._folder, str(self._updates + 1))
                self._updates += 1
                self._sent = self._model.weights_version
            return str(self._updates)


def served_model(run: Run, model: LanguageModel) -> ServedModel:
    """The generator of a model in training. Raises ConfigError where the run's server is not up."""
    server = run.server("policy")
    config = dataclasses.replace(run.config.policy, url=server.url)
    return ServedModel(config, server.token, model, (run.folder / WEIGHTS).absolute())
