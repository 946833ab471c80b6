"""τ²-bench's own results: what is written is read back, what is read is written back, and τ²-bench accepts it."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from dialogues import arguments, hostile_text, tool_names
from evaluations import evaluated
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.config import ConfigError
from tau2_exp.domains.tasks import read_message
from tau2_exp.evaluation.exporting import export_run
from tau2_exp.evaluation.importing import import_files
from tau2_exp.evaluation.plan import read_plan
from tau2_exp.evaluation.results_format import from_simulation, to_simulation
from tau2_exp.jsonl import write_json
from tau2_exp.runs.run import Run
from tau2_exp.types import FaultSource, Message, Role, StopReason, ToolCall, Trajectory, Turn, Usage, Verdict

TIMES = ("2026-01-01T00:00:00", "2026-01-01T00:01:00")
CRITERIA = {
    "actions": [{"action_id": "0", "name": "pay", "arguments": {"sum": 1}}],
    "env_assertions": [{"env_type": "user", "func_name": "assert_paid", "arguments": {}}],
    "communicate_info": ["42"],
    "reward_basis": ["DB", "COMMUNICATE"],
}

ids = st.text(max_size=4)


@st.composite
def said(draw: st.DrawFn, role: Role) -> tuple[Message, ...]:
    """A message of one side, and the results of its calls."""
    calls = draw(st.lists(st.builds(ToolCall, tool_names, arguments, st.just(role), ids), max_size=2))
    results = [
        Message(Role.TOOL, draw(hostile_text), requestor=role, error=draw(st.booleans()), call_id=call.id)
        for call in calls
    ]
    return Message(role, draw(st.none() | hostile_text), tuple(calls)), *results


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    greeting, words = Message(Role.ASSISTANT, "Hi!"), draw(said(Role.USER))
    spoken = [(*draw(said(Role.ASSISTANT)), *draw(said(Role.USER))) for _ in range(draw(st.integers(0, 3)))]
    stop = draw(st.sampled_from([stop for stop in StopReason if stop is not StopReason.FAULT]))
    turns = tuple(
        Turn(turn[0].content or "", turn, done=stop is StopReason.AGENT_STOP and turn is spoken[-1]) for turn in spoken
    )
    ok, met, told, match = (draw(st.booleans()) for _ in range(4))
    natural = Verdict(float(ok), {"DB": float(match)}, match, (met,), (ok,), (told,))
    return Trajectory(
        task=draw(st.text(min_size=1, max_size=5)),
        domain="retail",
        sample=draw(st.integers(0, 9)),
        seed=draw(st.integers(0, 2**63 - 1)),
        opening=(greeting, *words),
        turns=turns,
        stop=stop,
        verdict=natural if stop.natural else Verdict(0.0, raised=draw(st.none() | st.text(max_size=5))),
        steps=draw(st.integers(0, 9)),
        seconds=draw(st.floats(0, 100)),
        user="scripted",
        user_usage=Usage(1, 2, None),
        policy_usage=draw(st.builds(Usage, st.integers(0, 99), st.integers(0, 99), st.floats(0, 1) | st.none())),
    )


@given(trajectories())
def test_what_is_written_is_read_back(trajectory: Trajectory) -> None:
    record = json.loads(json.dumps(to_simulation(trajectory, {"evaluation_criteria": CRITERIA}, *TIMES)))
    assert from_simulation(record, "retail") == trajectory


THEIRS: dict[str, Any] = {
    "id": "d60a5719",
    "task_id": "7",
    "timestamp": TIMES[1],
    "start_time": TIMES[0],
    "end_time": TIMES[1],
    "duration": 60.0,
    "termination_reason": "user_stop",
    "agent_cost": 0.25,
    "user_cost": None,
    "reward_info": {
        "reward": 1.0,
        "db_check": {"db_match": True, "db_reward": 1.0},
        "env_assertions": [{"env_assertion": CRITERIA["env_assertions"][0], "met": True, "reward": 1.0}],
        "action_checks": [{"action": CRITERIA["actions"][0], "action_match": False, "action_reward": 0.0}],
        "nl_assertions": None,
        "communicate_checks": [{"info": "42", "met": True, "justification": "It was said."}],
        "reward_basis": ["DB", "COMMUNICATE"],
        "reward_breakdown": {"DB": 1.0, "COMMUNICATE": 1.0},
        "info": {"env": None, "action": None},
    },
    "messages": [
        {"role": "assistant", "content": "Hi!", "turn_idx": 0, "timestamp": TIMES[0], "cost": 0.0},
        {"role": "user", "content": "Hello.", "usage": {"prompt_tokens": 5, "completion_tokens": 2}, "raw_data": {}},
        {
            "role": "assistant",
            "content": "One moment.",
            "tool_calls": [{"id": "c1", "name": "pay", "arguments": {"sum": 2}, "requestor": "assistant"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 4},
        },
        {"role": "tool", "id": "c1", "content": "Error: no", "requestor": "assistant", "error": True},
        {"role": "assistant", "content": "It is 42.", "usage": {"prompt_tokens": 40, "completion_tokens": 3}},
        {"role": "user", "content": "Bye ###STOP###", "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
    ],
    "trial": 3,
    "seed": 626729,
    "speech_environment": None,  # of later versions
}


def test_what_they_wrote_is_read_and_written_back() -> None:
    read = from_simulation(THEIRS, "retail")
    assert (read.task, read.sample, read.seed, read.outcome, read.tool_errors) == ("7", 3, 626729, 1.0, 1)
    assert read.policy_usage == Usage(70, 7, 0.25) and read.user_usage == Usage(14, 4, None)
    assert read.verdict == Verdict(1.0, {"DB": 1.0, "COMMUNICATE": 1.0}, True, (True,), (False,), (True,))
    assert [len(turn.messages) for turn in read.turns] == [2, 2] and len(read.opening) == 2
    again = to_simulation(read, {"evaluation_criteria": CRITERIA}, *TIMES)
    own = {"id", "reward_info", "messages", "speech_environment"}
    assert {k: v for k, v in again.items() if k not in own} == {k: v for k, v in THEIRS.items() if k not in own}
    judged = {k: v for k, v in again["reward_info"].items() if k != "info"}
    theirs = copy.deepcopy(THEIRS["reward_info"])
    theirs["communicate_checks"][0]["justification"] = ""
    assert judged == {k: v for k, v in theirs.items() if k not in ("info", "nl_assertions")}
    for mine, message in zip(again["messages"], THEIRS["messages"], strict=True):
        assert all(mine[key] == message.get(key) for key in ("role", "content", "tool_calls") if key in mine)


@pytest.mark.parametrize(
    ("word", "stop", "source"),
    [
        ("agent_error", StopReason.UNPARSABLE, None),
        ("timeout", StopReason.MAX_STEPS, None),
        ("context_window_exceeded", StopReason.CONTEXT_FULL, None),
        ("user_error", StopReason.FAULT, FaultSource.USER),
        ("infrastructure_error", StopReason.FAULT, FaultSource.ENGINE),
    ],
)
def test_their_words_for_an_ending(word: str, stop: StopReason, source: FaultSource | None) -> None:
    judged = {"reward": 0.0, "info": {"note": "terminated prematurely"}}
    read = from_simulation(THEIRS | {"termination_reason": word, "reward_info": judged}, "retail")
    assert read.stop is stop and (read.fault and read.fault.source) is source
    assert (read.verdict is None) == (source is not None)


def test_a_fault_is_no_failure_of_the_agent_and_is_not_written() -> None:
    lost = from_simulation(THEIRS | {"termination_reason": "user_error"}, "retail")
    with pytest.raises(ValueError, match="ended in a fault and has no score"):
        to_simulation(lost, {}, *TIMES)
    with pytest.raises(ValueError, match="'bored' is not one of agent_stop"):
        from_simulation(THEIRS | {"termination_reason": "bored"}, "retail")


# ---------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("outputs") / "both", "domain.names=[retail,telecom]")


def write_files(run: Run, folder: Path) -> list[Path]:
    paths = []
    for name, file in export_run(run).items():
        paths.append(folder / f"{name}.json")
        write_json(paths[-1], file.results)
    return paths


def test_a_run_goes_out_and_comes_back(run: Run, tmp_path: Path) -> None:
    paths = write_files(run, tmp_path)
    assert [path.name for path in paths] == [
        f"{domain}_test{greedy}.json" for greedy in ("-greedy", "") for domain in ("retail", "telecom")
    ]
    temperatures = [json.loads(path.read_text())["info"]["agent_info"]["llm_args"]["temperature"] for path in paths]
    assert temperatures == [0.0, 0.0, 1.0, 1.0]
    back = import_files(paths, tmp_path / "back")
    assert back.results["splits"] == run.results["splits"]
    assert run.results["splits"].keys() == {"test", "retail test", "telecom test"}
    sampled, greedy = (run.results["splits"]["test"][key] for key in ("outcomes", "greedy_outcomes"))
    assert len({*map(tuple, sampled.values())}) > 1, "swapped samples or tasks would be seen"
    assert any(greedy[task] != outcomes[:1] for task, outcomes in sampled.items()), "and greedy ones among them"
    mine, theirs = read_plan(run.folder), read_plan(back.folder)
    assert (theirs.revision, theirs.files, theirs.user) == (mine.revision, mine.files, mine.user)
    for name in mine.files:
        for before, after in zip(run.trajectories(name), back.trajectories(name), strict=True):
            assert (after.messages, after.verdict, after.stop) == (before.messages, before.verdict, before.stop)


def test_greedy_files_alone_are_samples_and_other_temperatures_other_agents(run: Run, tmp_path: Path) -> None:
    paths = write_files(run, tmp_path)
    alone = import_files(paths[:2], tmp_path / "alone")
    assert alone.results["temperature"] == 0.0
    assert alone.results["splits"]["test"]["outcomes"] == run.results["splits"]["test"]["greedy_outcomes"]
    warmer = json.loads(paths[3].read_text())
    warmer["info"]["agent_info"]["llm_args"]["temperature"] = 0.5
    write_json(paths[3], warmer)
    with pytest.raises(ConfigError, match="agent_info is not that of"):
        import_files(paths, tmp_path / "refused")


def test_a_trial_counts_once(run: Run, tmp_path: Path) -> None:
    *_, path = write_files(run, tmp_path)
    copied = tmp_path / "copied.json"
    copied.write_bytes(path.read_bytes())
    for other in (path, copied):
        with pytest.raises(ConfigError) as caught:
            import_files([path, other], tmp_path / "refused")
        (task, *_) = run.results["splits"]["telecom test"]["outcomes"]
        assert str(caught.value) == f"{other}: {task}, trial 0 is of {path} too; give every trial once"


def test_an_address_is_of_what_the_files_hold(run: Run, tmp_path: Path) -> None:
    """Else a report would take two agents that met the same users for one."""
    *_, path = write_files(run, tmp_path)
    first, same = import_files([path], tmp_path / "first"), import_files([path], tmp_path / "same")
    results = json.loads(path.read_text())
    verdict = results["simulations"][0]["reward_info"]["info"]["tau2_exp"]["verdict"]
    verdict["reward"] = 1.0 - verdict["reward"]
    write_json(path, results)
    other = import_files([path], tmp_path / "other")
    assert other.results["plan"] == first.results["plan"] and other.results["splits"] != first.results["splits"]
    assert same.manifest.address == first.manifest.address != other.manifest.address


def test_what_is_no_results_file_or_does_not_belong_is_one_line(run: Run, tmp_path: Path) -> None:
    results = next(iter(export_run(run).values())).results
    others = {
        "no 'info'": {},
        "no split, domain 'taxi'": results | {"info": results["info"] | {"environment_info": {"domain_name": "taxi"}}},
        "holds a trial of a task twice": results | {"simulations": results["simulations"][:1] * 2},
        "holds no simulations": results | {"simulations": []},
    }
    for said_so, content in others.items():
        write_json(tmp_path / "bad.json", content)
        with pytest.raises(ConfigError, match=said_so.replace("no split, ", "no ")):
            import_files([tmp_path / "bad.json"], tmp_path / "run")
    good = write_files(run, tmp_path)
    other = json.loads(good[1].read_text())
    other["info"]["agent_info"]["llm"] = "another"
    write_json(good[1], other)
    with pytest.raises(ConfigError, match="agent_info is not that of"):
        import_files(good[:2], tmp_path / "run")
    changed = json.loads(good[0].read_text())
    changed["tasks"][0]["user_scenario"]["instructions"]["task_instructions"] = "Be kind."
    write_json(good[0], changed)
    assert read_plan(import_files(good[:1], tmp_path / "run").folder).revision == "tau2-bench@337326e, other tasks"


def test_tau2_bench_accepts_what_is_written(run: Run, tmp_path: Path) -> None:
    """Its own loader, metrics and judgement; only where its package is installed."""
    if importlib.util.find_spec("tau2") is None or importlib.util.find_spec("tau2.data_model.simulation") is None:
        pytest.skip("τ²-bench's own package is not installed (the extra `tau2`)")
    from tau2.data_model.simulation import Results
    from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
    from tau2.metrics.agent_metrics import compute_metrics

    for path in write_files(run, tmp_path):
        results = Results.load(path)
        assert compute_metrics(results).avg_reward == mean(s.reward_info.reward for s in results.simulations)
        tasks = {task.id: task for task in results.tasks}
        for simulation in results.simulations:
            task, domain = tasks[simulation.task_id], results.info.environment_info.domain_name
            judged = evaluate_simulation(simulation, task, EvaluationType.ALL, False, domain)
            assert judged.reward == simulation.reward_info.reward
            assert judged.reward_breakdown == simulation.reward_info.reward_breakdown
            assert judged.db_check == simulation.reward_info.db_check
        results.save(tmp_path / "theirs.json")
        ours, theirs = (json.loads(file.read_text())["simulations"] for file in (path, tmp_path / "theirs.json"))
        assert [from_simulation(s, domain) for s in theirs] == [from_simulation(s, domain) for s in ours]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"a": float("nan")}, "nan is not a number"),
        ({"a": "\ud83d"}, "not valid Unicode"),
        ({"a": json.loads("[" * 40 + "]" * 40)}, "nested too deeply"),
    ],
    ids=["nan", "half", "deep"],
)
def test_a_call_that_could_not_be_written_and_read_again_is_not_imported(
    arguments: dict[str, object], why: str
) -> None:
    record = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "name": "f", "arguments": arguments}]}
    with pytest.raises(ValueError, match=why):
        read_message(record)
