"""A worker told to save and end does so wherever it is, and another one goes on to the same end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from flows import read, unlike
from patience import wait_until

from tau2_exp.dispatch.worker import SAVED, work
from tau2_exp.runs.run import Run
from tau2_exp.stages.learner import CHECKPOINT, Learner

GRPO = ("stage=grpo", "stage.steps=3", "stage.prompts_per_step=1", "stage.samples_per_prompt=2", "stage.refill=0")
SETTINGS = (
    *GRPO,
    "stage.save_every=1000",
    "domain.max_steps=30",
    "rollout.unparsable_limit=2",
    "reward.unparsable_penalty=0.1",
)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def alone(make_run: Callable[..., Run], pupil: Run) -> Run:
    run = make_run(*SETTINGS, parent=pupil)
    assert work([run.folder]) == 0
    return run


@pytest.mark.parametrize(
    ("moment", "sent", "saved"),
    [
        ("open_step", signal.SIGUSR2, 2),  # it takes the step that it is in the middle of, then saves
        ("open_step", signal.SIGINT, 2),
        ("policy", signal.SIGTERM, 0),  # before the first step there is nothing to save
        ("advance", signal.SIGTERM, 2),
    ],
)
def test_it_goes_on_to_the_same_end(
    moment: str, sent: signal.Signals, saved: int, alone: Run, make_run: Callable[..., Run], pupil: Run
) -> None:
    run = make_run(*SETTINGS, parent=pupil)
    with pytest.MonkeyPatch.context() as patch:
        original, calls = getattr(Learner, moment), []

        def told(self: Learner, *arguments: object) -> object:
            done = original(self, *arguments)
            calls.append(moment)
            if len(calls) == max(saved, 1):
                os.kill(os.getpid(), sent)
            return done

        patch.setattr(Learner, moment, told)
        assert work([run.folder]) == SAVED
    state = run.folder / CHECKPOINT / "training.json"
    assert (read(state)["step"] if state.exists() else 0) == saved
    assert work([run.folder]) == 0
    assert unlike(alone.folder, run.folder) == []


def test_told_to_end_while_another_process_holds_the_run(make_run: Callable[..., Run], pupil: Run) -> None:
    run = make_run(*SETTINGS, parent=pupil)
    with run.claim():
        before = signal.getsignal(signal.SIGTERM)

        def tell() -> None:
            wait_until(lambda: signal.getsignal(signal.SIGTERM) != before, "the worker hears signals")
            os.kill(os.getpid(), signal.SIGTERM)

        teller = threading.Thread(target=tell)
        teller.start()
        assert work([run.folder]) == SAVED
        teller.join()
