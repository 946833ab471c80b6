"""Do slow users hold one another up? 64 episodes at once, against the longest of them alone.

    python benchmarks/rollout.py

A user that takes 0.5 s and a policy that takes 0.05 s a turn, on real telecom worlds; episodes of
4 to 8 turns. The target is at most 1.15 times the longest episode alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tau2_exp.config import RolloutConfig
from tau2_exp.domains import load_domain
from tau2_exp.interfaces import World
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.types import Action, EpisodeSpec, Message, Role, Task, ToolCall, Usage

EPISODES, USER_SECONDS, POLICY_SECONDS = 64, 0.5, 0.05


class SlowUser:
    name, usage = "slow", Usage()

    async def reply(self, heard: Sequence[Message]) -> Message:
        await asyncio.sleep(USER_SECONDS)
        return Message(Role.USER, "And now?")


class SlowAgent:
    def __init__(self, turns: int):
        self.left = turns

    async def act(self, heard: Sequence[Message]) -> Action:
        await asyncio.sleep(POLICY_SECONDS)
        self.left -= 1
        if self.left == 0:
            return Action(None, "done", done=True)
        if self.left % 3 == 0:
            call = ToolCall("get_customer_by_phone", {"phone_number": "555-123-2002"})
            return Action(Message(Role.ASSISTANT, tool_calls=(call,)), "call")
        return Action(Message(Role.ASSISTANT, "Please wait."), "say")

    def close(self) -> None:
        self.left = 0


class SlowPolicy:
    name = "slow"

    def make_agent(self, world: World, spec: EpisodeSpec) -> SlowAgent:
        return SlowAgent(4 + spec.index % 5)


def main() -> None:
    domain = load_domain("telecom")
    tasks: list[Task] = domain.tasks("train")[:EPISODES]
    setting = EpisodeSetting(
        domain.world, lambda spec, world: SlowUser(), Limits(), RolloutConfig(concurrency=EPISODES)
    )
    specs = [EpisodeSpec(task, 0, index, index) for index, task in enumerate(tasks)]
    asyncio.run(rollout(setting, SlowPolicy(), specs[:1]))
    longest = asyncio.run(rollout(setting, SlowPolicy(), [specs[4]]))[0].seconds
    started = time.perf_counter()
    asyncio.run(rollout(setting, SlowPolicy(), specs))
    together = time.perf_counter() - started
    ratio = together / longest
    print(f"{len(specs)} episodes together {together:.2f} s, the longest alone {longest:.2f} s: {ratio:.3f} times")


if __name__ == "__main__":
    main()
