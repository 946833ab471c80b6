"""Every shipped configuration composes; everything else is refused in one line that says what would do."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import make_checkpoint

from tau2_exp.compose.choices import CONF
from tau2_exp.compose.composition import chain_settings, compose_config, expand_sweep
from tau2_exp.compose.keys import GROUPS
from tau2_exp.config import STAGES, ConfigError, Document, EvalConfig, GrpoConfig, SftConfig, from_data, to_data
from tau2_exp.runs.address import content_address, pipeline_address

CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
NEEDS = {  # what a choice cannot do without
    "domain=mock": ["stage=eval"],
    "domain=custom": ["domain.provider=brought:House"],
    "reward=custom": ["reward.function=brought:score"],
    "curriculum=custom": ["curriculum.function=brought:curriculum"],
    "user=custom": ["user.function=brought:Silent"],
    "policy=custom": ["stage=eval", "policy.function=brought:Gold"],
    "logger=custom": ["logger.function=brought:Notes"],
    "stage=custom": ["stage.function=brought:stage"],
    "policy=sglang": ["stage=eval", "policy.url=http://127.0.0.1:30000", "model.path=some/model"],
    "policy=litellm": ["stage=eval", "policy.model=some-model"],
    "policy=oracle": ["stage=eval"],
    "model=hosted": ["stage=eval", "policy=litellm", "policy.model=some-model"],
    "hardware=gpu_2": ["engine=slime", "model=qwen3_8b"],
    "hardware=gpu_4": ["engine=slime", "model=qwen3_8b"],
    "hardware=gpu_8": ["engine=slime", "model=qwen3_8b"],
    "hardware=slurm_8gpu": ["engine=slime", "model=qwen3_8b"],
    "hardware=slurm_2x8gpu": ["engine=slime", "model=qwen3_8b"],
    "engine=slime": ["hardware=gpu_8", "model=qwen3_8b"],
    "user=local": ["engine=slime", "hardware=gpu_8", "model=qwen3_8b"],
    "model=hf": ["model.path=owner/model"],
    "model=smollm2": ["model.path=owner/model"],  # a launcher makes its folder
    "experiment=smollm2": ["model.path=owner/model"],
    "model=qwen3_30b_a3b_instruct_2507": ["engine=slime", "hardware=gpu_8"],
}


@pytest.mark.parametrize("choice", [*CHOICES, *(f"stage={name}" for name in STAGES)])
def test_every_shipped_choice_composes_and_survives_freezing(choice: str) -> None:
    config = compose_config([choice, *NEEDS.get(choice, [])])
    assert from_data(to_data(config)) == config
    assert type(config.stage) is STAGES[config.stage.name]


def test_a_hosted_model_has_limits_of_its_own_and_not_the_tiny_models() -> None:
    hosted = ["stage=eval", "policy=litellm", "policy.model=gpt-4.1"]
    for more in (["domain=retail", "user=litellm"], ["experiment=reference_eval"], ["model=qwen3_8b"]):
        config = compose_config([*hosted, *more])
        assert isinstance(config.stage, EvalConfig)
        assert (config.model.max_new_tokens, config.domain.max_steps, config.stage.temperature) == (1024, 100, 0.8)
        assert config.domain.document is Document.full
    given = compose_config([*hosted, "model.max_new_tokens=4096", "domain.max_steps=30", "stage.temperature=0"])
    assert (given.model.max_new_tokens, given.domain.max_steps) == (4096, 30)
    with pytest.raises(ConfigError, match=r"model=hosted: .* use model=tiny, or policy=litellm"):
        compose_config(["stage=sft", "model=hosted"])


def test_a_models_settings_come_with_the_model() -> None:
    tiny, real = compose_config(["stage=sft"]), compose_config(["stage=sft", "model=qwen3_0_6b"])
    assert isinstance(tiny.stage, SftConfig) and isinstance(real.stage, SftConfig)
    assert tiny.stage.lr > 100 * real.stage.lr
    assert (tiny.domain.document.value, real.domain.document.value) == ("none", "full")
    assert compose_config(["stage=sft", "stage.lr=0.5"]).stage.lr == 0.5
    assert compose_config(["stage.sft.lr=0.5"]).stage.sft.lr == 0.5


def test_the_chain_before_a_stage_ignores_the_stages_own_settings() -> None:
    own = compose_config(["stage=grpo", "stage.lr=0.5"])
    chain = chain_settings(["stage=grpo", "stage.lr=0.5"])
    assert isinstance(own.stage, GrpoConfig) and own.stage.lr == 0.5
    assert chain.sft == compose_config(["stage=sft"]).stage
    assert chain.rft == compose_config(["stage=rft"]).stage


REFUSED = [
    (["stage=sft", "stage.lrr=1"], "stage.lrr=1", "did you mean stage.lr?"),
    (["stage.lr=1"], "stage.lr=1", "stage.sft.lr"),
    (["modle=tiny"], "modle=tiny", "did you mean model?"),
    (["alpha=1"], "alpha=1", "did you mean reward.alpha?"),
    (["+extra=1"], "+extra=1", "no such setting"),
    (["++stage.extra=1"], "++stage.extra=1", "no such setting"),
    (["model=tine"], "model=tine", "did you mean tiny?"),
    (["experiment=smok"], "experiment=smok", "did you mean smoke?"),
    (["stage=sft", "stage.lr=high"], "stage.lr=high", "must be a number"),
    (["seed=1.5"], "seed=1.5", "must be a whole number"),
    ([f"seed={2**64}"], f"seed={2**64}", "must be below"),
    (["policy.api_key_env=sk-abcdef0123456789"], "policy.api_key_env: must be", "not the key"),
    (["user=litellm", "user.model=m", "+user.options.api_key=k"], "user.options: are read by user=custom alone", ""),
    (["stage=sft", "stage.beta2=1"], "stage.beta2=1.0", "must be below 1"),
    (["stage=sft", "stage.epsilon=0"], "stage.epsilon=0.0", "must be above 0"),
    (["stage=eval", "stage.temperature=1e-50"], "stage.temperature=1e-50", "must be 0 (greedy), or 1e-06 or more"),
    (["seed=null"], "seed=null", "must not be null"),
    (["reward.weights.action=1"], "reward.weights", "reward.domain_weights.telecom.action"),
    (["reward.domain_weights.telecom.action=-5"], "reward.domain_weights.telecom.action=-5.0", "must be 0 or more"),
    (["reward.kind=shape"], "reward.kind=shape", "did you mean shaped?"),
    (["domain.names=telecom"], "domain.names=telecom", "domain.names=[telecom]"),
    (["model.name=???"], "model.name=???", "has no value"),
    (["stage=eval", "model=hf"], "model=hf", "model.path=FOLDER"),
    (["~reward"], "~reward", "reward=…"),
    (["stage=null"], "stage=null", "give the name of one of the group's choices"),
    (["seed=1,2"], "seed=1,2", "-m runs each"),
    (["seed"], "seed", "key=value"),
    (["resume="], "resume=", "give one, or remove it"),
    (["stage=eval", "parent="], "parent=", "give one, or remove it"),
    (["name=[a"], "name=[a", "letters"),
    (["reward.multipliers.mock=1.0"], "reward.multipliers.mock=1.0", "+reward.multipliers.mock"),
    (["domain.train_split=test"], "domain.train_split=test", "train"),
    (["domain.eval_splits=[dev]"], "domain.eval_splits=dev", "development"),
    (["domain.names=[telecon]"], "domain.names=telecon", "did you mean telecom?"),
    (["domain=mock"], "domain=mock", "stage=eval"),
    (["domain=mock", "stage=eval", "domain.provider=inspect"], "domain.provider=inspect", "sierra"),
    (["domain=retail", "policy.oracle=workflow"], "policy.oracle=workflow", "policy.oracle=gold"),
    (["user=litellm", "user.model=null"], "user.model=null", "user.model=NAME"),
    (["user=litellm", "user.api_base=http://me:secret@host"], "user.api_base", "user.api_key_env"),
    (["stage=eval", "policy=litellm"], "policy.model=null", "policy.model=NAME"),
    (["stage=eval", "policy=sglang"], "policy.url=null", "policy.url=http"),
    (
        ["stage=grpo", "engine.sampler=sglang", "reward=branch", "stage.branch.choice=entropy"],
        "stage.branch.choice=entropy",
        "stage.branch.choice=random",
    ),
    (["stage=grpo", "policy=oracle"], "policy=oracle", "stage=eval"),
    (["hardware.dtype=bfloat16"], "hardware.dtype=bfloat16", "hardware=gpu_1"),
    (["hardware.device=gpu"], "hardware.device=gpu", "cuda"),
    (["reward.alpha=-0.1"], "reward.alpha=-0.1", "0 or more"),
    (["reward=outcome", "reward.alpha=0.1"], "reward.alpha=0.1", "reward=shaped"),
    (["reward=shaped", "reward.turn_discount=0.8"], "reward.turn_discount=0.8", "reward=turn_level"),
    (["stage=grpo", "stage.temperature=0"], "stage.temperature=0", "0.7"),
    (["stage=grpo", "stage.sampled_tokens=9"], "stage.sampled_tokens=9", "stage.prompts_per_step=null"),
    (["stage=grpo", "stage.prompts_per_step=null"], "stage.prompts_per_step=null", "stage.sampled_tokens"),
    (["stage=grpo", "stage.eval.every=2", "domain=retail"], "stage.eval.split=development", "train, test, base"),
    (["stage=grpo", "stage.branch.points=3"], "stage.branch.points=3", "reward=branch only"),
    (["stage=grpo", "reward=branch", "stage.branch.threshold=1"], "stage.branch.threshold=1", "choice=entropy"),
    (["stage=grpo", "reward=branch", "reward.alpha=0.5"], "reward.alpha=0.5", "alpha 0"),
    (["reward=branch", "reward.credit=brought:by_turn"], "reward.credit=brought:by_turn", "use another reward"),
    (
        ["reward=branch", "user=custom", "user.function=brought:Silent"],
        "user.function=brought:Silent",
        "fork(world, seed)",
    ),
    (["stage=grpo", "stage.samples_per_prompt=1"], "stage.samples_per_prompt=1", "2 or more"),
    (["stage.grpo.samples_per_prompt=1"], "stage.grpo.samples_per_prompt=1", "2 or more"),
    (["stage.stages=[rft,sft]"], "stage.stages=[rft,sft]", "in this order"),
    (["stage.stages=[grpo]"], "stage.stages=[grpo]", "parent=RUN"),
    (["stage=sft", "stage.data=missing.jsonl"], "stage.data=missing.jsonl", "no such file"),
    (["model.path=./missing"], "model.path=./missing", "config.json"),
    (["engine.name=slime"], "engine.name=slime", "engine=torch"),
    (["hardware=slurm_cpu", "hardware.slurm.minutes=2"], "hardware.slurm.minutes=2", "raise minutes"),
    (
        ["hardware=slurm_cpu", "hardware.slurm.setup=['export MY_KEY=secret']"],
        "hardware.slurm.setup",
        "export it where you start the run",
    ),
    (["model.max_new_tokens=4096"], "model.max_new_tokens=4096", "model.context=2048"),
    (["stage=sft", "model.lora_alpha=8"], "model.lora_alpha", "model.lora=RANK"),
    (["stage=sft", "model.lora=0"], "model.lora=0", "must be above 0"),
    (["stage=grpo", "model.lora=8", "model.lora_targets=[q_prj]"], "model.lora_targets=[q_prj]", "q_proj"),
    (
        ["stage=grpo", "model=qwen3_8b", "engine=slime", "hardware=gpu_8", "model.lora=8"],
        "model.lora=8",
        "engine=torch",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "given", "mend"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_cannot_work_is_refused_in_one_line(overrides: list[str], given: str, mend: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config(overrides)
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(given)
    assert mend in line
    assert "secret" not in line


def test_lora_without_peft_is_refused_where_a_model_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tau2_exp.engines.torch.rules.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^model\.lora=8: needs peft.*pip install 'tau2_exp\[hf\]'$"):
        compose_config(["stage=sft", "model.lora=8"])
    assert compose_config(["stage=eval", "model.lora=8"]).model.lora == 8


def test_a_typo_in_an_experiment_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nreward:\n  alfa: 1\n")
    with pytest.raises(ConfigError, match=r"conf/experiment/mine\.yaml: reward\.alfa: .* did you mean reward\.alpha"):
        compose_config([f"hydra.searchpath=[{tmp_path}]", "experiment=mine"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["stage=grpo", "stage.lrr=1"],
        ["stage=grpo", "stage.temperature=0"],
        ["parent=nowhere", "stage=grpo"],
        ["stage=grpo", "-m", "stage.lrr=0,1"],
        ["resume="],
        ["-m", "seed=0,1", "parent="],
    ],
)
def test_the_command_ends_with_status_2_before_anything_starts(
    arguments: list[str], run_py: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_py(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_is_the_product_of_what_is_swept() -> None:
    jobs = expand_sweep(["stage=grpo", "reward.alpha=0,0.1", "seed=0,1,2", "domain.eval_splits=[train,test]"])
    assert len(jobs) == 6
    assert jobs[0] == ["stage=grpo", "reward.alpha=0", "seed=0", "domain.eval_splits=[train,test]"]


def test_an_address_changes_with_what_determines_the_result_and_with_nothing_else() -> None:
    frozen = {stage: to_data(compose_config([f"stage={stage}"])) for stage in ("demos", "sft", "rft", "grpo", "eval")}

    def address(stage: str, key: str = "seed", value: object = 0) -> str:
        data = copy.deepcopy(frozen[stage])
        *sections, name = key.split(".")
        section = data
        for part in sections:
            section = section[part]
        section[name] = value
        return content_address(from_data(data), "parent")

    for stage in frozen:
        assert address(stage) != address(stage, "seed", 1)
        for key, value in (
            ("logger.kind", "wandb"),
            ("outputs", "x"),
            ("name", "x"),
            ("hardware.jobs", 3),
            ("dry_run", True),
        ):
            assert address(stage) == address(stage, key, value)
    for key, value in (("alpha", 0.5), ("kind", "outcome"), ("multipliers", {"telecom": 1.0})):
        assert address("rft") == address("rft", f"reward.{key}", value)
        assert address("grpo") != address("grpo", f"reward.{key}", value)
    assert address("rft") == address("rft", "curriculum.kind", "adaptive")
    assert address("grpo") != address("grpo", "curriculum.kind", "adaptive")
    assert address("rft") != address("rft", "reward.weights.action", 0.1)
    assert address("grpo") == address("grpo", "domain.eval_splits", ["test"])
    assert address("eval") != address("eval", "domain.eval_splits", ["test"])
    frozen["eval"]["policy"] |= {"kind": "litellm", "model": "some/model"}
    assert address("eval") != address("eval", "model.max_new_tokens", 7)
    assert address("eval") == address("eval", "model.layers", 7)
    frozen["eval"]["policy"]["kind"] = "model"
    assert address("sft") == address("sft", "model.lora_alpha", 8) != address("sft", "model.lora", 8)
    assert address("eval") == address("eval", "model.lora", 8), "it is evaluated merged"
    assert address("sft") == address("sft", "stage.save_every", 3)
    assert address("sft") != address("sft", "stage.lr", 3.0)
    assert address("grpo") == address("grpo", "engine.slime.asynchronous", True)
    for stage in frozen:
        sampled = address(stage) != address(stage, "engine.sampler", "sglang")
        assert sampled == (stage in ("rft", "grpo", "eval"))
        assert address(stage) == address(stage, "engine.sampler_memory", 0.5)
    for data in frozen.values():
        data["engine"]["name"] = "slime"
    for key, value in (("asynchronous", True), ("flags", {"balance-data": False})):
        assert address("grpo") != address("grpo", f"engine.slime.{key}", value)
        assert address("eval") == address("eval", f"engine.slime.{key}", value)
    assert address("grpo") == address("grpo", "engine.slime.tensor_parallel", 4)


def test_an_address_follows_its_parents_and_the_content_of_its_data(tmp_path: Path) -> None:
    config = compose_config(["stage=grpo"])
    assert content_address(config, "a") != content_address(config, "b")
    assert pipeline_address(["a", "b"]) != pipeline_address(["b", "a"])
    data = tmp_path / "data.jsonl"
    sft = dataclasses.replace(config, stage=SftConfig(data=str(data)))
    data.write_text("{}\n")
    before = content_address(sft, None)
    data.write_text("{}\n{}\n")
    assert content_address(sft, None) != before


def test_an_address_follows_a_local_model_that_is_trained_anew_in_place(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    config = compose_config(["stage=eval", f"model.path={tmp_path}"])
    before = content_address(config, None)
    assert content_address(config, None) == before
    weights.write_bytes(b"other")
    assert content_address(config, None) != before
