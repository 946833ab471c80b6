"""τ²-bench's task files as typed tasks, and its splits."""

from __future__ import annotations

import textwrap
from typing import Any

from tau2_exp.protocols.parsing import check_message
from tau2_exp.types import Criteria, EnvAssertion, EnvCall, GoldAction, Message, Role, Scenario, Task, ToolCall

DEFAULT_BASIS = ("DB", "COMMUNICATE")


def read_tasks(domain: str, records: list[dict[str, Any]]) -> dict[str, Task]:
    """Tasks by their id, in the file's order."""
    return {record["id"]: _task(domain, record) for record in records}


def read_splits(domain: str, splits: dict[str, list[str]]) -> dict[str, list[str]]:
    """The file's splits; telecom gets `development`: its full set outside base, free for choosing settings."""
    found = {name: list(ids) for name, ids in splits.items()}
    if domain == "telecom":
        base = set(found["base"])
        found["development"] = [task for task in found["full"] if task not in base]
    return found


def _task(domain: str, record: dict[str, Any]) -> Task:
    start = record.get("initial_state") or {}
    data = start.get("initialization_data") or {}
    return Task(
        id=record["id"],
        domain=domain,
        scenario=_scenario(record["user_scenario"]),
        criteria=_criteria(record.get("evaluation_criteria")),
        agent_data=data.get("agent_data"),
        user_data=data.get("user_data"),
        setup=tuple(_env_call(call) for call in start.get("initialization_actions") or ()),
        history=tuple(read_message(message) for message in start.get("message_history") or ()),
        ticket=record.get("ticket") or "",
    )


def _scenario(record: dict[str, Any]) -> Scenario:
    persona, told = record.get("persona"), record["instructions"]
    lines = [] if persona is None else ["Persona:", _indent(persona)]
    if isinstance(told, str):
        return Scenario("\n".join([*lines, "Instructions:", _indent(told)]), guidance=told, persona=persona or "")
    return Scenario(
        instructions="\n".join([*lines, "Instructions:", _indent(_sections(told))]),
        reason=told["reason_for_call"],
        known=told.get("known_info") or "",
        unknown=told.get("unknown_info") or "",
        guidance=told["task_instructions"],
        persona=persona or "",
    )


def _sections(told: dict[str, Any]) -> str:
    sections = [f"Domain: {told['domain']}", f"Reason for call:\n{_indent(told['reason_for_call'])}"]
    for title, name in (("Known info", "known_info"), ("Unknown info", "unknown_info")):
        if told.get(name) is not None:
            sections.append(f"{title}:\n{_indent(told[name])}")
    return "\n".join([*sections, f"Task instructions:\n{_indent(told['task_instructions'])}"])


def _indent(text: str) -> str:
    return textwrap.indent(text, "\t")


def _criteria(record: dict[str, Any] | None) -> Criteria | None:
    if record is None:
        return None
    return Criteria(
        actions=_optional(record.get("actions"), _gold_action),
        assertions=_optional(record.get("env_assertions"), _assertion),
        communicate=_optional(record.get("communicate_info"), str),
        basis=tuple(record.get("reward_basis") or DEFAULT_BASIS) if "reward_basis" in record else DEFAULT_BASIS,
    )


def _optional(records: list[Any] | None, read: Any) -> tuple[Any, ...] | None:
    return None if records is None else tuple(read(record) for record in records)


def _gold_action(record: dict[str, Any]) -> GoldAction:
    return GoldAction(
        id=record["action_id"],
        name=record["name"],
        arguments=record["arguments"],
        requestor=Role(record.get("requestor") or "assistant"),
        compare_args=_optional(record.get("compare_args"), str),
    )


def _env_call(record: dict[str, Any]) -> EnvCall:
    return EnvCall(Role(record["env_type"]), record["func_name"], record["arguments"])


def _assertion(record: dict[str, Any]) -> EnvAssertion:
    return EnvAssertion(
        side=Role(record["env_type"]),
        function=record["func_name"],
        arguments=record["arguments"],
        expected=record.get("assert_value", True),
    )


def read_message(record: dict[str, Any]) -> Message:
    """A message of τ²-bench's own records, or of a recorded episode (`tool_call` for a single call).

    Raises ValueError or KeyError, naming the field, where it is not one, or could not be written and read again.
    """
    return check_message(_message(record))


def _message(record: dict[str, Any]) -> Message:
    role = Role(record["role"])
    content = record.get("content")
    if content is not None and not isinstance(content, str):
        raise ValueError(f"content: expected text, got {type(content).__name__}")
    if role is Role.TOOL:
        requestor = Role(record.get("requestor") or "assistant")
        return Message(
            role, content, requestor=requestor, error=bool(record.get("error")), call_id=record.get("id") or ""
        )
    calls = [record["tool_call"]] if record.get("tool_call") is not None else record.get("tool_calls") or []
    return Message(role, content, tool_calls=tuple(_tool_call(call, role) for call in calls))


def _tool_call(record: dict[str, Any], role: Role) -> ToolCall:
    name, arguments = record["name"], record["arguments"]
    if not isinstance(name, str):
        raise ValueError(f"tool call: expected a name, got {name!r}")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments of {name}: expected an object, got {type(arguments).__name__}")
    return ToolCall(name, arguments, Role(record.get("requestor") or role), record.get("id") or "")
