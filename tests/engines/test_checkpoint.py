"""A checkpoint stands whole or not at all, others can open it, and training goes on from it bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tau2_exp.config import ConfigError, EngineConfig, GrpoConfig, HardwareConfig
from tau2_exp.engines.torch.checkpoint import load_model, load_training, progress, save_checkpoint
from tau2_exp.engines.torch.model import new_model
from tau2_exp.engines.torch.tokenizer import train_tokenizer
from tau2_exp.engines.torch.trainer import Trainer
from tests.engines.conftest import SHAPE, lively, row

CPU = HardwareConfig(name="cpu")
TOKENIZER = train_tokenizer(["hello, world\n"], 300, ["<|im_start|>", "<|im_end|>"])
STEPS = [[row(n, seed=100 * step + n) for n in (12, 25, 18)] for step in range(6)]

SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from tests.engines.test_checkpoint import *
model = new_model(SHAPE, seed=0)
trainer = Trainer(model, GrpoConfig(kl=0.0), 10, EngineConfig())
for number in itertools.count():
    for parameter in model.parameters():
        parameter.data.fill_(float(number))
    save_checkpoint(Path(sys.argv[1]), model, TOKENIZER, trainer, {"number": number})
    print(number, flush=True)
"""


def trained(trainer: Trainer, steps: list) -> list[torch.Tensor]:
    for rows in steps:
        trainer.grpo_step(rows)
    return [p.detach().clone() for p in trainer.model.parameters()]


def make_trainer(model) -> Trainer:
    reference = lively(new_model(SHAPE, seed=1)).to(model.device, model.head.dtype)
    return Trainer(model, GrpoConfig(lr=1e-3, warmup=0.5), 6, EngineConfig(), reference)


def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, place):
    whole = trained(make_trainer(place.put(lively(new_model(SHAPE, seed=1)))), STEPS)
    first = make_trainer(place.put(lively(new_model(SHAPE, seed=1))))
    trained(first, STEPS[:3])
    save_checkpoint(tmp_path / "last", first.model, TOKENIZER, first, {"curriculum": {"a": [1, 0.5]}})
    second = make_trainer(load_model(tmp_path / "last", place.hardware))
    state = load_training(tmp_path / "last", place.device)
    second.load_state_dict(state.trainer)
    assert state.extra == {"curriculum": {"a": [1, 0.5]}} and second.step == 3
    assert place.repeated(trained(second, STEPS[3:]), whole)


def test_bfloat16_training_resumes_from_its_masters(tmp_path, place):
    def fresh() -> Trainer:
        return make_trainer(lively(new_model(SHAPE, seed=1)).to(place.device, torch.bfloat16))

    whole = trained(fresh(), STEPS[:4])
    first = fresh()
    trained(first, STEPS[:2])
    save_checkpoint(tmp_path / "last", first.model, TOKENIZER, first)
    second = fresh()
    second.load_state_dict(load_training(tmp_path / "last", place.device).trainer)
    assert place.repeated(trained(second, STEPS[2:4]), whole)


def test_transformers_opens_model_and_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "last", lively(new_model(SHAPE, seed=1)), TOKENIZER)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "last")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "last")
    assert model.config.rope_parameters["rope_theta"] == SHAPE.rope_base
    text = "<|im_start|>hello, world é\n<|im_end|>"
    assert tokenizer.encode(text, add_special_tokens=False) == TOKENIZER.encode(text)
    assert tokenizer.decode(TOKENIZER.encode(text)) == text
    assert load_training(tmp_path / "last") is None


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    folder = tmp_path / "last"
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        for kill in range(8):
            said = int(process.stdout.readline())
            time.sleep(0.003 * kill)
            process.send_signal(signal.SIGSTOP)  # the folder now looks as after a SIGKILL at this moment
            os.waitpid(process.pid, os.WUNTRACED)
            found = tmp_path / f"seen{kill}" / "last"
            for entry in tmp_path.glob("*last*"):
                _copy(entry, found.parent / entry.name)
            assert progress(found) == found
            number = json.loads((found / "training.json").read_text())["extra"]["number"]
            assert number >= said
            assert {float(p.detach().unique()) for p in load_model(found, CPU).parameters()} == {float(number)}
            assert load_training(found).trainer["step"] == 0
            process.send_signal(signal.SIGCONT)
    finally:
        process.kill()
        process.communicate()
    save_checkpoint(folder, new_model(SHAPE, seed=0), TOKENIZER, extra={})
    assert [entry.name for entry in tmp_path.iterdir() if "last" in entry.name] == ["last"]


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def test_a_checkpoint_that_was_moved_aside_is_found_again(tmp_path):
    save_checkpoint(tmp_path / "last", new_model(SHAPE, seed=0), TOKENIZER)
    (tmp_path / "last").rename(tmp_path / ".last.old")
    assert progress(tmp_path / "last") == tmp_path / "last"
    assert load_model(tmp_path / "last", CPU).shape == SHAPE
    assert progress(tmp_path / "never") is None


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path):
    save_checkpoint(tmp_path / "good", new_model(SHAPE, seed=0), TOKENIZER)
    config = json.loads((tmp_path / "good/config.json").read_text())

    def broken(name: str, **change) -> Path:
        _copy(tmp_path / "good", tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(config | change))
        return tmp_path / name

    (tmp_path / "empty").mkdir()
    for path, named in (
        (tmp_path / "empty", "config.json"),
        (broken("gpt2", model_type="gpt2"), "gpt2"),
        (broken("wide", hidden_size=64), "do not fit"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        with pytest.raises(ConfigError, match=named) as caught:
            load_model(path, CPU)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="not a device"):
        load_model(tmp_path / "good", HardwareConfig(name="odd", device="abacus"))
