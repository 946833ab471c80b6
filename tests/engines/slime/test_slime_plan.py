"""From settings to commands: what slime's parser takes, and what is refused before it sees it."""

from __future__ import annotations

import argparse
import copy
import json
import re
from dataclasses import replace
from enum import Enum
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.__main__ import make_parser
from tau2_exp.compose.check import check
from tau2_exp.compose.composition import compose_config
from tau2_exp.config import STAGES, Config, ConfigError, GrpoConfig, RewardKind, TrainingConfig
from tau2_exp.engines.slime.cluster.execute import left_to_do
from tau2_exp.engines.slime.plan.flags import FACTS, known_flags
from tau2_exp.engines.slime.plan.layout import make_layout
from tau2_exp.engines.slime.plan.memory import OFFLOAD, parameters
from tau2_exp.engines.slime.plan.plan import TAU2_EXP, make_plan
from tau2_exp.system.commands import Command
from tests.engines.slime import golden

SHARED = Path(__file__).resolve().parents[4] / "shared/slime/flags.json"
RUN = Path("/outputs/run")
MODELS = (
    *("qwen3_0_6b", "qwen3_1_7b", "qwen3_4b_instruct_2507", "qwen3_8b", "qwen3_14b"),
    "qwen3_30b_a3b_instruct_2507",
)
TYPES = {"int": int, "float": float, "loads": json.loads}
PRIMES = "tensor_parallel pipeline_parallel context_parallel expert_parallel".split()


@cache
def _composed(*choices: str) -> Config:
    base = {"engine": "slime", "hardware": "gpu_8", "model": MODELS[2], "stage": "grpo", "user": "litellm"}
    chosen = base | dict(choice.partition("=")[::2] for choice in choices)
    return compose_config([f"{group}={choice}" for group, choice in chosen.items()])


def grpo(*overrides: str) -> Config:
    """GRPO by slime on eight GPUs, but for these: choices composed once, settings set on them, all checked."""
    config = copy.deepcopy(_composed(*(text for text in overrides if "." not in text.partition("=")[0])))
    for key, _, value in (text.partition("=") for text in overrides):
        *sections, name = key.split(".")
        section: Any = config
        for part in sections:
            section = section[part] if isinstance(section, dict) else getattr(section, part)
        given = yaml.safe_load(value)
        if isinstance(section, dict):
            section[name] = given
        elif sections:
            before = getattr(section, name)
            setattr(section, name, type(before)(given) if isinstance(before, Enum) else given)
    check(config)
    return config


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        grpo(*overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def step(config: Config, name: str) -> Command:
    return next(command for command in make_plan(config, RUN, "/models/it") if command.name == name)


def trainer_words(config: Config) -> list[str]:
    """The script, and what it is given."""
    argv = step(config, "train").argv
    return list(argv[argv.index("--") + 2 :])


@cache
def _parser() -> argparse.ArgumentParser:
    """What slime accepts, but strict: it drops what it does not know."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in known_flags().values():
        if flag.kind == "switch":
            parser.add_argument(f"--{flag.name}", action="store_true")
            continue
        kind = TYPES.get(flag.kind, str)
        choices = [kind(choice) for choice in flag.choices] or None
        nargs: Any = int(flag.nargs) if flag.nargs.isdigit() else flag.nargs or None
        parser.add_argument(f"--{flag.name}", type=kind, nargs=nargs, choices=choices)
    return parser


def parsed(config: Config) -> dict[str, Any]:
    return vars(_parser().parse_args(trainer_words(config)[1:]))


class TestFlags:
    def test_the_shipped_facts_are_slimes_own(self) -> None:
        if not SHARED.is_file():
            pytest.skip("needs ../shared/slime/flags.json, what slime's own parsers said")
        said, ours = json.loads(SHARED.read_text()), known_flags()
        assert json.loads(FACTS.read_text())["commit"] == said["slime"]
        assert set(ours) == {name.removeprefix("--") for name in said["flags"]}
        for name, fact in said["flags"].items():
            flag, choices = ours[name.removeprefix("--")], fact.get("choices", [])
            if isinstance(choices, str):  # an enumeration as Python prints it
                choices = re.findall(r"\.(\w+):", choices)
            assert (flag.parser, list(flag.choices)) == (fact["parser"], list(map(str, choices)))
            assert flag.kind == ("switch" if fact.get("nargs") == 0 else fact.get("type", "str"))
            assert flag.nargs == str(fact.get("nargs") or "")

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("entropy-coeff=0.1", "did you mean entropy-coef?"),
            ("use-slime-router=true", "would ignore it silently"),
            ("lr-decay-iters=1.5", "must be a whole number"),
            ("balance-data=3", "is a switch"),
            ("router-policy=cache_awar", "did you mean cache_aware?"),
            ("rampup-batch-size=[1,2]", "takes 3 values"),
            ("train-env-vars=nonsense", "must be JSON"),
            ("no-rope-freq=often", "a pattern of layers"),
            ("wandb-key=abcdef", "holds a secret"),
            ("http-proxy='http://me:word@host:1'", "holds a password"),
            ("lr=0.1", "stage.lr decides --lr"),
            ("colocate=false", "hardware.colocate decides --colocate"),
            ("use-tis=true", "stage.tis_clip decides --use-tis"),
            ("advantage-estimator=ppo", "decides --advantage-estimator"),
            ("fp16=true", "hardware.dtype decides --fp16"),
            ("get-mismatch-metrics=true", "custom-tis-function-path"),
            ("over-sampling-batch-size=8", "at least stage.prompts_per_step=16"),
            ("optimizer-cpu-offload=true", "use-precision-aware-optimizer"),
            ("update-weight-mode=delta", "update-weight-transport=disk"),
            ("sglang-dp-size=2", "sglang-enable-dp-attention"),
            ("batch-size=4", "micro-batch-size"),
            ("min-lr=1.0", "at most stage.lr"),
        ],
    )
    def test_a_further_flag_that_slime_would_drop_or_refuse_is_refused(self, given: str, told: str) -> None:
        assert told in refusal(f"engine.slime.flags.{given}")
        assert "word@" not in refusal(f"engine.slime.flags.{given}")

    def test_further_flags_are_added_and_decide_where_no_setting_does(self) -> None:
        flags = "{attention-backend: auto, balance-data: null, rollout-stop: [a, -b], sglang-log-level: warning}"
        words = trainer_words(grpo(f"engine.slime.flags={flags}", "stage.temperature=1.0"))
        line = " ".join(words)
        assert "--attention-backend auto" in line and "flash" not in line
        assert "--balance-data" not in words
        assert "--rollout-stop a -b" in line and "--sglang-log-level warning" in line

    def test_importance_sampling_is_corrected_once(self) -> None:
        rollout = "engine.slime.flags.use-rollout-logprobs=true"
        assert "--use-rollout-logprobs" in trainer_words(grpo(rollout))
        assert "use-tis" in refusal(rollout, "stage.tis_clip=2.0")

    def test_credit_for_turns_and_distillation_have_one_field(self) -> None:
        distilled = "engine.slime.flags={use-opd: true, opd-type: sglang}"
        assert "--use-opd" in trainer_words(grpo(distilled, "reward=shaped"))
        assert "custom-advantage-function-path" in refusal(distilled, "reward=turn_level")


class TestRefused:
    """Each in one line that says what would do."""

    @pytest.mark.parametrize(
        ("overrides", "told"),
        [
            (["hardware=cpu"], "use hardware=gpu_8, or engine=torch"),
            (["hardware.dtype=float32"], "slime trains in bfloat16"),
            (["model=tiny"], "model.path=null"),
            (["hardware.gpus=1"], "use engine.slime.tensor_parallel=1"),
            (["hardware.nodes=2", "engine.slime.tensor_parallel=3"], "must divide model.heads=32"),
            (["engine.slime.tensor_parallel=16", "hardware.nodes=2"], "must divide model.kv_heads=8"),
            (["engine.slime.pipeline_parallel=5"], "must divide model.layers=36"),
            (["engine.slime.context_parallel=3"], "a power of 2"),
            (["engine.slime.expert_parallel=2"], "is dense; use 1"),
            (["model=qwen3_30b_a3b_instruct_2507", "hardware=gpu_4"], "expert_parallel=8"),
            (["model=qwen3_30b_a3b_instruct_2507", "engine.slime.expert_parallel=3"], "model.experts=128"),
            (
                ["stage.prompts_per_step=5", "stage.samples_per_prompt=3"],
                "must be a multiple of 4, the model's copies on 8 GPUs",
            ),
            (["stage.updates_per_step=5"], "must divide prompts_per_step=16 × samples_per_prompt=4 = 64"),
            (["stage.temperature=0"], "stage.temperature=0"),
            (["stage.top_p=0.9"], "use 1.0"),
            (["reward=branch"], "a rollout function that plays on from the middle"),
            (["stage.sampled_tokens=9", "stage.prompts_per_step=null"], "prompts_per_step=N"),
            (["stage.eval.every=2"], "does not evaluate during training"),
            (["stage.warmup=1"], "must be less than 1"),
            (["engine.slime.asynchronous=true", "stage.refill=0"], "use hardware.colocate=false"),
            (["engine.slime.asynchronous=true", "hardware.colocate=false"], "use stage.refill=0"),
            (["hardware.train_gpus=4"], "use hardware.colocate=false"),
            (["hardware.colocate=false", "hardware.train_gpus=8"], "must be 1 to 7"),
            (["engine.slime.server_gpus=3"], "engine.slime.server_gpus=3"),
            (["engine.slime.server_gpus=8", "hardware.colocate=false"], "must divide the rollouts' GPUs"),
            (["hardware.user_gpus=2"], "use user=local"),
            (["user=local", "hardware.user_gpus=0"], "give hardware.user_gpus=N, or user=litellm"),
            (["user=local", "hardware.user_gpus=8"], "leaves none of 8 GPUs"),
            (["user=local", "hardware.user_gpus=2"], "2 GPUs for the user"),
            (["user=local", "user.api_base=http://host/v1"], "remove one of the two"),
            (["user=local", "user.kind=scripted"], "use user=local"),
            (["engine=torch"], "hardware.gpus=8: engine=torch computes on one device"),
            (
                ["engine=torch", "hardware=gpu_1", "model=qwen3_30b_a3b_instruct_2507", "model.path=null"],
                "random weights are those of a dense model",
            ),
            (["engine.sampler=sglang"], "is for engine=torch"),
            (["engine=torch", "hardware=gpu_1", "user=local"], "user.api_base=URL"),
            (["engine=torch", "hardware=gpu_1", "hardware.nodes=2"], "hardware.nodes=2"),
            (["dry_run=yaml"], "must be true (a shell script), json (data)"),
        ],
    )
    def test_what_cannot_be_is_refused(self, overrides: list[str], told: str) -> None:
        assert told in refusal(*overrides)

    def test_sizes_that_are_not_the_checkpoints(self, tmp_path: Path) -> None:
        said = {"num_hidden_layers": 36, "rope_parameters": {"rope_theta": 1000000}, "tie_word_embeddings": True}
        (tmp_path / "config.json").write_text(json.dumps(said))
        assert "use model.rope_base=1000000" in refusal(f"model.path={tmp_path}")
        grpo(f"model.path={tmp_path}", "model.rope_base=1000000")

    def test_a_pipeline_is_refused_for_the_stage_that_cannot(self) -> None:
        told = refusal("stage=pipeline", "stage.rft.batch_size=6", "domain=all")
        assert told.startswith("stage.rft.batch_size=6: must be a multiple of 4")


class TestLayout:
    @pytest.mark.parametrize(
        ("overrides", "train", "rollout", "policy", "user"),
        [
            ([], 8, 8, 8, ()),
            (["user=local"], 4, 4, 4, (4, 5, 6, 7)),
            (["user=local", "hardware=gpu_4"], 2, 2, 2, (2, 3)),  # the reference's own
            (["hardware.colocate=false"], 4, 4, 8, ()),
            (["hardware.colocate=false", "hardware.train_gpus=2"], 2, 6, 8, ()),
            (["hardware=slurm_2x8gpu"], 16, 16, 8, ()),
            (["hardware=slurm_2x8gpu", "user=local", "hardware.colocate=false"], 4, 4, 4, (4, 5, 6, 7)),
        ],
    )
    def test_who_has_which_gpus(
        self, overrides: list[str], train: int, rollout: int, policy: int, user: tuple[int, ...]
    ) -> None:
        config = grpo(*overrides)
        layout = make_layout(config, config.stage)
        assert (layout.train, layout.rollout, len(layout.policy), layout.user) == (train, rollout, policy, user)

    def test_supervised_training_has_the_users_gpus_too(self) -> None:
        config = grpo("stage=rft", "user=local")
        assert make_layout(config, config.stage).train == 8
        assert "--actor-num-gpus-per-node 8" in " ".join(trainer_words(config))
        assert "0,1,2,3" in step(config, "policy").argv and "4,5,6,7" in step(config, "user").argv


class TestPlan:
    @pytest.mark.parametrize("plan", golden.PLANS)
    def test_every_shipped_experiment_is_as_it_was_looked_at(self, plan: str) -> None:
        written = (golden.FOLDER / f"{plan}.txt").read_text()
        assert golden.as_text(golden.commands_of(plan)) == written, "python -m tests.engines.slime.golden"

    @pytest.mark.parametrize("plan", golden.PLANS)
    def test_what_a_plan_asks_of_us_is_what_our_commands_take(self, plan: str) -> None:
        parser = make_parser()
        ours = [command.argv for command in golden.commands_of(plan) if command.argv[:3] == TAU2_EXP]
        assert all(parser.parse_args(argv[3:]).command == argv[3] for argv in ours)

    def test_asynchronous_rollouts_have_their_own_script_and_no_filter(self) -> None:
        words = trainer_words(grpo("engine.slime.asynchronous=true", "hardware.colocate=false", "stage.refill=0"))
        assert words[0] == "train_async.py" and "--colocate" not in words
        assert "--dynamic-sampling-filter-path" not in words
        assert any(word.endswith("generate_rollout_fully_async") for word in words)

    def test_credit_for_turns_goes_through_the_trainers_own_advantages(self) -> None:
        flag = "--custom-advantage-function-path"
        assert flag in trainer_words(grpo("reward=turn_level"))
        assert flag in trainer_words(grpo("reward=shaped", "reward.credit=brought:by_turn"))
        assert flag not in trainer_words(grpo("reward=shaped"))

    def test_an_evaluation_serves_the_model_that_speaks_and_nothing_else(self) -> None:
        names = {
            kind: [command.name for command in make_plan(grpo("stage=eval", *kind.split()), RUN, "owner/model")]
            for kind in ("policy=model", "policy=sglang policy.url=null", "policy=sglang policy.url=http://host:1")
        }
        served, by_server, elsewhere = names.values()
        assert served == by_server == ["model", "policy", "evaluate"]
        assert elsewhere == ["evaluate"]

    def test_a_mixture_of_experts_is_described_and_converted_on_all_gpus(self) -> None:
        config = grpo("model=qwen3_30b_a3b_instruct_2507")
        said = parsed(config)
        assert (said["num_experts"], said["moe_router_topk"], said["rotary_base"]) == (128, 8, 10000000)
        assert said["moe_layer_freq"] == json.dumps([1] * 48, separators=(",", ":"))
        assert not said["use_rotary_position_embeddings"] and said["position_embedding_type"] == "rope"
        assert "--nproc-per-node 8" in " ".join(step(config, "base").argv)

    def test_a_hub_name_is_brought_to_a_folder_first(self) -> None:
        from_hub = make_plan(grpo(), RUN, "Qwen/Qwen3-4B-Instruct-2507")
        assert from_hub[0].argv[:2] == ("hf", "download")
        folder = from_hub[0].argv[-1]
        assert all(any(folder in word for word in c.argv) for c in from_hub if c.name in ("base", "train", "export"))
        assert "model" not in [command.name for command in make_plan(grpo(), RUN, "/models/it")]

    def test_nothing_in_a_plan_is_a_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN"):
            monkeypatch.setenv(name, "sk-do-not-tell")
        plan = make_plan(grpo("logger=wandb", "user.api_key_env=OPENAI_API_KEY"), RUN, "/models/it")
        assert "sk-do-not-tell" not in repr(plan) and "OPENAI_API_KEY" not in repr(plan)

    def test_a_plan_that_has_been_done_leaves_nothing_to_do(self, tmp_path: Path) -> None:
        plan = make_plan(grpo("user=local"), tmp_path, "/models/it")
        assert [command.name for command in left_to_do(plan)] == "tasks user base ray train export".split()
        (tmp_path / "checkpoints/last").mkdir(parents=True)
        assert left_to_do(plan) == []


def _varied(draw: Any) -> Config:
    """Any model, hardware, stage and division of them; most cannot be."""
    config = copy.deepcopy(_composed(f"model={draw(st.sampled_from(MODELS))}"))
    nodes, gpus = draw(st.sampled_from([(1, 1), (1, 2), (1, 4), (1, 8), (2, 8)]))
    powers = st.sampled_from([1, 1, 2, 4, 8])
    stage = STAGES[draw(st.sampled_from(["sft", "rft", "grpo"]))]()
    assert isinstance(stage, TrainingConfig)
    stage = replace(stage, lr=draw(st.floats(1e-9, 1)), warmup=draw(st.sampled_from([0.0, 0.05])))
    if isinstance(stage, GrpoConfig):
        stage = replace(
            stage,
            prompts_per_step=draw(st.integers(1, 32)),
            samples_per_prompt=draw(st.sampled_from([2, 4, 8])),
            updates_per_step=draw(st.sampled_from([1, 2, 3])),
            kl=draw(st.sampled_from([0.0, 0.01])),
            tis_clip=draw(st.sampled_from([None, 2.0])),
            top_k=draw(st.sampled_from([0, 20])),
            refill=draw(st.sampled_from([0, 2])),
        )
    divided = {name: draw(powers) for name in PRIMES} if draw(st.booleans()) else {}
    slime = replace(config.engine.slime, server_gpus=draw(powers), asynchronous=draw(st.booleans()), **divided)
    served = replace(config.user, serve=draw(st.sampled_from([None, "owner/it"])))
    return replace(
        config,
        stage=stage,
        engine=replace(config.engine, recompute=draw(st.booleans()), slime=slime),
        hardware=replace(config.hardware, nodes=nodes, gpus=gpus, colocate=draw(st.booleans())),
        reward=replace(config.reward, kind=draw(st.sampled_from(RewardKind))),
        user=served,
        seed=draw(st.integers(0, 2**31)),
    )


@given(st.composite(_varied)())
def test_every_combination_is_refused_in_a_line_or_taken_by_slimes_parser(config: Config) -> None:
    try:
        check(config)
    except ConfigError as error:
        assert re.match(r"[\w.]+=", str(error)) and "\n" not in str(error)
        return
    said = parsed(config)
    world = said["actor_num_nodes"] * said["actor_num_gpus_per_node"]
    divided = said["tensor_model_parallel_size"] * said["pipeline_model_parallel_size"] * said["context_parallel_size"]
    copies, rest = divmod(world, divided)
    assert not rest and said["global_batch_size"] % copies == 0
    assert world % (said["expert_model_parallel_size"] * said["pipeline_model_parallel_size"]) == 0
    assert said["sequence_parallel"] == (said["tensor_model_parallel_size"] > 1)
    if isinstance(config.stage, GrpoConfig):
        assert said["rollout_num_gpus"] % said["rollout_num_gpus_per_engine"] == 0
        episodes = said["rollout_batch_size"] * said["n_samples_per_prompt"]
        assert episodes == said["global_batch_size"] * config.stage.updates_per_step
        all_gpus = said["actor_num_nodes"] * said["num_gpus_per_node"]
        assert said["colocate"] or world + said["rollout_num_gpus"] == all_gpus
        assert not (said["colocate"] and config.engine.slime.asynchronous)
        assert (said["kl_loss_coef"] or 0) == config.stage.kl
        assert said["use_tis"] == (config.stage.tis_clip is not None)
    else:
        assert not any(name.startswith("sglang_") and value for name, value in said.items())


class TestOneGpu:
    def test_parameters_are_the_checkpoints(self) -> None:
        """As the hub counts them."""
        counts = [sum(parameters(_composed(f"model={model}").model)) for model in MODELS]
        assert counts == [596049920, 1720574976, 4022468096, 8190735360, 14768307200, 30532122624]

    @pytest.mark.parametrize("stage", ["sft", "rft", "grpo"])
    @pytest.mark.parametrize(("model", "offload"), list(zip(MODELS[:4], (False, False, True, True), strict=True)))
    def test_the_optimizer_leaves_the_gpu_where_it_takes_too_much(self, model: str, stage: str, offload: bool) -> None:
        said = parsed(grpo("hardware=gpu_1", f"model={model}", f"stage={stage}"))
        assert (said["tensor_model_parallel_size"], said["actor_num_gpus_per_node"]) == (1, 1)
        assert not said["sequence_parallel"] and said["colocate"] == (stage == "grpo")
        assert said["rollout_num_gpus_per_engine"] == (1 if stage == "grpo" else None)
        assert {said[flag.replace("-", "_")] for flag in OFFLOAD} == {offload}

    @pytest.mark.parametrize(("model", "told"), [(MODELS[4], "take 89 GB"), (MODELS[5], "use more GPUs")])
    def test_what_cannot_fit_on_it_is_refused(self, model: str, told: str) -> None:
        assert told in refusal("hardware=gpu_1", f"model={model}")
        assert make_plan(grpo("hardware=gpu_1", f"model={model}", "stage=eval"), RUN, "/models/it")

    def test_a_larger_gpu_keeps_it_and_a_flag_decides_against_it(self) -> None:
        assert not parsed(grpo("hardware=gpu_1", "hardware.gpu_memory_gb=141"))["optimizer_cpu_offload"]
        flags = "engine.slime.flags={optimizer-cpu-offload: false, overlap-cpu-optimizer-d2h-h2d: false}"
        assert not parsed(grpo("hardware=gpu_1", flags))["optimizer_cpu_offload"]

    def test_a_mixture_of_experts_leaves_it_on_one_node_and_not_on_two(self) -> None:
        assert parsed(grpo(f"model={MODELS[5]}"))["optimizer_cpu_offload"]
        assert not parsed(grpo(f"model={MODELS[5]}", "hardware=slurm_2x8gpu"))["optimizer_cpu_offload"]


@pytest.mark.parametrize(("model", "stage"), list(product(MODELS, ("sft", "rft", "grpo", "eval"))))
def test_every_model_and_stage_has_a_plan_on_a_machine_of_eight(model: str, stage: str) -> None:
    config = grpo(f"model={model}", f"stage={stage}")
    plan = make_plan(config, RUN, "/models/it")
    assert left_to_do(plan) == plan
    for command in plan:
        assert all(isinstance(word, str) and word for word in command.argv)
        assert command.until is None or command.until in [other.name for other in plan]
    if stage != "eval":
        parsed(config)
