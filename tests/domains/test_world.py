"""A world: its own databases, τ²-bench's words, verdicts on every part, and scores on the way."""

from __future__ import annotations

import dataclasses
import gc

import pytest

from tau2_exp.config import Document
from tau2_exp.domains import TauWorld, load_domain
from tau2_exp.domains.progress import db_progress
from tau2_exp.types import EnvAssertion, Message, Parts, Role, StopReason, Task, ToolCall

DOMAINS = ("airline", "retail", "telecom")


def follow(world: TauWorld, task: Task, many: int | None = None) -> list[Message]:
    messages: list[Message] = []
    for action in (task.criteria.actions or ())[:many]:
        call = ToolCall(action.name, action.arguments, action.requestor)
        messages += [Message(action.requestor, tool_calls=(call,)), world.call(call)]
    return messages


def writing_task(name: str) -> Task:
    domain = load_domain(name)
    return next(task for task in domain.tasks("train") if len(domain.gold(task).changes) > 2)


def hashes(world: TauWorld) -> tuple[str | None, str | None]:
    return world.db_hash(Role.ASSISTANT), world.db_hash(Role.USER)


@pytest.mark.parametrize("name", DOMAINS)
def test_two_worlds_of_a_task_do_not_see_one_another(name: str) -> None:
    task, domain = writing_task(name), load_domain(name)
    one, other = domain.world(task), domain.world(task)
    before = hashes(other)
    follow(one, task)
    assert hashes(one) != before
    assert hashes(other) == before == hashes(domain.world(task))
    assert one.changes() and not other.changes()


@pytest.mark.parametrize("name", DOMAINS)
def test_asking_for_the_score_changes_nothing(name: str) -> None:
    task = writing_task(name)
    world = load_domain(name).world(task)
    for many in range(len(task.criteria.actions)):
        messages = follow(world, task, many)
        before = hashes(world)
        assert world.parts(messages) == world.parts(messages)
        assert hashes(world) == before


@pytest.mark.parametrize("name", DOMAINS)
def test_the_reference_path_scores_full_and_nothing_done_does_not(name: str) -> None:
    task = writing_task(name)
    world = load_domain(name).world(task)
    assert world.parts([]).db_progress == 0.0
    parts = world.parts(follow(world, task))
    assert (parts.action, parts.db_progress) == (1.0, 1.0)
    assert parts.env_assertion in (None, 1.0)
    assert parts.db == (None if name == "telecom" else 1.0)


def test_what_is_communicated_counts_without_commas_and_case() -> None:
    domain = load_domain("retail")
    task = next(task for task in domain.tasks("base") if task.criteria.communicate)
    world = domain.world(task)
    said = Message(Role.ASSISTANT, "It is " + ", ".join(task.criteria.communicate).upper())
    assert world.parts([said]).communicate == 1.0
    assert world.parts([dataclasses.replace(said, role=Role.USER)]).communicate == 0.0
    assert domain.world(task).parts([]).communicate == 0.0


def test_actions_match_whoever_called_and_may_name_the_arguments_that_count() -> None:
    task = writing_task("retail")
    action = task.criteria.actions[-1]
    world = load_domain("retail").world(task)

    def matched(arguments: dict, compare: tuple[str, ...] | None) -> bool:
        gold = dataclasses.replace(action, compare_args=compare)
        world.task = dataclasses.replace(task, criteria=dataclasses.replace(task.criteria, actions=(gold,)))
        call = ToolCall(action.name, arguments)
        return world.parts([Message(Role.USER, tool_calls=(call,))]).action == 1.0

    other = {**action.arguments, "extra": 1}
    assert matched(action.arguments, None)
    assert not matched(other, None)
    assert matched(other, tuple(action.arguments))
    assert matched({}, None), "a call without arguments matches any, as in τ²-bench"


def test_premature_endings_score_nothing() -> None:
    task = writing_task("telecom")
    world = load_domain("telecom").world(task)
    messages = follow(world, task)
    for stop in StopReason:
        assert world.verdict(messages, stop).reward == float(stop.natural)


def test_what_raises_inside_an_evaluation_scores_nothing_and_is_recorded() -> None:
    domain = load_domain("telecom")
    task = domain.tasks("test")[0]
    broken = EnvAssertion(Role.ASSISTANT, "assert_line_status", {"customer_id": "nobody"})
    criteria = dataclasses.replace(task.criteria, assertions=(broken,))
    world = domain.world(dataclasses.replace(task, criteria=criteria))
    verdict = world.verdict([], StopReason.USER_STOP)
    assert verdict.reward == 0.0
    assert "assert_line_status" in verdict.raised
    assert world.parts([]).env_assertion == 0.0


def test_no_criteria_is_a_success() -> None:
    domain = load_domain("retail")
    world = domain.world(dataclasses.replace(domain.tasks("test")[0], criteria=None))
    assert world.verdict([], StopReason.AGENT_STOP).reward == 1.0
    assert world.parts([]) == Parts()


@pytest.mark.parametrize(
    ("name", "call", "text"),
    [
        ("airline", ToolCall("nope", {}), "Error: Tool 'nope' not found."),
        ("airline", ToolCall("get_user_details", {}, Role.USER), "Error: User tools not available"),
        ("retail", ToolCall("__init__", {}), "Error: Tool '__init__' not found."),
        ("retail", ToolCall("get_order_details", {"order_id": "#W0"}), "Error: Order not found"),
        (
            "retail",
            ToolCall("get_order_details", {"id": "#W0"}),
            "Error: RetailTools.get_order_details() got an unexpected keyword argument 'id'",
        ),
        (
            "telecom",
            ToolCall("toggle_data", {"tool_name": "x"}, Role.USER),
            "Error: Environment.make_tool_call() got multiple values for argument 'tool_name'",
        ),
        ("retail", ToolCall("calculate", {"expression": "100 / 3"}), "33.33"),
        ("airline", ToolCall("transfer_to_human_agents", {"summary": ""}), "Transfer successful"),
    ],
)
def test_tools_answer_in_tau2_benchs_words(name: str, call: ToolCall, text: str) -> None:
    domain = load_domain(name)
    answer = domain.world(domain.tasks("test")[0]).call(call)
    assert answer.content == text
    assert answer.error == text.startswith("Error")


def test_progress_counts_right_leaves_less_wrong_ones() -> None:
    gold = {"a": 1, "b": 2, "c": None, "d": 4}
    assert db_progress(gold, dict(gold)) == 1.0
    assert db_progress(gold, {"a": 1, "b": 2, "c": None}) == 0.75
    assert db_progress(gold, {"a": 1, "b": 2, "c": None, "d": 5}) == 0.5
    assert db_progress(gold, {"a": 1, "x": 0, "y": 0}) == 0.0
    assert (db_progress({}, {}), db_progress({}, {"x": 1})) == (1.0, 0.0)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_live_world_is_small(name: str) -> None:
    """Counted in objects, which is the same on every machine: a parsed database has hundreds of thousands."""
    task, domain = writing_task(name), load_domain(name)
    worlds = [domain.world(task)]
    gc.collect()
    before = len(gc.get_objects())
    worlds += [domain.world(task) for _ in range(10)]
    for world in worlds:
        follow(world, task)
    assert (len(gc.get_objects()) - before) / 10 < 3000


@pytest.mark.parametrize("name", DOMAINS)
def test_documents(name: str) -> None:
    domain = load_domain(name)
    full, short = domain.document(Document.full), domain.document(Document.compressed)
    assert domain.document(Document.none) == ""
    assert 0.1 < len(short) / len(full) < 0.4
    assert "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON." in short
    assert domain.guidelines(tools=False) != domain.guidelines(tools=True)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("airline", {"train": 30, "test": 20, "base": 50}),
        ("retail", {"train": 74, "test": 40, "base": 114}),
        (
            "telecom",
            {"train": 74, "test": 40, "base": 114, "small": 20, "full": 2285, "development": 2171},
        ),
    ],
)
def test_splits(name: str, sizes: dict[str, int]) -> None:
    domain = load_domain(name)
    assert {split: len(domain.tasks(split)) for split in sizes} == sizes
    assert not {task.id for task in domain.tasks("train")} & {task.id for task in domain.tasks("test")}
    with pytest.raises(ValueError, match=r"has no split 'dev'; it has .*train"):
        domain.tasks("dev")
    assert all(task.scenario.instructions and task.scenario.guidance for task in domain.tasks("base"))
