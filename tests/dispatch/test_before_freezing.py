"""What cannot work is told before a run folder is made, the same in a dry run; and a run goes on from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tau2_exp.config import ConfigError
from tau2_exp.dispatch.launch import launch
from tau2_exp.engines.torch import choice, hub
from tau2_exp.runs.run import Run, RunStatus

RUN_PY = Path(__file__).resolve().parents[2] / "run.py"
ONE_TASK = (
    "stage=eval policy=oracle domain.limit=1 domain.eval_splits=[test] stage.samples_per_prompt=1 stage.greedy=false"
).split()
CONVERSATION = '{"prompt": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}\n'
SFT = ["stage=sft", "stage.data=x.jsonl", "stage.epochs=1", "stage.batch_size=1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, on a machine without a GPU."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "here"


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        launch(overrides, False, ["run.py"])
    assert len(str(refused.value).splitlines()) == 1
    assert not Path("outputs").exists()
    return str(refused.value)


def run_py(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RUN_PY, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("dry_run", [[], ["dry_run=true"], ["dry_run=json"]], ids=str)
def test_names_are_refused_in_a_dry_run_as_in_a_real_one(dry_run: list[str]) -> None:
    for name in ('"a b ü"', "'a\nb'"):
        assert "must be a name of at most 100 of the letters" in refusal(*ONE_TASK, f"name={name}", *dry_run)


@pytest.mark.parametrize("dry_run", [[], ["dry_run=true"]], ids=str)
@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('{"prompt": 3}\n', "x.jsonl:1: prompt: expected a list of messages, got int"),
        (CONVERSATION + "{\n", "x.jsonl:2: "),
        ("", "holds no conversation"),
        (
            '{"key": "k", "domain": "retail", "task": "1", "turns": []}\n',
            "x.jsonl:1: ",
        ),
    ],
    ids=["prompt", "torn", "empty", "trajectory"],
)
def test_bad_lines_of_a_file_of_conversations(folder: Path, lines: str, told: str, dry_run: list[str]) -> None:
    (folder / "x.jsonl").write_text(lines)
    line = refusal(*SFT, *dry_run)
    assert line.startswith("stage.data: ") and told in line


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('{"model_type": "vit"}', "model_type 'vit' is no causal language model of transformers"),
        ('{"model_type": "mine"}', "model_type is 'mine', which is none of qwen3, "),
        ('{"model_type": "t5", "is_encoder_decoder": true}', "takes causal language models, which have no encoder"),
        ('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}', "architectures is ['BertForMaskedLM']"),
        ('{"model_type": "qwen3"}', "config.json has no vocab_size"),
        ('{"model_type": "gemma3_text"}', "holds no weights (model.safetensors)"),
        ('{"model_type": "gemma3_text", "max_position_embeddings": 512}', "was made for 512 tokens; lower it"),
        ("{", "Expecting property name"),
    ],
)
def test_a_model_that_the_engine_cannot_load(folder: Path, config: str, told: str) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text(config)
    assert told in refusal("stage=eval", "model.path=m")
    assert told in refusal("stage=grpo", "model.path=./m", "parent=model", "dry_run=true")


def test_a_model_without_a_tokenizer(folder: Path) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text('{"model_type": "gemma3_text"}')
    (folder / "m" / "pytorch_model.bin").touch()
    assert refusal("stage=eval", "model.path=m", "dry_run=true") == "model.path=m: holds no tokenizer.json"


def test_a_backbone_that_is_not_to_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text('{"model_type": "gemma3_text"}')
    eval_of = ("stage=eval", "model.path=m", "dry_run=true")
    assert "remove engine.backbone=own" in refusal(*eval_of, "engine.backbone=own")
    assert "give model.path=FOLDER" in refusal("engine.backbone=transformers")
    assert refusal("engine=slime", "hardware=gpu_2", "engine.backbone=own").endswith("is for engine=torch; remove it")
    monkeypatch.setattr(choice.importlib.metadata, "version", lambda name: "4.57.1")
    assert "needs a newer transformers than 4.57.1: pip install" in refusal(*eval_of)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    assert "transformers, which may know model_type 'gemma3_text', is not installed" in refusal(*eval_of)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx.Response(401), "the hub has no such public model"),
        (httpx.Response(404), "the hub has no config.json of that name"),
        (httpx.Response(200, text='{"model_type": "vit"}'), "'vit' is no causal language model"),
    ],
)
def test_a_hub_is_asked_for_the_config_alone(folder: Path, monkeypatch, answer: httpx.Response, told: str) -> None:
    asked: list[str] = []
    monkeypatch.setattr(httpx, "get", lambda url, **_: asked.append(url) or answer)
    hub._ask.cache_clear()
    assert told in refusal("stage=grpo", "model=hf", "model.path=owner/name", "dry_run=true")
    assert len(asked) == 1 and asked[0].endswith("owner/name/resolve/main/config.json")


def test_a_hub_that_does_not_answer_stops_a_run_and_no_plan(folder: Path, monkeypatch, capsys) -> None:
    def silent(url: str, **_: object) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "get", silent)
    hub._ask.cache_clear()
    grpo = ["stage=grpo", "model=hf", "model.path=owner/name"]
    assert refusal(*grpo) == "model.path=owner/name: is not on this machine, and the hub did not answer (no route)"
    assert launch([*grpo, "dry_run=true"], False, ["run.py"]) == 0
    assert "# note: model.path=owner/name: is not on this machine" in capsys.readouterr().out


def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal("hardware=gpu_1") == "hardware.device=cuda: there is no GPU here; use hardware=cpu"
    assert "hardware.gpus=2: nvidia-smi lists" in refusal("engine=slime", "hardware=gpu_2", "model=qwen3_8b")
    assert launch(["hardware=gpu_1", "dry_run=true"], False, ["run.py"]) == 0  # for another machine
    capsys.readouterr()


def test_a_sampler_that_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan, which may be for another machine, tells what would be started."""
    told = "engine.sampler=sglang: SGLang is not installed here; install it, or remove the setting"
    assert refusal("engine.sampler=sglang") == refusal("stage=rft", "engine.sampler=sglang") == told
    on_gpu = ("hardware=gpu_1", "model=qwen3_0_6b", "parent=model", "engine.sampler_memory=0.3")
    assert launch(["stage=grpo", *on_gpu, "engine.sampler=sglang", "dry_run=true"], False, ["run.py"]) == 0
    said = capsys.readouterr().out
    assert "# sampler of grpo: python -m tau2_exp serve Qwen/Qwen3-0.6B --engine sglang" in said
    assert "--gpus 0 --memory-fraction 0.3 '--flags=--dtype bfloat16'" in said


def test_an_oracle_needs_no_gpu(folder: Path) -> None:
    done = run_py(*ONE_TASK, "hardware=gpu_1", "hardware.dtype=float32", cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("outputs", ["FILE", "FILE/below"])
def test_outputs_that_cannot_hold_a_folder_end_in_one_line(folder: Path, outputs: str) -> None:
    (folder / "FILE").touch()
    done = run_py(*ONE_TASK, f"outputs={outputs}", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: FILE") and len(done.stderr.splitlines()) == 1


def test_resume_is_read_as_every_other_setting(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    done = run_py(*ONE_TASK, "name='a=1'", 'outputs="~/runs"', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert Run.open(folder / "runs" / "a=1").status is RunStatus.finished and not (folder / "~").exists()
    assert run_py("resume='runs/a=1'", cwd=folder).returncode == 0
    assert run_py('resume="~/runs/a=1"', cwd=tmp_path).returncode == 0
    told = run_py("resume=runs/a=1", cwd=folder).stderr
    assert told == "error: resume=runs/a=1: cannot be read; put the value in quotes: resume='\"runs/a=1\"'\n"


def test_a_run_goes_on_from_another_folder_and_says_how_to_train_longer(folder: Path, tmp_path: Path) -> None:
    (folder / "x.jsonl").write_text(CONVERSATION)
    frozen = subprocess.run(
        [sys.executable, "-m", "tau2_exp", "freeze", *SFT, "name=mine"], cwd=folder, capture_output=True, text=True
    )
    assert frozen.returncode == 0, frozen.stderr
    data = json.loads((folder / "outputs" / "mine" / "config.json").read_text())["stage"]["data"]
    assert data == str(folder / "x.jsonl")
    done = run_py("resume=here/outputs/mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = run_py("resume=here/outputs/mine", "stage.epochs=9", cwd=tmp_path).stderr
    command = "stage=sft model=tiny parent=here/outputs/mine stage.epochs=9"
    assert told.startswith("error: stage.epochs=9: resume=here/outputs/mine uses") and told.endswith(f"{command}\n")
    again = run_py(*command.split(), "dry_run=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
