"""Agents without a model: one that follows a task's reference actions, and the telecom workflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tau2_exp.config import ConfigError, OracleKind
from tau2_exp.domains.wording import Request, ask
from tau2_exp.interfaces import Agent, World
from tau2_exp.policies.action import say, use
from tau2_exp.policies.workflow import WorkflowAgent
from tau2_exp.types import Action, EpisodeSpec, Message, Role, Task, ToolCall


class GoldAgent:
    """Does the reference actions in order, tells what is to be communicated, and ends. Any domain.

    The user's share is asked for in words; a user that does as it is told leaves the reference state behind.
    """

    def __init__(self, task: Task):
        self._script = _script(task)

    async def act(self, heard: Sequence[Message]) -> Action:
        """The next action of the script, whatever was heard."""
        return next(self._script)

    def close(self) -> None:
        """Nothing is held."""


def _script(task: Task) -> Iterator[Action]:
    criteria = task.criteria
    for action in (criteria and criteria.actions) or ():
        if action.requestor is Role.USER:
            yield say(ask(Request(ToolCall(action.name, action.arguments, Role.USER))))
        else:
            yield use(action.name, dict(action.arguments))
    if criteria and criteria.communicate:
        yield say(f"For your information: {'; '.join(criteria.communicate)}.")
    yield say("Goodbye.", done=True)


class OraclePolicy:
    """The policy of an oracle: `workflow` for telecom, `gold` for any domain."""

    def __init__(self, kind: OracleKind):
        self.name = f"oracle-{kind.value}"
        self._kind = kind

    def make_agent(self, world: World, spec: EpisodeSpec) -> Agent:
        """Make the agent of one episode. Raises ConfigError where the workflow is used outside telecom."""
        if self._kind is OracleKind.gold:
            return GoldAgent(spec.task)
        if spec.task.domain != "telecom":
            raise ConfigError(
                f"policy.oracle=workflow knows telecom only, not {spec.task.domain}: use policy.oracle=gold"
            )
        return WorkflowAgent()
