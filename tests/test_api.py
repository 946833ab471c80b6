"""`from tau2_exp import api`: what a notebook does, it does as the command line would."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_imports import HEAVY

from tau2_exp import api
from tau2_exp.compose.carried import carried
from tau2_exp.compose.choices import CONF
from tau2_exp.compose.composition import chain_of, chain_settings
from tau2_exp.dispatch.launch import prepare
from tau2_exp.evaluation.replay import replay_files

SETTINGS = ["stage=sft", "domain.limit=1", "stage.epochs=2"]
SECONDS = 120.0


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def sft(outputs: Path) -> api.Run:
    return api.launch(api.compose([*SETTINGS, f"outputs={outputs}"]))


def test_it_imports_nothing_heavy() -> None:
    code = f"import sys; from tau2_exp import api; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_is_made_with_what_it_depends_on(sft: api.Run) -> None:
    assert sft.status is api.RunStatus.finished and sft.config.stage.name == "sft"
    assert [parent.stage for parent in sft.parents] == ["demos"]
    assert [record["step"] for record in sft.metrics()] == [1, 2] and sft.results["steps"] == 2
    assert sft.checkpoint == sft.folder / "checkpoints/last" and sft.parents[0].checkpoint is None
    (episode,) = sft.parents[0].trajectories()
    assert isinstance(episode, api.Trajectory) and episode.outcome == 1 and sft.parents[0].recorded == ("demos",)


def test_the_command_line_finds_what_it_made_and_it_finds_its_own(sft: api.Run, outputs: Path) -> None:
    config = api.compose([*SETTINGS, f"outputs={outputs}"])
    found = prepare(config, lambda: chain_settings(SETTINGS), [])
    assert found.run is not None and found.run.folder == sft.folder and not any(step.fresh for step in found.lineage())
    assert api.launch(config).folder == sft.folder == api.load_run(sft.folder).folder


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_the_chain_of_a_configuration_is_that_of_its_overrides(experiment: str) -> None:
    overrides = [f"experiment={experiment}"]
    if experiment == "smollm2":  # a launcher makes its model's folder
        overrides.append("model.path=HuggingFaceTB/SmolLM2-135M-Instruct")
    assert chain_of(api.compose(overrides)) == chain_settings(overrides)


def test_a_run_is_evaluated_and_its_episodes_are_judged_again(sft: api.Run, capfd: pytest.CaptureFixture[str]) -> None:
    evaluation = api.evaluate(sft, ["domain.limit=1", "stage.samples_per_prompt=1", "domain.eval_splits=[train]"])
    assert evaluation.parent is not None and evaluation.parent.folder == sft.folder
    assert evaluation.folder.parent == sft.folder.parent, "it lies beside the run"
    episodes = list(evaluation.trajectories())
    assert len(episodes) == 2 and list(evaluation.trajectories("train")) == [episodes[0]]
    assert [again.differences for again in api.replay(episodes)] == [[], []]
    assert api.replay([replace(episodes[0], verdict=api.Verdict(reward=1.0))])[0].differences
    shaped = api.score(episodes[0], api.compose(["reward=turn_level"]).reward)
    assert len(shaped.progress) == len(episodes[0].turns)
    assert "sft" in api.report(evaluation.folder)


def test_a_run_of_ones_own_domain_is_evaluated_and_judged_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house = ["domain=custom", "domain.provider=brought:House", "domain.limit=2", "domain.max_steps=6"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")  # for the worker
    run = api.launch(api.compose(["stage=sft", "stage.epochs=1", "seed=3", *house, f"outputs={tmp_path}"]))
    evaluation = api.evaluate(run, ["domain.eval_splits=[train]", "stage.samples_per_prompt=1"])
    ours, theirs = evaluation.config, run.config
    assert ours.domain == replace(theirs.domain, eval_splits=["train"]) and ours.seed == 3
    assert (ours.model, ours.user, ours.policy, ours.rollout) == (
        theirs.model,
        theirs.user,
        theirs.policy,
        theirs.rollout,
    )

    episodes = list(evaluation.trajectories())
    assert {one.domain for one in episodes} == {"house"}
    assert not any(again.differences for again in api.replay(episodes, provider=theirs.domain.provider))
    with pytest.raises(api.ConfigError, match=r"no domain 'house'.*give provider=run\.config\.domain\.provider"):
        api.replay(episodes)

    file = evaluation.folder / "trajectories/train.jsonl"
    assert replay_files([file]) == 0
    elsewhere = tmp_path / "train.jsonl"
    elsewhere.write_bytes(file.read_bytes())
    capsys.readouterr()
    assert replay_files([elsewhere]) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "give --provider module:name" in told.err and "0 of 2 agree" in told.out


def test_settings_are_carried_whole_and_a_group_that_is_chosen_anew_is_not() -> None:
    own = ["user=custom", "user.function=brought:Silent", "+user.options.tone='a, b'", "+user.options.list=[1,x]"]
    config = api.compose([*own, "domain=retail", "domain.limit=3", "rollout.unparsable_limit=5", "model.context=9000"])
    assert api.compose(carried(config, [])) == config
    plain = api.compose([])
    changed = api.compose(carried(config, ["user=scripted", "domain=airline", "model.context=8000"]))
    assert changed.user == plain.user and changed.domain == api.compose(["domain=airline"]).domain
    assert changed.model.context == 8000 and changed.rollout == config.rollout


def test_a_run_goes_on_beside_this_process(outputs: Path) -> None:
    run = api.launch(api.compose(["stage=demos", "domain.limit=2", f"outputs={outputs}"]), wait=False)
    deadline = time.monotonic() + SECONDS
    while run.status is not api.RunStatus.finished and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status is api.RunStatus.finished and run.results
    assert "demos" in (run.folder / "logs/worker.log").read_text()


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    config = api.compose(["stage=demos", f"outputs={tmp_path}"])
    with pytest.raises(api.ConfigError, match=r"rollout\.concurrency=0"):
        api.launch(replace(config, rollout=replace(config.rollout, concurrency=0)))
    with pytest.raises(api.ConfigError, match="dry_run=True: is for the command line"):
        api.launch(replace(config, dry_run=True))
    with pytest.raises(api.ConfigError, match="no run folder"):
        api.load_run(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("tau2") is not None, reason="sierra's tau2 is installed; the run would not fail")
def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(api.RunFailed, match=f"{tmp_path}.*tau2"):
        api.launch(api.compose(["stage=demos", "domain.provider=sierra", f"outputs={tmp_path}"]))
