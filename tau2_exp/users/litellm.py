"""A customer simulated by a language model under τ²-bench's own guidelines; in telecom it has tools."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from tau2_exp.config import UserConfig
from tau2_exp.interfaces import World
from tau2_exp.llm.completion import Account, Completions
from tau2_exp.llm.conversation import Conversation
from tau2_exp.types import FaultError, FaultSource, Message, Role, Sampling, Task, Usage

PROMPT = "{guidelines}\n\n<scenario>\n{scenario}\n</scenario>"


class LitellmUser:
    """The simulated user of one episode.

    Text beside tool calls is dropped, as the agent never hears it in τ²-bench. Replies that are no turn (empty, cut at
    max_tokens, calls that cannot be read) are asked for again, as passing errors are; after `retries` of them the
    episode ends with a user fault.
    """

    def __init__(
        self,
        task: Task,
        world: World,
        guidelines: str,
        config: UserConfig,
        seed: int = 0,
        account: Account | None = None,
    ):
        sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
        self._model = Completions(config, sampling, FaultSource.USER, account)
        self._seed = seed
        self.name = self._model.name
        self.usage = Usage()
        self._tools = world.schemas(Role.USER)
        system = PROMPT.format(guidelines=guidelines, scenario=task.scenario.instructions)
        self._chat = Conversation(system, Role.USER)
        self._chat.hear(_heard_before(task.history))

    async def reply(self, heard: Sequence[Message]) -> Message:
        """The model's next message, or its tool calls. Raises FaultError(USER)."""
        self._chat.hear(heard)
        try:
            reply = await self._model.complete(self._chat.messages, self._tools, self._seed, retry_unusable=True)
        except FaultError as error:
            self.usage += error.usage
            raise
        self.usage += reply.usage
        self._chat.say(reply)
        return Message(Role.USER, None if reply.tool_calls else reply.content, reply.tool_calls)

    def fork(self, world: World, seed: int) -> LitellmUser:
        """A copy as it stands: its messages are its state."""
        other = copy.copy(self)
        other._seed, other.usage, other._chat = seed, Usage(), self._chat.copy()
        return other


def _heard_before(history: Sequence[Message]) -> list[Message]:
    """What this side said and heard in a task's history, less what it is about to hear as the episode opens."""
    ours = [m for m in history if Role.USER in (m.role, m.requestor) or (m.role is Role.ASSISTANT and m.content)]
    opens = bool(ours) and ours[-1] is history[-1] and ours[-1].role is not Role.USER
    return ours[:-1] if opens else ours
