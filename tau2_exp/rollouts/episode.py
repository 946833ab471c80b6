"""THE loop: an agent, a user and a world make a Trajectory. Training, RFT and evaluation all run it.

Steps are counted, and limits applied, as τ²-bench's orchestrator does: every delivery is a step, and
limits are looked at only when the environment is not the next to act.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tau2_exp.config import OutOfMemory
from tau2_exp.interfaces import Agent, User, World
from tau2_exp.llm.secrets import masked
from tau2_exp.protocols import correction
from tau2_exp.protocols.parsing import Unparsable, check_message, repaired_unicode
from tau2_exp.rollouts.state import State
from tau2_exp.system.errors import first_error
from tau2_exp.types import (
    GREETING,
    USER_STOPS,
    Action,
    BudgetReached,
    ContextFull,
    EpisodeSpec,
    Fault,
    FaultError,
    FaultSource,
    Message,
    Parts,
    Role,
    StopReason,
    Trajectory,
    Turn,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of steps, of tool errors, and of the agent's unparsable turns at which an episode ends."""

    max_steps: int = 100
    max_errors: int = 10
    unparsable: int = 3


class _Stop(Exception):
    def __init__(self, reason: StopReason):
        self.reason = reason


async def run_episode(agent: Agent, user: User, world: World, spec: EpisodeSpec, limits: Limits) -> Trajectory:
    """Run one episode to its end, which is a StopReason or a Fault whatever goes wrong inside it.

    Raises nothing but BudgetReached, which leaves the episode out, and OutOfMemory, which ends the run.
    """
    return await play_on(agent, State(world, user), spec, limits)


async def play_on(
    agent: Agent, state: State, spec: EpisodeSpec, limits: Limits, keep: list[State] | None = None
) -> Trajectory:
    """As `run_episode`, from a state, which it changes. `keep` receives a copy of the state before each turn.

    Raises ConfigError too, where the state is to be kept and cannot be copied.
    """
    return await _Episode(agent, state, spec, limits, keep).play()


@dataclass(slots=True)
class _Episode:
    agent: Agent
    state: State
    spec: EpisodeSpec
    limits: Limits
    keep: list[State] | None
    policy_usage: Usage = field(default_factory=Usage)
    user_seconds: float = 0.0

    async def play(self) -> Trajectory:
        started = time.perf_counter()
        state, stop, fault = self.state, StopReason.FAULT, None
        try:
            if state.heard is None:
                await self._begin()
            while True:
                if self.keep is not None:
                    self.keep.append(state.fork(self.spec.seed))
                await self._turn()
        except _Stop as ending:
            stop = ending.reason
        except FaultError as error:
            fault = error.fault
        finally:
            unclosed = self._close()
        if unclosed and fault is None:
            stop, fault = StopReason.FAULT, unclosed
        verdict = None
        if fault is None:
            try:
                verdict = state.world.verdict(state.messages, stop)
            except Exception as error:
                stop, fault = StopReason.FAULT, Fault(FaultSource.ENVIRONMENT, _describe(error))
        return Trajectory(
            task=self.spec.task.id,
            domain=self.spec.task.domain,
            sample=self.spec.sample,
            seed=self.spec.seed,
            opening=tuple(state.messages[: state.opening or None]),
            turns=tuple(state.turns),
            stop=stop,
            verdict=verdict,
            initial=state.initial,
            fault=fault,
            steps=state.steps,
            tool_errors=state.tool_errors,
            seconds=time.perf_counter() - started,
            user=state.user.name,
            user_usage=state.user.usage,
            policy_usage=self.policy_usage,
            branch=self.spec.branch,
        )

    def _close(self) -> Fault | None:
        """End the agent; a fault where it cannot be, so that no other episode ends with this one."""
        try:
            self.agent.close()
        except Exception as error:
            return Fault(FaultSource.ENGINE, _describe(error))
        return None

    async def _begin(self) -> None:
        """Everything until the agent's first turn; with a history, the agent hears all of it."""
        state, history = self.state, self.spec.task.history
        state.messages.extend(history or [GREETING])
        state.initial = self._parts()
        last = state.messages[-1]
        results = self._run_tools(last) if last.tool_calls else [last]
        speaker = last.requestor or last.role
        user_is_next = (speaker is Role.USER) == bool(last.tool_calls or last.role is Role.TOOL)
        heard = await self._until_agent_hears(results) if user_is_next else []
        state.heard = [*history, *state.messages[len(history) :]] if history else heard
        state.opening = len(state.messages)

    async def _turn(self) -> None:
        """One action and everything until the next."""
        start, clock, self.user_seconds = len(self.state.messages), time.perf_counter(), 0.0
        action = await self._act(self.state.heard or [])
        policy_seconds = time.perf_counter() - clock
        try:
            self.state.heard = await self._carry_out(action)
        finally:
            self._record(action, start, policy_seconds)

    async def _act(self, heard: Sequence[Message]) -> Action:
        try:
            with _blamed_on(FaultSource.ENGINE):
                action = _readable(await self.agent.act(heard))
        except ContextFull:
            raise _Stop(StopReason.CONTEXT_FULL) from None
        except FaultError as error:
            self.policy_usage += error.usage
            raise
        self.policy_usage += action.usage
        return action

    async def _carry_out(self, action: Action) -> Sequence[Message]:
        if action.message is not None:
            self.state.messages.append(action.message)
        if action.done:
            self._step(StopReason.AGENT_STOP)
        if action.message is None:
            return self._correct(action)
        if action.message.tool_calls:
            self._step(to_environment=True)
            return self._run_tools(action.message)
        self._step()
        return await self._until_agent_hears([action.message])

    def _correct(self, action: Action) -> Sequence[Message]:
        self.state.unparsable += 1
        self._step(StopReason.UNPARSABLE if self.state.unparsable >= self.limits.unparsable else None)
        return [correction(action.error or "the turn could not be read")]

    async def _until_agent_hears(self, heard: Sequence[Message]) -> Sequence[Message]:
        """Let the user act, running its own tools, until it says something to the agent."""
        while True:
            message = await self._reply(heard)
            self.state.messages.append(message)
            if message.tool_calls:
                self._step(to_environment=True)
                heard = self._run_tools(message)
                continue
            stopping = any(word in (message.content or "") for word in USER_STOPS)
            self._step(StopReason.USER_STOP if stopping else None)
            return [message]

    async def _reply(self, heard: Sequence[Message]) -> Message:
        clock = time.perf_counter()
        try:
            with _blamed_on(FaultSource.USER):
                message = check_message(await self.state.user.reply(heard))
                if message.role is not Role.USER or bool(message.tool_calls) == bool((message.content or "").strip()):
                    said = f"{len(message.tool_calls)} calls and {len(message.content or '')} letters"
                    raise ValueError(f"a user's reply is words, or calls; this is of role {message.role.value}: {said}")
                calls = tuple(replace(call, requestor=Role.USER) for call in message.tool_calls)
                return replace(message, tool_calls=calls) if calls else message
        finally:
            self.user_seconds += time.perf_counter() - clock

    def _run_tools(self, message: Message) -> Sequence[Message]:
        with _blamed_on(FaultSource.ENVIRONMENT):
            results = [self.state.world.call(call) for call in message.tool_calls]
        self.state.messages.extend(results)
        self.state.tool_errors += sum(result.error for result in results)
        self._step()
        return results

    def _step(self, ending: StopReason | None = None, to_environment: bool = False) -> None:
        self.state.steps += 1
        if to_environment:
            return
        if self.state.tool_errors >= self.limits.max_errors:
            ending = StopReason.TOO_MANY_ERRORS
        elif self.state.steps >= self.limits.max_steps:
            ending = StopReason.MAX_STEPS
        if ending is not None:
            raise _Stop(ending)

    def _parts(self) -> Parts:
        with _blamed_on(FaultSource.ENVIRONMENT):
            return self.state.world.parts(self.state.messages)

    def _record(self, action: Action, start: int, policy_seconds: float) -> None:
        messages = tuple(self.state.messages[start:])
        self.state.turns.append(
            Turn(
                text=action.text,
                messages=messages,
                parts=self._parts(),
                done=action.done,
                error=action.error,
                truncated=action.truncated,
                tokens=action.tokens,
                changes=self._new_changes() if any(m.role is Role.TOOL for m in messages) else {},
                policy_seconds=policy_seconds,
                user_seconds=self.user_seconds,
            )
        )

    def _new_changes(self) -> dict[str, Any]:
        """What differs since the last turn; a path that is back at its first value maps to None."""
        with _blamed_on(FaultSource.ENVIRONMENT):
            now, before = self.state.world.changes(), self.state.changes
        self.state.changes = now
        changed = {path: value for path, value in now.items() if path not in before or before[path] != value}
        return changed | {path: None for path in before if path not in now}


def _readable(action: Action) -> Action:
    """The action, or an unparsable turn where it could not be written into a trajectory and read again."""
    text = repaired_unicode(action.text)
    try:
        if action.message is not None:
            check_message(action.message)
    except Unparsable as error:
        return replace(action, message=None, text=text, done=False, error=str(error))
    return replace(action, text=text) if text != action.text else action


@contextmanager
def _blamed_on(source: FaultSource) -> Iterator[None]:
    """What breaks inside is a fault of `source`; what has a name of its own passes."""
    try:
        yield
    except (FaultError, BudgetReached, ContextFull, OutOfMemory):
        raise
    except Exception as error:
        raise FaultError(source, _describe(error)) from error


def _describe(error: Exception) -> str:
    reason = first_error(error)
    return masked(f"{type(reason).__name__}: {reason}")
