"""A sample is an episode over real HTTP: what the server sampled is in it id for id, and no fault ends the job."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from patience import PATIENCE
from servers import Answer, serve
from slime_contract import MakeRun, arguments

from tau2_exp.config import HardwareConfig
from tau2_exp.engines.slime.hooks import entry as hooks
from tau2_exp.engines.slime.hooks.samples import episode_of
from tau2_exp.engines.torch.checkpoint import load_model
from tau2_exp.engines.torch.scheduler import Scheduler
from tau2_exp.engines.torch.server import Service
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.engines.torch.wire import Request
from tau2_exp.runs.run import Run
from tau2_exp.types import FaultSource

PARAMS = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_new_tokens": 4096}
HARDWARE = HardwareConfig(name="cpu", threads=1)


class Recorder(Scheduler):
    """The torch engine behind /generate, which notes what it was asked and what it said (`meta_info`).

    Its draws follow from what is asked, and how often it was: a test meets the same episodes each time.
    """

    said: list[tuple[tuple[int, ...], dict[str, Any]]]
    times: collections.Counter[tuple[int, ...]]

    async def generate(self, request: Request) -> dict[str, Any]:
        asked = tuple(request.ids)
        self.times[asked] += 1
        seed = zlib.crc32(repr((asked, self.times[asked])).encode())
        made = await super().generate(dataclasses.replace(request, seed=seed))
        self.said.append((asked, made["meta_info"]))
        return made


@contextmanager
def torch_server(pupil: Run) -> Iterator[tuple[str, Recorder]]:
    """The half-trained model over HTTP, in a thread of this process."""
    path = pupil.folder / pupil.results["model"]
    model = load_model(path, HARDWARE).requires_grad_(False)
    scheduler = Recorder(model, load_tokenizer(path), HARDWARE, 8)
    scheduler.said, scheduler.times = [], collections.Counter()
    app = Service(scheduler, str(path), model.shape.vocab_size, model.shape.context, ()).app("", "127.0.0.1")
    app.user_middleware.clear()  # slime's own servers ask for no token
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", scheduler
    finally:
        server.should_exit = True
        thread.join()


def play(args: Any, samples: list[Any], evaluation: bool = False) -> list[Any]:
    async def together() -> list[Any]:
        calls = [hooks.generate(args, sample, dict(PARAMS), evaluation=evaluation) for sample in samples]
        return await asyncio.gather(*calls)

    return asyncio.run(together())


@pytest.fixture
def script(make_run: MakeRun, pupil: Run) -> Callable[[dict[str, Any]], Answer]:
    """What a server says that repeats one episode word for word, whoever asks."""
    if not _episode:
        import slime_contract

        run = make_run()
        with slime_contract.stand_in(), torch_server(pupil) as (url, scheduler):
            args = arguments(run, pupil, url)
            play(args, hooks.DataSource(args).get_samples(1)[0][:1])
            _episode.update(scheduler.said)
    return lambda asked: Answer({"text": "", "meta_info": _episode[tuple(asked["input_ids"])]})


_episode: dict[tuple[int, ...], dict[str, Any]] = {}


def said(tokens: list[list[Any]], finish: str = "stop") -> Answer:
    return Answer({"text": "", "meta_info": {"finish_reason": {"type": finish}, "output_token_logprobs": tokens}})


def well(sample: Any) -> None:
    """All that slime asserts of a sample before it trains on it."""
    assert isinstance(sample.response, str) and sample.tokens and sample.reward is not None
    assert 0 < sample.response_length < len(sample.tokens)
    assert len(sample.loss_mask) == len(sample.rollout_log_probs) == sample.response_length


def test_a_group_is_what_the_server_sampled(slime: SimpleNamespace, make_run: MakeRun, pupil: Run) -> None:
    run = make_run("reward=turn_level")
    with torch_server(pupil) as (url, scheduler):
        args = arguments(run, pupil, url)
        (group,) = hooks.DataSource(args).get_samples(1)
        assert [sample.prompt for sample in group] == [group[0].prompt] * 3
        assert play(args, group) == group
    turns = 0
    for sample in group:
        well(sample)
        episode = episode_of(sample)
        assert episode is not None and episode.reward is not None and sample.reward == episode.reward.shaped
        assert episode.trajectory.key == sample.prompt
        spoken = _spoken(sample)
        assert len(spoken) == len(episode.trajectory.turns)
        for place, made in spoken:
            asked = tuple(sample.tokens[:place])
            assert (asked, made) in scheduler_said(scheduler), (
                "these ids with these log-probabilities, after exactly these"
            )
        assert 0 <= sample.non_generation_time <= episode.trajectory.seconds
        turns += len(episode.trajectory.turns)
    assert turns == len(scheduler.said) and turns > 3 * 3, "each turn of each episode was asked for once"


def scheduler_said(scheduler: Recorder) -> list[tuple[tuple[int, ...], list[tuple[float, int]]]]:
    return [
        (asked, [(log_prob, token) for log_prob, token, *_ in made["output_token_logprobs"]])
        for asked, made in scheduler.said
    ]


def _spoken(sample: Any) -> list[tuple[int, list[tuple[float, int]]]]:
    """Where each stretch of mask 1 begins, and its log-probabilities and ids; elsewhere both are 0."""
    turns: list[tuple[int, list[tuple[float, int]]]] = []
    start, before = len(sample.tokens) - sample.response_length, 0
    for place, mask in enumerate(sample.loss_mask, start):
        log_prob = sample.rollout_log_probs[place - start]
        if mask and not before:
            turns.append((place, []))
        if mask:
            turns[-1][1].append((log_prob, sample.tokens[place]))
        else:
            assert log_prob == 0.0
        before = mask
    assert turns[0][0] == start, "the response begins where the agent first speaks"
    return turns


def test_a_weight_update_cuts_a_turn_and_the_turn_goes_on(slime: SimpleNamespace, make_run, pupil: Run, script) -> None:
    cut: list[list[Any]] = []

    def update(asked: dict[str, Any]) -> Answer:
        whole = script(asked).body["meta_info"]["output_token_logprobs"]
        cut.append(whole)
        return said(whole[:2], "abort")

    def rest(asked: dict[str, Any]) -> Answer:
        assert asked["input_ids"][-2:] == [token for _, token, *_ in cut[0][:2]]
        return said([[log_prob - 1.0, token, None] for log_prob, token, *_ in cut[0][2:]])

    with serve(update, rest, script) as server:
        args = arguments(make_run(), pupil, server.url)
        (sample,) = play(args, hooks.DataSource(args).get_samples(1)[0][:1])
    well(sample)
    (old, new) = (server.asked[i]["sampling_params"]["max_new_tokens"] for i in (0, 1))
    assert new == old - 2 and len(cut[0]) > 2
    log_probs = [p if place < 2 else p - 1.0 for place, (p, *_) in enumerate(cut[0])]
    assert sample.rollout_log_probs[: len(cut[0])] == log_probs, "each token as it was sampled"
    assert sample.status.name == "COMPLETED"


@pytest.mark.parametrize("trouble", [Answer(status=0), Answer(stall=PATIENCE), Answer("out of memory", 500)])
def test_a_server_in_trouble_costs_a_retry(slime: SimpleNamespace, make_run, pupil: Run, script, trouble) -> None:
    """A busy machine may well stall once more than this server does."""
    timeout = 1.0 if trouble.stall else PATIENCE
    with serve(script, script, trouble, script) as server:
        run = make_run("policy.retries=0", f"policy.timeout={timeout}", "rollout.fault_retries=50")
        args = arguments(run, pupil, server.url)
        (sample,) = play(args, hooks.DataSource(args).get_samples(1)[0][:1])
    well(sample)
    episode = episode_of(sample)
    assert episode is not None and episode.trajectory.scored
    attempts = episode.trajectory.attempts
    assert attempts == 2 or (trouble.stall and attempts > 2)
    assert sample.status.name == "COMPLETED" and not sample.remove_sample


def test_a_fault_leaves_the_group_and_not_the_job(slime: SimpleNamespace, make_run, pupil: Run, script) -> None:
    """One episode of three meets a broken server; the group is what the two others make of it."""
    run = make_run("policy.retries=0", "rollout.fault_retries=1")
    with serve(script) as server, serve(Answer("gone", 500)) as broken:
        args = arguments(run, pupil, server.url)
        (group,) = hooks.DataSource(args).get_samples(1)
        play(args, group[:2])
        play(arguments(run, pupil, broken.url), group[2:])
    lost = group[2]
    well(lost)
    assert lost.status.name == "FAILED" and lost.remove_sample and not any(lost.loss_mask)
    episode = episode_of(lost)
    assert episode is not None and episode.reward is None and episode.trajectory.attempts == 2
    assert episode.trajectory.fault is not None and episode.trajectory.fault.source is FaultSource.ENGINE
    group[1].metadata["tau2_exp"] = _failed(episode_of(group[1]))
    raw, advantages = hooks.post_process_rewards(args, group)
    assert raw[2] == advantages[2] == 0.0
    assert advantages[:2] == pytest.approx([1.0, -1.0]), "each less the other, over the rms of both"


def _failed(episode: Any) -> Any:
    reward = dataclasses.replace(episode.reward, outcome=0.0, shaped=episode.reward.shaped - 1.0)
    return dataclasses.replace(episode, reward=reward)


def test_whatever_goes_wrong_inside_is_one_sample(slime: SimpleNamespace, make_run, pupil: Run) -> None:
    args = arguments(make_run(), pupil)
    nowhere = slime.Sample(index=0, group_index=0, prompt="telecom/no such task")
    unknown = slime.Sample(index=1, group_index=0, prompt="", metadata={"domain": "moon", "task": "1"})
    without = slime.Sample(index=2, group_index=0, prompt="prompt")
    play(args, [nowhere, unknown])
    play(SimpleNamespace(), [without])
    for sample, reason in ((nowhere, "no such task"), (unknown, "moon/1"), (without, "tau2_exp_run")):
        well(sample)
        assert sample.status.name == "FAILED" and sample.remove_sample
        assert reason in episode_of(sample).trajectory.fault.message


def test_a_rollout_that_slime_ends_waits_for_no_episode(slime: SimpleNamespace, make_run, pupil: Run, script) -> None:
    slime.loop.aborted = True
    with serve(script, Answer(stall=PATIENCE)) as server:
        args = arguments(make_run(), pupil, server.url)
        source = hooks.DataSource(args)
        (group,) = source.get_samples(1)
        play(args, group[:1])
        (sample,) = group[:1]
        assert sample.status.name == "ABORTED" and sample.tokens == [] and sample.response_length == 0
        source.add_samples([group])
        slime.loop.aborted = False
        assert source.get_samples(1) == [group], "it is played again before anything new"


def test_an_evaluation_is_scored_by_outcome_and_teaches_nothing(slime, make_run, pupil: Run, script) -> None:
    with serve(script) as server:
        args = arguments(make_run(), pupil, server.url)
        source = hooks.DataSource(args)
        (group,) = source.get_samples(1)
        play(args, group, evaluation=True)
    assert [sample.reward for sample in group] == [episode_of(sample).trajectory.outcome for sample in group]
    assert source.context is not None and source.context.groups.step(0, drop=False) == []
