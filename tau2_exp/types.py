"""The data types that all rooms share. Standard library only.

A *turn* is one action of the agent (a message or a tool call) with everything until its next. A *step* is counted as in
τ²-bench: one message of either side, or the environment's answer to tool calls.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Schema = dict[str, Any]  # one OpenAI function schema: {"type": "function", "function": {...}}


class Role(str, Enum):
    """Who sends a message, or which side a tool belongs to: the agent (ASSISTANT) or the user (USER)."""

    SYSTEM = "system"
    ASSISTANT = "assistant"
    USER = "user"
    TOOL = "tool"


class StopReason(str, Enum):
    """Why an episode ended. Only the first two are natural endings; the others score outcome 0."""

    AGENT_STOP = "agent_stop"
    USER_STOP = "user_stop"
    MAX_STEPS = "max_steps"
    TOO_MANY_ERRORS = "too_many_errors"
    UNPARSABLE = "unparsable"  # the agent's bound of unparsable turns was reached
    CONTEXT_FULL = "context_full"  # the agent's context has no room for another turn
    FAULT = "fault"  # see Trajectory.fault

    @property
    def natural(self) -> bool:
        """Whether the agent or the user ended the episode; every other ending has outcome 0."""
        return self in (StopReason.AGENT_STOP, StopReason.USER_STOP)


class FaultSource(str, Enum):
    """The component that a fault comes from."""

    AGENT = "agent"
    USER = "user"
    ENVIRONMENT = "environment"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that ended an episode. A fault of the agent counts as a failure; any other leaves it unscored."""

    source: FaultSource
    message: str


class FaultError(Exception):
    """Raised by a user, a policy or an engine to end an episode with a fault; `usage` is what was used until then."""

    def __init__(self, source: FaultSource, message: str, usage: Usage | None = None):
        super().__init__(message)
        self.fault = Fault(source, message)
        self.usage = usage or Usage()


class ContextFull(Exception):
    """Raised by an agent whose context has no room for another turn: ends the episode CONTEXT_FULL."""


class BudgetReached(Exception):
    """Raised where a user or an agent may spend no more: the episode is left out, for a later run to do."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; `arguments` is a JSON object by parameter name."""

    name: str
    arguments: dict[str, Any]
    requestor: Role = Role.ASSISTANT  # whose tool: ASSISTANT or USER
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. A tool result has its requestor, the id of its call, and `error` where the call raised."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    requestor: Role | None = None
    error: bool = False
    call_id: str = ""


# ---------------------------------------------------------------- tasks


@dataclass(frozen=True, slots=True)
class GoldAction:
    """One action of the reference path. `compare_args` names the arguments to compare; None: those of the call made."""

    id: str
    name: str
    arguments: dict[str, Any]
    requestor: Role = Role.ASSISTANT
    compare_args: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EnvCall:
    """A function run on one side of the environment while a task is set up."""

    side: Role  # ASSISTANT or USER
    function: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EnvAssertion:
    """A function run on one side of the environment after the episode, and the truth value that it must return."""

    side: Role
    function: str
    arguments: dict[str, Any]
    expected: bool = True


@dataclass(frozen=True, slots=True)
class Criteria:
    """What an episode is evaluated on. A field that the task does not mention is None, which τ²-bench treats unlike
    empty.
    """

    actions: tuple[GoldAction, ...] | None
    assertions: tuple[EnvAssertion, ...] | None
    communicate: tuple[str, ...] | None
    basis: tuple[str, ...]  # of DB, ENV_ASSERTION, ACTION, COMMUNICATE


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the user knows and wants. `instructions` is τ²-bench's whole text of it, for a simulator's prompt."""

    instructions: str
    reason: str = ""
    known: str = ""
    unknown: str = ""
    guidance: str = ""  # the task's instructions to the user simulator
    persona: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: the user's scenario, what the episode is evaluated on, and how its world is set up."""

    id: str
    domain: str
    scenario: Scenario
    criteria: Criteria | None
    agent_data: dict[str, Any] | None = None  # updates to the databases before the episode
    user_data: dict[str, Any] | None = None
    setup: tuple[EnvCall, ...] = ()
    history: tuple[Message, ...] = ()
    ticket: str = ""

    @property
    def key(self) -> str:
        """`domain/id`, which is unique across domains."""
        return f"{self.domain}/{self.id}"


# ---------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a verdict as fractions in 0..1; None where the task has no such part.

    `db_progress` is ours: of the leaf fields the gold path changes, the fraction now right, less
    fields wrongly changed over the same count, clipped; 1 or 0 where gold changes nothing.
    """

    action: float | None = None
    communicate: float | None = None
    env_assertion: float | None = None
    db: float | None = None
    db_progress: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """τ²-bench's evaluation of an ended episode: the reward and the result of every check."""

    reward: float
    breakdown: dict[str, float] = field(default_factory=dict)  # by reward basis
    db_match: bool | None = None
    env_assertions: tuple[bool, ...] = ()
    action_checks: tuple[bool, ...] = ()
    communicate_checks: tuple[bool, ...] = ()
    raised: str | None = None  # what the evaluation itself raised; the reward is then 0


# ---------------------------------------------------------------- trajectories


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The token record of one turn: the ids appended before it, and the ids that were sampled.

    `log_probs[i]` is the natural logarithm of the probability of `sampled[i]` under the model's distribution at the
    sampling temperature (before top-p and top-k). No record is ever rebuilt from text.
    """

    context: tuple[int, ...]
    sampled: tuple[int, ...]
    log_probs: tuple[float, ...]
    entropy: float | None = None  # of the first token's distribution, in nats; None: was not asked for


@dataclass(frozen=True, slots=True)
class Usage:
    """What one side of an episode used. `reused_tokens` came from a cache: they were not sampled again and cost
    nothing.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0  # None: unknown, as is any sum with it
    reused_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if self.dollars is None or other.dollars is None else self.dollars + other.dollars,
            self.reused_tokens + other.reused_tokens,
        )


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent did. `message` is None where its output could not be parsed (`error` says why).

    A turn that was cut at its token limit is `truncated` and has an `error`.
    """

    message: Message | None
    text: str  # the output as it was written
    done: bool = False  # the agent ends the episode
    error: str | None = None
    truncated: bool = False
    tokens: TokenSpan | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Turn:
    """One action and everything until the next. `parts` is the world's score after it."""

    text: str
    messages: tuple[Message, ...]  # the action first, unless it was unparsable
    parts: Parts = Parts()
    done: bool = False
    error: str | None = None
    truncated: bool = False
    tokens: TokenSpan | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # leaf path → new value, by this turn
    policy_seconds: float = 0.0
    user_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Branch:
    """Whose continuation an episode is, and from where: all turns before `turn` are those of `trunk`."""

    trunk: int  # the `sample` of the episode that it continues, in the same group
    turn: int  # the first turn of its own
    number: int  # which continuation from there


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The complete record of one ended episode, whatever ended it.

    That of a continuation (see `branch`) holds the turns of its trunk too; its usage and its seconds are its own.
    """

    task: str  # Task.id
    domain: str
    sample: int  # which attempt at the task, within its group
    seed: int
    opening: tuple[Message, ...]  # greeting and the user's first words (with its tool calls)
    turns: tuple[Turn, ...]
    stop: StopReason
    verdict: Verdict | None  # None after a fault, and where an imported episode was never evaluated
    initial: Parts = Parts()  # the untouched world's score, Φ_0
    fault: Fault | None = None
    steps: int = 0
    tool_errors: int = 0
    attempts: int = 1  # how often the episode was started, faults included
    seconds: float = 0.0
    user: str = ""  # which user simulator it was; SOLO where none did
    user_usage: Usage = Usage()
    policy_usage: Usage = Usage()
    branch: Branch | None = None  # None: it was played from its beginning

    @property
    def key(self) -> str:
        """Its task's `Task.key`: ids alone repeat across domains."""
        return f"{self.domain}/{self.task}"

    @property
    def first_turn(self) -> int:
        """The first turn of its own: those before it are another episode's, and were recorded there first."""
        return self.branch.turn if self.branch else 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages of the episode in order, the opening first."""
        return self.opening + tuple(m for turn in self.turns for m in turn.messages)

    @property
    def trunk(self) -> int:
        """The sample of the trunk whose turns it shares; its own, where it is nobody's continuation."""
        return self.branch.trunk if self.branch else self.sample

    @property
    def scored(self) -> bool:
        """Whether it counts in scores and training: it was evaluated, or a fault of the agent ended it."""
        return self.verdict is not None if self.fault is None else self.fault.source is FaultSource.AGENT

    @property
    def outcome(self) -> float:
        """τ²-bench's reward, 0 to 1; 0 without a verdict."""
        return self.verdict.reward if self.verdict else 0.0


@dataclass(frozen=True, slots=True)
class Reward:
    """A trajectory's reward, split as the learner needs it.

    `outcome` is τ²-bench's; `partial` the weighted parts in 0..1; `alpha` what partial credit counts for in this
    domain, its multiplier included; `shaped` = outcome + alpha · partial − penalties; `progress[t]` = Φ_t − Φ_(t−1)
    per turn; `phi` = Φ of the world as the episode left it, also where a premature ending has no partial score.
    """

    outcome: float
    partial: float
    shaped: float
    progress: tuple[float, ...]
    alpha: float
    phi: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to train on; every tuple has the length of `ids`.

    `trained[i]` says that token i was the agent's and is predicted; `log_probs[i]` is the sampler's
    (0 where not trained, or where there was no sampler); `advantages[i]` its credit (1 for SFT).
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    log_probs: tuple[float, ...]
    advantages: tuple[float, ...]


# ---------------------------------------------------------------- one episode


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """Identifies one episode. `seed` is the episode's own; the seed of each turn is derived from it."""

    task: Task
    sample: int
    seed: int
    index: int  # the episode's place in its batch: batches form by index, never by arrival
    branch: Branch | None = None  # what it continues; None: it begins anew


# ---------------------------------------------------------------- token-level generation


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one turn. Temperature 0 is greedy. `stop_ids` end a turn and are kept in it."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    max_tokens: int = 512
    stop_ids: tuple[int, ...] = ()
    entropy: bool = False  # whether the entropy of a turn's first token is recorded; the torch engine can


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled turn: its token ids and the natural log-probability of each."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: str  # "stop" or "length"
    entropy: float | None = None  # of the first token's distribution at the sampling temperature, in nats
    version: str | None = None  # of the weights that sampled it, where a server tells


def stable_seed(*names: object) -> int:
    """A 63-bit seed by SHA-256 of the names (run seed, step, task, sample, turn): the same on every machine."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


SOLVED = 1.0 - 1e-6  # an outcome of at least this; τ²-bench's own tolerance
GREETING = Message(Role.ASSISTANT, "Hi! How can I help you today?")
SOLO = "solo"  # in place of a user: the agent works on a ticket, and holds the user's tools
USER_STOPS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
