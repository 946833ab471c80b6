"""Results files that others made: what they tell is kept, what they do not tell is unknown, and none is a crash."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import evaluated, frozen

from tau2_exp.__main__ import main
from tau2_exp.config import ConfigError
from tau2_exp.domains import load_domain
from tau2_exp.evaluation.exporting import export_run
from tau2_exp.evaluation.importing import import_files
from tau2_exp.evaluation.merge import merge
from tau2_exp.evaluation.plan import read_plan
from tau2_exp.evaluation.results_file import read_results
from tau2_exp.evaluation.results_format import from_simulation, to_simulation
from tau2_exp.jsonl import write_json
from tau2_exp.report.collect import collect
from tau2_exp.report.failures import failures
from tau2_exp.report.findings import find
from tau2_exp.report.terminal import report_text
from tau2_exp.runs.run import Run
from tau2_exp.types import Fault, FaultSource, Role, StopReason, ToolCall

DATA = Path(__file__).parents[1] / "data" / "imports"
SHARED = Path(__file__).parents[3] / "shared" / "cases" / "imports"
Results = dict[str, Any]
Command = Callable[..., tuple[int, str, str]]


def results(name: str = "plain") -> Results:
    """One airline task of another revision, whose scored parts are ours; solved by doing nothing."""
    return json.loads((DATA / f"{name}.json").read_text())


def changed(path: str, value: Any, name: str = "plain") -> Results:
    """With another value at a dotted path; `...` takes it out."""
    data = results(name)
    place: Any = data
    *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in above:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m tau2_exp …` in tmp_path; returns its exit status, and what it wrote to stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tau2_exp", *map(str, arguments)])
        status = main()
        return status, *capsys.readouterr()

    return run


def imported(folder: Path, data: Any) -> Run:
    file = folder.with_suffix(".json")
    write_json(file, data)
    return import_files([file], folder)


def test_a_solo_run_is_rescored_with_the_users_tools_and_shown_as_solo(command: Command, tmp_path: Path) -> None:
    status, said, _ = command("import", DATA / "solo_agent_holds_user_tools.json", "--name", "solo")
    assert status == 0 and "user: solo" in said and "litellm" not in said and "1.00" in said
    trajectories = tmp_path / "outputs/solo/trajectories/small.jsonl"
    status, said, _ = command("replay", trajectories)
    assert (status, said.splitlines()[-1]) == (0, "1 of 1 agree")
    assert "user: solo" in report_text(find(collect([tmp_path / "outputs/solo"])))
    (score,) = find(collect([tmp_path / "outputs/solo"])).scores
    assert not failures(score.trial, score.subject).modes, "to call the user's tools is no failure of a solo agent"


def test_a_solo_agents_reference_path_scores_1_and_a_users_call_is_an_error(command: Command, tmp_path: Path) -> None:
    """All of telecom's test tasks, the user's actions too taken by the agent; then one by a user that is not there."""
    domain, lines = load_domain("telecom"), []
    for task in domain.tasks("test"):
        world, messages = domain.world(task, solo=True), []
        for action in task.criteria.actions:
            call = {"id": "c", "name": action.name, "arguments": action.arguments}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            answer = world.call(ToolCall(action.name, action.arguments, id="c"))
            messages.append({"role": "tool", "id": "c", "content": answer.content, "error": answer.error})
        judged = {"reward": 1.0}
        record = {"domain": "telecom", "task_id": task.id, "termination_reason": "agent_stop", "reward_info": judged}
        lines.append(record | {"messages": messages})
    path = tmp_path / "solo.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert command("replay", path)[1] == "40 of 40 agree\n"
    answer = world.call(ToolCall("toggle_roaming", {}, Role.USER))
    assert answer.error and answer.content == "Error: User tool calls are not allowed in solo mode"


def test_an_episode_that_nobody_evaluated_is_missing_and_no_failure(tmp_path: Path) -> None:
    for number, judged in enumerate((None, {"reward": None})):
        run = imported(tmp_path / f"run{number}", changed("simulations.0.reward_info", judged))
        found = run.results["splits"]["train"]
        assert found["measures"]["pass@1"] == {"value": None, "missing": 1, "tasks": 1}
        assert found["unevaluated"] == 1 and not found["faults"]
        assert "1 samples missing" in run.table and "nobody evaluated" in run.table
    early = changed("simulations.0.reward_info", None) | {}
    early["simulations"][0]["termination_reason"] = "max_steps"
    assert imported(tmp_path / "early", early).results["splits"]["train"]["outcomes"] == {"airline/0": [0.0]}


@pytest.mark.parametrize(
    ("path", "value", "label"),
    [
        ("info.agent_info.implementation", "agent_b", "implementation=agent_b"),
        ("info.agent_info.llm_args.reasoning_effort", "high", 'llm_args={"reasoning_effort": "high"}'),
        ("info.environment_info.policy", "another text", None),
    ],
)
def test_another_agent_is_another_row_and_what_is_left_out_is_said(
    tmp_path: Path, path: str, value: str, label: str | None
) -> None:
    one = imported(tmp_path / "one", results())
    data = changed(path, value)
    data["simulations"][0]["reward_info"]["reward"] = 0.0
    other = imported(tmp_path / "other", data)
    collection = collect([one.folder, other.folder])
    text = report_text(find(collection))
    (trial,) = collection.trials
    if label:
        assert len(trial.subjects) == 2 and label in text and "1.00 [" in text and "0.00 [" in text
        assert not collection.problems
    else:
        assert len(trial.subjects) == 1
        assert f"left out: {other.folder}: has the same agent, user and seed as {one.folder}" in text


def test_other_tasks_of_one_label_are_not_put_in_one_table_nor_merged(tmp_path: Path) -> None:
    one, other = imported(tmp_path / "one", results()), imported(tmp_path / "other", results("later_revision"))
    assert read_plan(one.folder).revision == read_plan(other.folder).revision
    trials = collect([one.folder, other.folder]).trials
    assert len(trials) == 2 and all("other tasks=" in trial.note for trial in trials)
    with pytest.raises(ConfigError, match="airline/0 is not the same task"):
        merge([one, other], "merged")


def test_the_workflow_policy_is_another_agent_on_the_same_tasks(command: Command, tmp_path: Path) -> None:
    name = "solo_agent_holds_user_tools"
    manual = imported(tmp_path / "manual", results(name))
    workflow = imported(tmp_path / "workflow", changed("info.environment_info.domain_name", "telecom-workflow", name))
    (trial,) = collect([manual.folder, workflow.folder]).trials
    assert {s.arm for s in trial.subjects} == {"policy=telecom-workflow", "policy=the domain's own"}
    (file,) = export_run(workflow).values()
    assert file.results["info"]["environment_info"]["domain_name"] == "telecom-workflow"


@pytest.mark.parametrize(
    ("path", "value"),
    [("info.agent_info.llm_args", None), ("info.agent_info.llm_args.temperature", None), ("info.agent_info", None)],
)
def test_a_temperature_that_is_not_told_is_unknown(tmp_path: Path, path: str, value: Any) -> None:
    run = imported(tmp_path / "run", changed(path, value))
    assert run.results["temperature"] is None and "temperature unknown" in run.table
    assert "temperature unknown" in report_text(find(collect([run.folder])))
    (file,) = export_run(run).values()
    assert file.results["info"].get("agent_info") == changed(path, value)["info"]["agent_info"]


@pytest.mark.parametrize(
    "path",
    [
        "info.max_errors",
        "info.max_steps",
        "info.git_commit",
        "info.num_trials",
        "info.seed",
        "info.user_info",
        "simulations.0.agent_cost",
        "simulations.0.user_cost",
        "simulations.0.trial",
        "simulations.0.seed",
        "simulations.0.duration",
        "simulations.0.reward_info.db_check",
        "simulations.0.reward_info.reward_breakdown",
        "timestamp",
        "tasks",
    ],
)
def test_what_a_file_does_not_tell_is_unknown(tmp_path: Path, path: str) -> None:
    for number, value in enumerate((..., None)):
        run = imported(tmp_path / f"run{number}", changed(path, value))
        found = run.results["splits"]["train"]
        assert found["measures"]["pass@1"]["value"] == 1.0
        plan = read_plan(run.folder)
        assert plan.limits["max_errors"] == (None if path == "info.max_errors" else 10)
        assert found["policy_usage"]["dollars"] == (None if path.endswith("agent_cost") else 0.1)
        assert plan.revision.startswith("tau2-bench@" + ("unknown" if path == "info.git_commit" else "1111111"))


def test_a_reward_without_its_parts_is_no_contradiction(command: Command, tmp_path: Path) -> None:
    imported(tmp_path / "run", changed("simulations.0.reward_info", {"reward": 1.0}))
    assert command("replay", tmp_path / "run/trajectories/train.jsonl")[1].endswith("1 of 1 agree\n")
    imported(tmp_path / "wrong", changed("simulations.0.reward_info.db_check", {"db_match": False}))
    status, said, _ = command("replay", tmp_path / "wrong/trajectories/train.jsonl")
    assert status == 1 and "db_match: recorded False, now True" in said, "a part that is told is compared"


def test_a_later_revision_is_said_by_replay_and_kept_by_export(command: Command, tmp_path: Path) -> None:
    run = imported(tmp_path / "run", results("later_revision"))
    assert "other tasks" in run.table and "unknown" in run.table.splitlines()[4], "an LLM would judge doing nothing"
    status, said, _ = command("replay", tmp_path / "run/trajectories/train.jsonl")
    assert status == 1 and "its tasks are of tau2-bench@1111111, other tasks" in said
    assert "1 are not rescored: their tasks differ" in said and "agree" not in said
    (file,) = export_run(run).values()
    assert file.results == results("later_revision"), "commit, tasks, basis, NL assertions: all of it"
    collection = collect([run.folder])
    assert collection.trials[0].plan["revision"] == "tau2-bench@1111111, other tasks"
    (score,) = find(collection).scores
    assert "missed action" in [mode.value for mode in failures(score.trial, score.subject).modes], "of its own task"


def test_an_export_gives_back_errors_usage_and_what_else_there_is(tmp_path: Path) -> None:
    data = changed("simulations.0.info", {"error": "disconnected", "error_type": "WorkerFailure"})
    data["simulations"][0] |= {"termination_reason": "infrastructure_error", "reward_info": None, "review": {"x": 1}}
    data["simulations"][0]["messages"][1]["usage"] = {"prompt_tokens": 3, "completion_tokens": 4}
    run = imported(tmp_path / "run", data)
    (trajectory,) = run.trajectories("train")
    assert trajectory.fault == Fault(FaultSource.ENGINE, "infrastructure_error: disconnected")
    (file,) = export_run(run).values()
    assert file.results == data and file.told == "1 tasks, 1 simulations"
    later = copy.deepcopy(data)
    later["simulations"][0] |= {"trial": 1, "termination_reason": "user_stop", "reward_info": {"reward": 1.0}}
    merged = merge([run, imported(tmp_path / "later", later)], "merged")
    (file,) = export_run(merged).values()
    assert file.results["simulations"] == [*data["simulations"], *later["simulations"]]
    assert file.results["info"] == data["info"] | {"num_trials": 2}


def test_a_task_that_cannot_be_set_up_here_leaves_doing_nothing_unknown(tmp_path: Path) -> None:
    call = {"env_type": "user", "func_name": "set_a_new_thing", "arguments": {}}
    run = imported(tmp_path / "run", changed("tasks.0.initial_state", {"initialization_actions": [call]}))
    assert run.results["splits"]["train"]["nothing"] == {"value": None, "missing": 1, "tasks": 1}
    assert "(do nothing)" in report_text(find(collect([run.folder]))) and "unknown" in run.table


def test_the_folder_of_later_revisions_is_read_and_checked(command: Command, tmp_path: Path) -> None:
    whole = results()
    two = copy.deepcopy(whole["simulations"][0]) | {"id": "t", "trial": 1}
    folder = tmp_path / "saved"
    (folder / "simulations").mkdir(parents=True)
    index = [{"id": "s", "task_id": "0", "trial": 0}, {"id": "t", "task_id": "0", "trial": 1}]
    told = {key: value for key, value in whole.items() if key != "simulations"} | {"simulation_index": index}
    write_json(folder / "results.json", told)
    write_json(folder / "simulations/s.json", whole["simulations"][0])
    status, _, said = command("import", folder, "--name", "short")
    assert status == 2 and "it lists 2 simulations, and the folder simulations/ holds 1" in said
    write_json(folder / "simulations/t.json", two)
    for number, path in enumerate((folder, folder / "results.json")):
        assert command("import", path, "--name", f"run{number}")[0] == 0
        assert Run(tmp_path / f"outputs/run{number}").results["splits"]["train"]["outcomes"] == {"airline/0": [1, 1]}
    moved = tmp_path / "alone.json"
    write_json(moved, told)
    status, _, said = command("import", moved, "--name", "moved")
    assert status == 2 and "kept in a folder simulations/ beside it, which is not there" in said
    assert "import saved --name NAME" in command_error(command, "replay", "saved")


def command_error(command: Command, *arguments: object) -> str:
    status, _, said = command(*arguments)
    assert status == 2 and said.count("\n") == 1
    return said


def test_a_bare_list_is_of_the_domain_that_its_tasks_and_calls_fit(command: Command, tmp_path: Path) -> None:
    listed = results("solo_agent_holds_user_tools")["simulations"]
    run = imported(tmp_path / "run", listed)
    assert read_plan(run.folder).user == {"kind": "solo"} and read_plan(run.folder).revision == "tau2-bench@unknown"
    assert "temperature unknown" in run.table and run.results["policy"] == "unknown"
    status, said, _ = command("replay", tmp_path / "run/trajectories/small.jsonl")
    assert status == 0 and "its tasks are of tau2-bench@unknown" in said and said.endswith("1 of 1 agree\n")
    (file,) = export_run(run).values()
    assert file.results["simulations"] == listed and file.results["info"]["git_commit"] is None
    write_json(tmp_path / "either.json", results()["simulations"])
    said = command_error(command, "import", "either.json", "--name", "either")
    assert "fit airline and retail; write {" in said
    assert "import either.json --name NAME" in command_error(command, "replay", "either.json")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (changed("simulations.0.task_id", "1"), "simulations of 1 tasks that are not among its tasks: airline/1"),
        (changed("tasks", []), "simulations of 1 tasks that are not among its tasks: airline/0"),
        (changed("info.num_trials", 10**12), "info.num_trials: Input should be less than or equal to 200000"),
        (changed("info.num_trials", 0), "info.num_trials: "),
        (changed("info.environment_info.domain_name", "taxi"), "no domain 'taxi'"),
        (changed("info.agent_info.llm_args.temperature", "hot"), "temperature: expected a number, got 'hot'"),
        (changed("info.agent_info.llm", "\ud800"), "info.agent_info.llm: "),
        (changed("simulations.0.messages", None), "simulations.0.messages: Field required"),
        (changed("simulations.0.messages.0", {"content": "Hi!"}), "simulations.0.messages.0: no 'role'"),
        (changed("simulations.0.reward_info.reward", 7), "simulations.0.reward_info.reward: "),
        (changed("simulations.0.termination_reason", "bored"), "simulations.0.termination: 'bored' is not one of"),
        (changed("simulations", {"a": 1}), "simulations: expected a list of objects"),
        (changed("tasks.0", {"id": "0"}), "tasks.0: no 'user_scenario'"),
        ([], "holds no simulations"),
        ("results", "expected an object or a list of simulations, got str"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(
    command: Command, tmp_path: Path, data: Any, why: str
) -> None:
    write_json(tmp_path / "bad.json", data)
    said = command_error(command, "import", "bad.json", "--name", "run")
    assert said.startswith("error: bad.json: cannot be imported: ") and why in said
    assert not (tmp_path / "outputs").exists()


def test_files_that_are_no_json_are_one_line(command: Command, tmp_path: Path) -> None:
    deep = json.dumps(changed("simulations.0.messages.0.raw_data", "DEEP"))
    for text, why in (
        (deep.replace('"DEEP"', "[" * 200 + "]" * 200).encode(), "nested more than 100 levels deep"),
        (deep.replace('"DEEP"', "[" * 100_000 + "]" * 100_000).encode(), "nested more than 100 levels deep"),
        (deep.replace('"DEEP"', "NaN").encode(), "NaN is no number"),
        (deep.replace('"DEEP"', "9" * 5000).encode(), "Exceeds the limit"),
        (deep[:-40].encode(), "not JSON: "),
        (deep.encode().replace(b"DEEP", b"\xff\xfe"), "can't decode"),
        (b"", "not JSON: "),
    ):
        (tmp_path / "bad.json").write_bytes(text)
        assert why in command_error(command, "import", "bad.json", "--name", "run")
    assert "gone.json" in command_error(command, "import", "gone.json", "--name", "run")
    assert not (tmp_path / "outputs").exists()


def places(data: Any, path: str = "") -> Iterator[str]:
    if path:
        yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("name", ["later_revision", "solo_agent_holds_user_tools"])
def test_a_wrong_value_anywhere_is_read_or_one_line(tmp_path: Path, name: str) -> None:
    file, read = tmp_path / "file.json", 0
    for path in places(results(name)):
        for value in (..., None, "x", -1.5, [1], {"a": True}):
            if path.isdigit() and value is ...:
                continue
            write_json(file, changed(path, value, name))
            try:
                read += bool(read_results(file).trajectories)
            except ConfigError as error:
                assert "\n" not in str(error)
    assert read > 100


def test_an_import_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("write_trajectories", "finish"):
        with monkeypatch.context() as patch:

            def full(*_: object, **__: object) -> None:
                raise OSError(28, "No space left on device", "trajectories/train.jsonl")

            patch.setattr(Run, method, full)
            with pytest.raises(OSError, match="No space left"):
                imported(tmp_path / "run", results())
        assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert imported(tmp_path / "run", results()).results
    with pytest.raises(ConfigError, match="already exists"):
        imported(tmp_path / "run", results())


# ---------------------------------------------------------------- exports of what was played here


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("outputs") / "played", "domain=telecom", "stage.greedy=false")


def test_two_exports_into_one_folder_are_refused_before_anything_is_written(
    played: Run, command: Command, tmp_path: Path
) -> None:
    assert command("export", played.folder, "--to", "there")[0] == 0
    before = (tmp_path / "there/telecom_test.json").read_bytes()
    said = command_error(command, "export", played.folder, "--to", "there")
    assert "there/telecom_test.json already exists" in said
    assert (tmp_path / "there/telecom_test.json").read_bytes() == before


def test_an_unfinished_evaluation_keeps_its_plan_and_a_fault_that_was_played_again_is_not_left_out(
    played: Run, tmp_path: Path
) -> None:
    unfinished = frozen(tmp_path / "unfinished", "domain=telecom", "stage.greedy=false")
    plan = read_plan(played.folder)
    plan.freeze(unfinished.folder)
    with pytest.raises(ConfigError, match="none of its episodes is played yet"):
        export_run(unfinished)
    first, second, *_ = played.trajectories("test")
    fault = Fault(FaultSource.USER, "gone")
    lost = [replace(t, stop=StopReason.FAULT, verdict=None, fault=fault) for t in (first, second)]
    with unfinished.write_trajectories("test") as lines:
        for trajectory in (*lost, first):
            lines.write(trajectory)
    (file,) = export_run(unfinished).values()
    assert file.results["info"]["num_trials"] == 2 and len(file.results["tasks"]) == 2
    assert (
        file.told == "2 tasks, 1 simulations; 1 ended in a fault and were left out; 2 of the plan's 4 were not played"
    )
    back = imported(tmp_path / "back", file.results)
    assert back.results["splits"]["test"]["measures"]["pass@1"]["missing"] == 3
    wanted = [[(place.task, place.sample) for place in p.files["test"]] for p in (read_plan(back.folder), plan)]
    assert wanted[0] == wanted[1]


def test_an_agents_own_fault_is_its_failure_in_an_export_too(played: Run, tmp_path: Path) -> None:
    first = next(played.trajectories("test"))
    own = replace(first, stop=StopReason.FAULT, verdict=None, fault=Fault(FaultSource.AGENT, "no words"))
    record = to_simulation(own, load_domain("telecom").record(own.task), "2026-01-01", "2026-01-01")
    assert record["termination_reason"] == "agent_error" and record["reward_info"]["reward"] == 0.0
    assert from_simulation(record, "telecom").fault == own.fault


# ---------------------------------------------------------------- lines of episodes


LINE = {
    "domain": "airline",
    "task_id": "0",
    "termination_reason": "max_steps",
    "reward_info": {"reward": 0.0},
    "messages": [
        {"role": "assistant", "content": "Hi! How can I help you today?"},
        {"role": "user", "content": "One moment."},
    ],
}


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (LINE, 0, "1 of 1 agree"),
        (LINE | {"reward_info": {"reward": 1.0}}, 1, "0 of 1 agree"),
        (LINE | {"termination_reason": "user_stop"}, 1, "0 of 1 agree"),
        (LINE | {"reward_info": None}, 0, "1 of 1 agree"),
        (LINE | {"verdict": {"reward": 0.0}}, 1, "0 of 1 agree"),
        ({key: value for key, value in LINE.items() if key != "termination_reason"}, 1, "0 of 1 agree"),
    ],
)
def test_a_line_in_tau2_benchs_own_words_is_judged_by_them(
    command: Command, tmp_path: Path, line: Results, status: int, said: str
) -> None:
    (tmp_path / "line.jsonl").write_text(json.dumps(line) + "\n")
    found = command("replay", "line.jsonl")
    assert (found[0], found[1].splitlines()[-1]) == (status, said)


def test_replay_never_writes_over_what_it_reads_and_bad_bytes_are_a_bad_line(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b'\n{"domain": "\xff"}\n{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}\n")
    before = path.read_bytes()
    assert "is one of the files to rescore" in command_error(command, "replay", path, "--out", "./line.jsonl")
    status, said, errors = command("replay", path)
    assert (status, said) == (1, "1 of 3 agree\n") and path.read_bytes() == before
    assert "line.jsonl:2: " in errors and "line.jsonl:3: nested more than 100" in errors


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.json")), ids=lambda path: path.stem)
def test_the_shared_cases_are_read_or_one_line(command: Command, path: Path) -> None:
    if path.stem.startswith(("sft", "line")):
        pytest.skip("no results file")
    status, said, error = command("import", path, "--name", "run")
    refused = {"dir_format_results", "simulation_without_task_one"}
    assert (status, error.count("\n")) == ((2, 1) if path.stem in refused else (0, 0)), said
