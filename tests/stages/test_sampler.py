"""engine.sampler=sglang: a server over HTTP samples what engine=torch trains on, with the weights of every step."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from flows import lines
from patience import wait_until
from safetensors.torch import load_file

from tau2_exp.config import ConfigError, ModelConfig, PolicyConfig
from tau2_exp.engines.torch.backbone import LanguageModel
from tau2_exp.engines.torch.checkpoint import load_model, save_checkpoint
from tau2_exp.engines.torch.lora import Adapter
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.sampler import is_served
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.tokenizer import TextTokenizer, load_tokenizer
from tau2_exp.runs.run import Run
from tau2_exp.stages import eval, grpo, rft, run_stage
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.policy_server import policy_server
from tau2_exp.stages.served import ServedModel
from tau2_exp.types import Generation, Sampling
from tests.engines.test_generation import naive
from tests.serve.conftest import TOKEN, make_model, served
from tests.serve.conftest import tokenizer as tokenizer
from tests.serving import ROOT, alive
from tests.stages.conftest import MakeRun

STANDIN = Path(__file__).parent / "sampler"  # where SGLang would be
SILENT = ROOT / "tests/serve/standin"  # another, which starts at once and samples nothing
BY_SERVER = "engine.sampler=sglang"
STEP = "stage.prompts_per_step=2 stage.samples_per_prompt=4 stage.updates_per_step=2 stage.refill=0".split()
SIGNAL = ("stage.temperature=0.3", "stage.lr=3e-4", "rollout.unparsable_limit=6")  # in every step, from the pupil
GRPO = ("stage=grpo", "stage.steps=2", "stage.save_every=1", *STEP, *SIGNAL)
CLOSE = 1e-4  # nats, between one model's log-probabilities decoded by turns and computed in one pass


@pytest.fixture(scope="module", autouse=True)
def _sglang() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STANDIN))
        patch.setenv("PYTHONPATH", f"{STANDIN}:{ROOT}")
        yield


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def weights(run: Run) -> torch.Tensor:
    tensors = load_file(run.folder / run.results["model"] / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def apart(one: Run, other: Run, start: Run) -> float:
    """How far two runs are from one another, as a share of how far the one has come."""
    return float((weights(one) - weights(other)).norm() / (weights(one) - weights(start)).norm())


def said(run: Run, name: str) -> list[tuple[str, int, list[tuple[int, ...]]]]:
    """Ordered by episodes: the file has them in the order in which they ended."""
    return sorted(
        (t.key, t.sample, [turn.tokens.sampled for turn in t.turns if turn.tokens]) for t in run.trajectories(name)
    )


def mismatches(run: Run) -> list[float]:
    """Of the steps that learned something."""
    return [record["mismatch"] for record in run.metrics() if "mismatch" in record]


@pytest.fixture
def served_here(pupil: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages' server is one in this process, which takes no time to start."""
    folder = pupil.folder / pupil.results["model"]

    @contextmanager
    def server(context: StageContext) -> Iterator[None]:
        if not is_served(context.config):
            yield
            return
        model = load_model(folder, context.config.hardware)
        assert isinstance(model, CausalLM)
        with served(model, load_tokenizer(folder), context=context.config.model.context) as url:
            (context.run.folder / "servers").mkdir(exist_ok=True)
            (context.run.folder / "servers/policy.json").write_text(json.dumps({"url": url, "token": TOKEN}))
            yield
        (context.run.folder / "servers/policy.json").unlink()

    for stage in (grpo, rft, eval):
        monkeypatch.setattr(stage, "policy_server", server)


@pytest.mark.usefixtures("served_here")  # where it goes on
def test_training_by_a_server_is_that_in_process_also_where_it_is_killed(make_run: MakeRun, pupil: Run) -> None:
    """A seed draws the same from equal weights; what was killed leaves no server."""
    own = make_run(*GRPO, parent=pupil)
    run_stage(own)
    run = make_run(*GRPO, BY_SERVER, parent=pupil)
    worker = subprocess.Popen([sys.executable, "-m", "tau2_exp", "work", str(run.folder)], start_new_session=True)
    wait_until(lambda: lines(run.folder / "metrics.jsonl") >= 1 or worker.poll() is not None)
    told = json.loads((run.folder / "servers/policy.json").read_text())
    pids = [told["pid"], *children(told["pid"])]
    assert len(pids) == 2 and httpx.get(f"{told['url']}/model_info", trust_env=False).status_code == 401
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not any(map(alive, pids)))
    run_stage(Run.open(run.folder))
    assert [record["step"] for record in run.metrics()] == [1, 2]
    assert said(own, "rollouts") == said(run, "rollouts") and apart(own, run, pupil) < 0.01
    assert len(mismatches(run)) == 2 and max(mismatches(run)) < CLOSE
    assert all(record["mismatch_max"] >= record["mismatch"] > 0 for record in run.metrics())
    assert {record["mismatch_clipped"] for record in (*own.metrics(), *run.metrics())} == {0.0}
    assert own.manifest.address != run.manifest.address


def test_the_server_ends_with_the_stage_and_one_that_fails_says_why(
    make_run: MakeRun, pupil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{SILENT}:{ROOT}")
    model = tmp_path / "model"
    shutil.copytree(pupil.folder / pupil.results["model"], model)
    run = make_run(*GRPO, BY_SERVER, f"model.path={model}")
    (run.folder / "servers").mkdir()
    (run.folder / "servers/policy.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')  # a killed attempt's
    with policy_server(StageContext(run)):
        told = json.loads((run.folder / "servers/policy.json").read_text())
        pids = [told["pid"], *children(told["pid"])]
        (run.folder / "servers/weights").mkdir()
    assert len(pids) == 2 and not any(map(alive, pids))
    assert not list((run.folder / "servers").iterdir())
    (model / "behaviour.json").write_text('{"exits": 3}')
    with pytest.raises(RuntimeError, match=r"policy server ended with status 1; log: .*CUDA out of memory"):
        run_stage(run)


@pytest.mark.usefixtures("served_here")
def test_weights_that_do_not_arrive_show_as_mismatch(
    make_run: MakeRun, pupil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scheduler, "_load", lambda scheduler, path: None)
    run = make_run(*GRPO, BY_SERVER, parent=pupil)
    run_stage(run)
    first, second = mismatches(run)
    assert first < CLOSE and second > 100 * CLOSE


@pytest.mark.usefixtures("served_here")
@pytest.mark.parametrize(
    ("settings", "file"),
    [
        (("stage=eval", "domain.eval_splits=[train]", "stage.samples_per_prompt=0"), "train-greedy"),
        (("stage=rft", "stage.samples_per_prompt=2", "stage.keep_reward=0", "stage.epochs=1"), "samples"),
    ],
    ids=["eval", "rft"],
)
def test_a_server_says_what_the_engine_says(
    make_run: MakeRun, pupil: Run, settings: tuple[str, ...], file: str
) -> None:
    own, through = (make_run(*settings, *more, parent=pupil) for more in ((), (BY_SERVER,)))
    run_stage(own)
    run_stage(through)
    assert said(own, file) == said(through, file)
    assert own.manifest.address != through.manifest.address


# ---------------------------------------------------------------- the generator alone


TURN = Sampling(temperature=0.0, max_tokens=8)
CONTEXTS = ([5, 6, 7], [9, 8, 7, 6], [3, 3])


def agrees(model: LanguageModel, answers: Sequence[Generation]) -> bool:
    """Whether the model itself would have said this."""
    expected = [naive(model, list(ids), TURN, 0) for ids in CONTEXTS]
    return all(
        answer.ids == one.ids
        and torch.allclose(torch.tensor(answer.log_probs), torch.tensor(one.log_probs), atol=CLOSE)
        for answer, one in zip(answers, expected, strict=True)
    )


@pytest.mark.parametrize("rank", [None, 4], ids=["weights", "adapter"])
def test_a_server_gets_weights_when_they_change_and_when_it_lost_them(
    tokenizer: TextTokenizer, tmp_path: Path, rank: int | None
) -> None:
    """Those of an adapter are merged. A server that was started again has the weights that it began with."""
    training = make_model(tokenizer.size)
    save_checkpoint(tmp_path / "start", training, tokenizer)
    if rank:
        training.adapter = Adapter(training, ModelConfig(name="it", lora=rank), 3, "start")

    async def main(url: str) -> None:
        generator = ServedModel(PolicyConfig(url=url, retries=1), TOKEN, training, tmp_path / "weights")

        async def ask() -> list[Generation]:
            return await asyncio.gather(*(generator.generate(0, ids, TURN, 0) for ids in CONTEXTS))

        before = await ask()
        assert agrees(training, before)
        with torch.no_grad():
            for parameter in (p for p in training.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.2)
        after = await ask()
        assert agrees(training, after) and [a.ids for a in after] != [b.ids for b in before]
        assert {answer.version for answer in after} == {"2"}, "sent once, and no more"
        await generator.load(tmp_path / "start", "default")
        again = await ask()
        assert agrees(training, again) and {answer.version for answer in again} == {"3"}
        with pytest.raises(ConfigError, match="refuses the weights"):
            await generator.load(tmp_path / "nowhere", "4")
        await generator.aclose()

    with served(make_model(tokenizer.size), tokenizer) as url:
        asyncio.run(main(url))
