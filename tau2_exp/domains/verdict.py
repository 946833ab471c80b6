"""τ²-bench's judgement of an ended episode: every check on its own, and the reward by the task's basis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tau2_exp.types import Criteria, EnvAssertion, GoldAction, Message, Role, ToolCall, Verdict


def judge(
    criteria: Criteria | None,
    messages: Sequence[Message],
    db_match: Callable[[], bool],
    holds: Callable[[EnvAssertion], bool],
) -> Verdict:
    """The verdict on a natural ending. Raises whatever a check raises, and ValueError for a basis that needs an LLM."""
    if criteria is None:
        return Verdict(reward=1.0)
    untold = criteria.actions is None and criteria.assertions is None
    match = True if untold else db_match()
    assertions = () if untold else tuple(holds(assertion) for assertion in criteria.assertions or ())
    actions = check_actions(criteria, messages)
    communicated = check_communicated(criteria, messages)
    if "NL_ASSERTION" in criteria.basis:
        raise ValueError("NL assertions are part of the reward basis, but they are not being evaluated.")
    scores = {
        "DB": match,
        "ENV_ASSERTION": all(assertions),
        "ACTION": all(actions),
        "COMMUNICATE": all(communicated),
    }
    silent = {"DB", "ENV_ASSERTION"} if untold else set()  # count, but τ²-bench leaves them out of the breakdown
    return Verdict(
        reward=1.0 if all(scores[basis] for basis in criteria.basis) else 0.0,
        breakdown={name: float(ok) for name, ok in scores.items() if name in criteria.basis and name not in silent},
        db_match=match,
        env_assertions=assertions,
        action_checks=actions,
        communicate_checks=communicated,
    )


def check_actions(criteria: Criteria, messages: Sequence[Message]) -> tuple[bool, ...]:
    """For each gold action, whether anyone's call matches it."""
    calls = [call for message in messages if message.role is not Role.TOOL for call in message.tool_calls]
    return tuple(any(_matches(action, call) for call in calls) for action in criteria.actions or ())


def check_communicated(criteria: Criteria, messages: Sequence[Message]) -> tuple[bool, ...]:
    """For each piece of information, whether a message of the agent contains it (commas and case aside)."""
    if not criteria.communicate:
        return ()
    said = [text.lower().replace(",", "") for text in _agent_texts(messages)]
    return tuple(any(info.lower() in text for text in said) for info in criteria.communicate)


def fraction(checks: Sequence[bool]) -> float | None:
    """The share that holds; None where there is nothing to check."""
    return sum(checks) / len(checks) if checks else None


def _matches(action: GoldAction, call: ToolCall) -> bool:
    if action.name != call.name:
        return False
    names = call.arguments if action.compare_args is None else action.compare_args
    made, wanted = (
        {name: given[name] for name in names if name in given} for given in (call.arguments, action.arguments)
    )
    return made == wanted


def _agent_texts(messages: Sequence[Message]) -> Iterable[str]:
    return (
        message.content
        for message in messages
        if message.role is Role.ASSISTANT and message.content is not None and message.content.strip()
    )
