"""Generation through slime's router, whose servers change their weights while episodes go on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from tau2_exp.policies.sglang import SglangGenerator
from tau2_exp.types import Generation, Sampling

PAUSE = 1.0  # seconds after an abort: twice as long as an episode takes to notice that slime ends its rollout


class RouterGenerator(SglangGenerator):
    """An `interfaces.Generator` that continues a turn which a weight update cut.

    To change weights, slime pauses its servers, and a paused server aborts what it was generating. The tokens until
    then keep the log-probabilities they were sampled with; the rest of the turn comes from the new weights.
    """

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """Continue `ids`. Raises as SglangGenerator does, but where the request was aborted."""
        sampled: tuple[int, ...] = ()
        log_probs: tuple[float, ...] = ()
        while True:
            room = dataclasses.replace(sampling, max_tokens=sampling.max_tokens - len(sampled))
            answer = await self.request([*ids, *sampled], room)
            sampled, log_probs = sampled + answer.ids, log_probs + answer.log_probs
            if answer.finish in ("stop", "length"):
                return Generation(sampled, log_probs, answer.finish)
            if answer.finish != "abort":
                raise self.fault(f"the request ended by {answer.finish!r}")
            if len(sampled) >= sampling.max_tokens:
                return Generation(sampled, log_probs, "length")
            await asyncio.sleep(PAUSE)
