"""An evaluation counts what it lost, and puts no number where samples are missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from servers import Answer, Served, completion, refusal, serve

from tau2_exp.config import ConfigError
from tau2_exp.dispatch import launch
from tau2_exp.evaluation.plan import read_plan
from tau2_exp.interfaces import World
from tau2_exp.llm.client import has_price
from tau2_exp.rollouts import setting as setting
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage
from tau2_exp.stages.context import StageContext
from tau2_exp.types import FaultError, FaultSource, Task, Usage
from tau2_exp.users import make_user

ORACLE = ("stage=eval", "policy=oracle", "stage.samples_per_prompt=2", "rollout.fault_retries=1")


def lose(monkeypatch: pytest.MonkeyPatch, lost) -> None:
    """Let the user simulator of some tasks be out of reach."""

    class Unreachable:
        name, usage = "scripted", Usage()

        async def reply(self, heard):
            raise FaultError(FaultSource.USER, "the server is down")

    def user(task: Task, world: World, *rest):
        return Unreachable() if lost(task) else make_user(task, world, *rest)

    monkeypatch.setattr(setting, "make_user", user)


def test_a_fault_is_a_missing_sample_and_not_a_failed_one(make_run, monkeypatch) -> None:
    run = make_run(*ORACLE, "domain.eval_splits=[train,small]")
    train = {task.id for task in StageContext(run).tasks("train")}
    unlucky = sorted(train)[0]
    lose(monkeypatch, lambda task: task.id == unlucky)
    run_stage(run)
    splits = run.results["splits"]
    hit, spared = splits["train"], splits["small"]
    assert hit["outcomes"][f"telecom/{unlucky}"] == [] and hit["faults"] == {"user": 3}
    assert hit["measures"]["pass@1"] == {"value": None, "missing": 2, "tasks": 2}
    assert hit["measures"]["greedy pass@1"] == {"value": None, "missing": 1, "tasks": 2}
    assert spared["faults"] == {} and all(m["value"] == 1.0 for m in spared["measures"].values())
    assert hit["nothing"]["value"] == 0.0
    table = run.table.splitlines()
    (row,) = (line for line in table if "eval" not in line and " train " in line and "(do nothing)" not in line)
    assert row.count("2 samples missing") == 3 and "[" not in row
    assert "episodes lost to faults: user 3" in run.table
    lost = [t for t in run.trajectories("train") if not t.scored]
    assert [t.attempts for t in lost] == [2, 2]


def test_who_resumes_a_finished_evaluation_plays_again_what_it_lost(make_run, monkeypatch) -> None:
    run = make_run(*ORACLE, "domain.eval_splits=[train]")
    unlucky = sorted(task.id for task in StageContext(run).tasks("train"))[0]
    with monkeypatch.context() as broken:
        lose(broken, lambda task: task.id == unlucky)
        run_stage(run)
    run.record(hardware={"device": "cpu"})
    assert f"to retry the episodes lost to faults: resume={run.folder}" in run.table
    monkeypatch.setattr(launch, "run_attached", lambda runs: [run_stage(run) for run in runs] and 0)
    assert launch.launch([f"resume={run.folder}"], False, []) == 0
    again = Run.open(run.folder)
    assert again.results["splits"]["train"]["measures"]["pass@1"]["value"] == 1.0 and "resume=" not in again.table
    kept = [t for t in again.trajectories("train") if t.task != unlucky]
    assert len(kept) == 2, "what was scored was not played again"
    monkeypatch.setattr(launch, "run_attached", lambda runs: pytest.fail("nothing is lost any more"))
    assert launch.launch([f"resume={run.folder}"], False, []) == 0


def test_an_evaluation_of_which_nothing_is_left_fails(make_run, monkeypatch, capsys) -> None:
    run = make_run(*ORACLE)
    lose(monkeypatch, lambda task: True)
    with pytest.raises(RuntimeError, match="all 2 episodes ended in a fault; the first: the server is down"):
        run_stage(run)
    assert re.search(r"train-greedy: 2/2 \d+ s", capsys.readouterr().out), "where none was scored there is no reward"
    assert not (run.folder / "results.json").exists()


# ---------------------------------------------------------------- plan, budget, replies


def api(server: Served, *overrides: str) -> tuple[str, ...]:
    """Overrides of an evaluation of a local server, whose replies are kept as a hosted model's are."""
    asks = (
        "stage=eval",
        "policy=litellm",
        "policy.model=openai/local",
        f"policy.api_base={server.url}",
        "policy.api_key_env=null",
    )
    few = ("domain.eval_splits=[train]", "domain.max_steps=12", "stage.samples_per_prompt=2", "rollout.concurrency=1")
    return (*asks, *few, "policy.cache=true", *overrides)


def by_seed(asked: dict[str, Any]) -> Answer:
    """A model that samples: what it says follows from the seed and from how far the conversation is."""
    questions = ("Could you turn off airplane mode?", "Could you check the status bar?", "Could you restart the phone?")
    return completion(questions[(asked["seed"] + len(asked["messages"])) % 3])


def spent(run: Run) -> int:
    return run.results["spent"]["prompt_tokens"] + run.results["spent"]["completion_tokens"]


def test_a_plan_is_frozen_before_it_is_played_and_knows_nothing_of_the_agent(make_run, monkeypatch) -> None:
    run, other = make_run(*ORACLE), make_run(*ORACLE, "policy.oracle=gold", "rollout.concurrency=3")
    monkeypatch.setattr(StageContext, "collect", stop_here)
    for each in (run, other):
        with pytest.raises(KeyboardInterrupt):
            run_stage(each)
    plan = read_plan(run.folder)
    assert plan == read_plan(other.folder) and plan.digest == read_plan(other.folder).digest
    assert list(plan.files) == ["train-greedy", "train", "test-greedy", "test"]
    seeds = [place.seed for places in plan.files.values() for place in places]
    assert len(set(seeds)) == len(seeds) == 12
    another = make_run(*ORACLE, "seed=1")
    with pytest.raises(KeyboardInterrupt):
        run_stage(another)
    (another.folder / "plan.json").replace(run.folder / "plan.json")
    with pytest.raises(
        ConfigError, match=r"plan has changed: train-greedy: .* has seed \d+ and \d+; start a new evaluation"
    ):
        run_stage(run)


async def stop_here(*_: object) -> None:
    raise KeyboardInterrupt


PROMPT, WORDS = 6000, 30  # tokens of a reply of a server that tells them as real ones do


def at_length(asked: dict[str, Any]) -> Answer:
    return completion(by_seed(asked).body["choices"][0]["message"]["content"], usage=(PROMPT, WORDS))


def in_silence(asked: dict[str, Any]) -> Answer:
    """The same of a server that tells no usage."""
    return completion(by_seed(asked).body["choices"][0]["message"]["content"], usage=None)


@pytest.mark.parametrize("kept", [True, False], ids=["replies kept", "replies not kept"])
@pytest.mark.parametrize("at_once", [1, 6])
@pytest.mark.parametrize("reply", [at_length, in_silence])
def test_a_budget_holds_and_stops_a_run_cleanly_and_more_of_it_goes_on(
    make_run, kept: bool, at_once: int, reply: Callable[[dict[str, Any]], Answer]
) -> None:
    bound = 60_000
    with serve(reply) as server:
        free = make_run(*api(server, "policy.cache=false"))
        run_stage(free)
        full = len(server.asked)
        each = spent(free) / full
        settings = f"policy.cache={kept}".lower(), f"stage.budget_tokens={bound}", f"rollout.concurrency={at_once}"
        run = make_run(*api(server, *settings))
        with pytest.raises(ConfigError) as caught:
            run_stage(run)
        asked = len(server.asked) - full
        assert str(caught.value).startswith(f"stage.budget_tokens={bound}: reached: spent ")
        played = sum(1 for name in ("train", "train-greedy") for _ in run.trajectories(name))
        assert f"{played} of 6 episodes are done" in str(caught.value) and played < 6
        assert f"resume={run.folder} stage.budget_tokens=" in str(caught.value)
        assert bound - 3 * each < asked * each <= bound, "what is in flight is bounded, and the room is used"
        assert not (run.folder / "results.json").exists()
        run = Run.open(run.folder)
        run.refreeze(replace(run.config, stage=replace(run.config.stage, budget_tokens=10**6)))
        run_stage(run)
        assert len(server.asked) - full == full, "nothing was paid for twice"
    assert run.results["splits"] == free.results["splits"] | {
        "train": free.results["splits"]["train"] | {"policy_usage": run.results["splits"]["train"]["policy_usage"]}
    }
    assert spent(run) == spent(free) and run.results["spent"]["dollars"] is None


def test_a_budget_below_one_request_asks_for_nothing(make_run) -> None:
    with serve(at_length) as server:
        run = make_run(*api(server, "stage.budget_tokens=4000"))
        with pytest.raises(ConfigError, match=r"spent 0 tokens, \$0.0000; the next request may take [\d,]+ tokens, "):
            run_stage(run)
    assert server.asked == []


def test_what_was_asked_before_costs_nothing_and_samples_stay_apart(make_run) -> None:
    with serve(by_seed) as server:
        first, second = make_run(*api(server)), make_run(*api(server))
        run_stage(first)
        asked = len(server.asked)
        run_stage(second)
        assert len(server.asked) == asked
        third = make_run(*api(server, "seed=1"))
        run_stage(third)
        assert len(server.asked) > asked
    openings = {(a["seed"], a["temperature"]) for a in server.asked[:asked]}
    assert len(openings) == 6, "two tasks, each greedy once and sampled twice"
    usage = second.results["splits"]["train"]["policy_usage"]
    assert (usage["prompt_tokens"], usage["dollars"], usage["reused_tokens"]) == (0, 0.0, 18 * asked)
    assert spent(second) == 0 and spent(first) == 18 * asked
    assert second.results["splits"]["train"]["outcomes"] == first.results["splits"]["train"]["outcomes"]
    texts = [path.read_text() for path in (first.folder.parent / ".cache" / "replies").glob("*/*.json")]
    assert len(texts) == len(server.asked) and not any("messages" in text or "Bearer" in text for text in texts)


def test_a_cost_that_nobody_lists_is_unknown_and_bounds_nothing(make_run) -> None:
    with serve(by_seed) as server:
        run = make_run(*api(server, "domain.limit=1"))
        run_stage(run)
        assert run.results["spent"]["dollars"] is None
        bounded = make_run(*api(server, "stage.budget_dollars=1"))
        with pytest.raises(ConfigError, match=r"litellm lists no price for openai/local; use stage.budget_tokens"):
            run_stage(bounded)


def test_a_listed_price_is_added_up_and_bounds(make_run) -> None:
    reply = PROMPT * 0.40e-6 + WORDS * 1.60e-6  # dollars: the server's tokens at gpt-4.1-mini's prices
    with serve(at_length) as server:
        run = make_run(*api(server, "policy.model=gpt-4.1-mini", f"stage.budget_dollars={6.8 * reply}"))
        with pytest.raises(ConfigError, match=r"reached: spent 36,180 tokens, \$0.0147; .* 2 of 6 episodes are done"):
            run_stage(run)
        assert len(server.asked) == 6
    assert has_price("gpt-4.1-mini") and not has_price("openai/local")
    assert (Usage(1, 1, 0.02) + Usage(1, 1, 0.01)).dollars == pytest.approx(0.03)
    assert (Usage(1, 1, 0.02) + Usage(1, 1, None)).dollars is None


def test_resume_takes_a_new_budget_and_nothing_else(make_run, monkeypatch) -> None:
    run = make_run("stage=eval", "user=litellm", "policy=oracle", "stage.budget_tokens=5", "stage.temperature=0.5")
    monkeypatch.setattr(launch, "run_attached", lambda runs: 3)
    assert launch.launch([f"resume={run.folder}", "stage.budget_tokens=null", "stage.budget_dollars=2"], False, []) == 3
    stage = Run.open(run.folder).config.stage
    assert (stage.budget_tokens, stage.budget_dollars, stage.temperature) == (None, 2.0, 0.5)
    for wrong, why in (("stage.temperature=1", "frozen settings"), ("stage.budget_dollars=-1", "must be 0 or more")):
        with pytest.raises(ConfigError, match=why):
            launch.launch([f"resume={run.folder}", wrong], False, [])
    with pytest.raises(ConfigError, match="no unfinished evaluation"):
        launch.launch([f"resume={make_run('stage=demos').folder}", "stage.budget_tokens=9"], False, [])


# ---------------------------------------------------------------- before anything is played


def test_the_users_key_is_looked_for_before_play(make_run, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = make_run("stage=eval", "policy=oracle", "user=litellm")
    with pytest.raises(ConfigError, match=r"user.api_key_env: environment variable OPENAI_API_KEY is not set"):
        run_stage(run)
    assert not list((run.folder / "trajectories").glob("*")) and not (run.folder / "plan.json").exists()


def test_a_server_whose_context_is_smaller_than_the_first_prompt_is_one_clear_line(make_run) -> None:
    with serve(refusal(400, "the request exceeds the available context size"), by_seed) as server:
        run = make_run(*api(server, "domain.limit=1", "stage.samples_per_prompt=0"))
        with pytest.raises(ConfigError, match=r"the first prompt of telecom does not fit .*; give the model, or its"):
            run_stage(run)
        assert not (run.folder / "results.json").exists()
        run_stage(Run.open(run.folder))
    assert "greedy pass@1" in run.results["splits"]["train"]["measures"], "a server with more room goes on"


def test_turns_that_are_cut_are_counted_in_results_and_table(make_run) -> None:
    with serve(completion("I was about to", finish="length")) as server:
        run = make_run(*api(server, "domain.limit=1", "stage.samples_per_prompt=1"))
        run_stage(run)
    assert run.results["splits"]["train"]["truncated"] == {"turns": 6, "episodes": 2}
    assert "litellm train: turns cut at max_tokens: 6, in 2 episodes" in run.table


def test_samples_stay_apart_where_a_server_takes_no_seed(make_run) -> None:
    def unseeded(asked: dict[str, Any]) -> Answer:
        assert "seed" not in asked
        return completion("Could you turn off airplane mode?")

    with serve(unseeded) as server:
        run = make_run(*api(server, "policy.seed=false", "domain.limit=1", "stage.greedy=false"))
        run_stage(run)
    first, second = run.trajectories("train")
    assert first.policy_usage == second.policy_usage and first.policy_usage.reused_tokens == 0


def test_what_holds_conversations_is_private(make_run) -> None:
    with serve(by_seed) as server:
        run = make_run(*api(server, "domain.limit=1", "stage.samples_per_prompt=0", "stage.budget_tokens=1000000"))
        run_stage(run)
    folders = [run.folder, run.folder.parent / ".cache" / "replies"]
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"] * 2
