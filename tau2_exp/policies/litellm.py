"""Any model that litellm reaches as the agent, with OpenAI's tool calls, prompted as τ²-bench prompts its own agent."""

from __future__ import annotations

from collections.abc import Sequence

from tau2_exp.config import PolicyConfig
from tau2_exp.interfaces import Agent, World
from tau2_exp.llm.completion import Account, Completions
from tau2_exp.llm.conversation import Conversation
from tau2_exp.types import GREETING, Action, EpisodeSpec, FaultSource, Message, Role, Sampling

STOP = "###STOP###"
PROMPT = """<instructions>
You serve customers and keep to the policy below. In each turn, either write to the customer or call tools, not both.
</instructions>
<policy>
{policy}
</policy>"""


class LitellmPolicy:
    """Its agents share one endpoint; `sampling` gives temperature, top-p and the tokens of a turn."""

    def __init__(self, config: PolicyConfig, sampling: Sampling, account: Account | None = None):
        self._model = Completions(config, sampling, FaultSource.ENGINE, account)
        self.name = self._model.name

    def make_agent(self, world: World, spec: EpisodeSpec) -> Agent:
        """Make the agent of one episode, which samples with the episode's seed."""
        return _LitellmAgent(self._model, world, spec.seed)


class _LitellmAgent:
    def __init__(self, model: Completions, world: World, seed: int):
        self._model, self._seed = model, seed
        self._tools = world.schemas(Role.ASSISTANT)
        self._chat = Conversation(PROMPT.format(policy=world.policy), Role.ASSISTANT)
        if not world.task.history:
            self._chat.hear([GREETING])

    async def act(self, heard: Sequence[Message]) -> Action:
        """Text beside tool calls stays in the message, as in τ²-bench. An unusable reply is an unparsable turn."""
        self._chat.hear(heard)
        reply = await self._model.complete(self._chat.messages, self._tools, self._seed, retry_unusable=False)
        self._chat.say(reply)
        if reply.error is not None:
            return Action(None, reply.text, error=reply.error, truncated=reply.truncated, usage=reply.usage)
        message = Message(Role.ASSISTANT, reply.content, reply.tool_calls)
        done = not reply.tool_calls and STOP in (reply.content or "")
        return Action(message, reply.text, done, usage=reply.usage)

    def close(self) -> None:
        """Nothing is held."""
