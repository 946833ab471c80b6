"""A run of engine=slime as commands that a person could paste: servers, conversions, Ray, the trainer.

    sft    model, rows, base, ray, train, export
    rft    model, user, policy, samples, base, ray, train, export
    grpo   model, tasks, base, user, ray, train, export
    eval   model, user, policy, evaluate
    demos  user, demos

`model` is there for a hub name alone, `user` where user.serve names one. A plan is made from settings alone. It holds
no secret: what the commands need of keys, they find in their environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tau2_exp.config import (
    Config,
    DemosConfig,
    EngineName,
    EvalConfig,
    GrpoConfig,
    RftConfig,
    SftConfig,
    TrainingConfig,
)
from tau2_exp.config.paths import absolute, is_hub_name
from tau2_exp.engines.slime.plan.arguments import train_arguments, trainer
from tau2_exp.engines.slime.plan.flags import write_flags
from tau2_exp.engines.slime.plan.layout import Layout, make_layout
from tau2_exp.engines.slime.plan.model import model_flags
from tau2_exp.engines.slime.plan.places import BASE, CHECKPOINTS, MODEL, ROWS
from tau2_exp.system.code import ROOT
from tau2_exp.system.commands import Command

TAU2_EXP = ("python", "-m", "tau2_exp")


def is_planned(config: Config) -> bool:
    """Whether a stage runs as a plan of commands: slime trains in it, or a model is served for it."""
    stage = config.stage
    if config.engine.name is not EngineName.slime:
        return False
    if isinstance(stage, EvalConfig):
        return config.serves_policy or bool(config.user.serve)
    return isinstance(stage, TrainingConfig) or (isinstance(stage, DemosConfig) and bool(config.user.serve))


def make_plan(config: Config, folder: Path, start: str) -> list[Command]:
    """The commands of one stage. `start` is the folder or hub name of the model that it begins with (demos: any)."""
    return _Plan(config, folder.absolute(), start).commands()


def model_step(config: Config, start: str, cache: Path) -> tuple[Path, Command | None]:
    """Where the model that training begins with lies, and how it comes there from the hub."""
    if not is_hub_name(start):
        return Path(start).absolute(), None
    target = cache / "models" / start.replace("/", "--")
    return target, Command("model", ("hf", "download", start, "--local-dir", str(target)))


@dataclass
class _Plan:
    config: Config
    folder: Path
    start: str

    def __post_init__(self) -> None:
        self.cache = self.folder.parent / ".cache"
        self.layout: Layout = make_layout(self.config, self.config.stage)
        self.model, self.download = model_step(self.config, self.start, self.cache)
        self.had = ("model",) if self.download else ()  # what all that reads the model needs

    def commands(self) -> list[Command]:
        stage = self.config.stage
        if isinstance(stage, SftConfig):
            steps = [self._ours("rows", self.had), *self._training(("rows",))]
        elif isinstance(stage, RftConfig):
            steps = [*self._sampling(), *self._training(("samples",))]
        elif isinstance(stage, GrpoConfig):
            steps = [self._ours("tasks"), *self._user("train"), *self._training(("tasks", *self._user_name()))]
        elif isinstance(stage, EvalConfig):
            steps = self._evaluation()
        else:
            steps = [*self._user("demos"), self._ours("demos", self._user_name(), "results.json")]
        if self.download and any("model" in step.needs for step in steps):
            return [self.download, *steps]
        return steps

    # ------------------------------------------------------------ parts of stages

    def _sampling(self) -> list[Command]:
        needs = ("policy", *self._user_name())
        return [*self._user("samples"), self._policy("samples"), self._ours("samples", needs, ROWS)]

    def _evaluation(self) -> list[Command]:
        evaluate = "evaluate"
        if self.config.serves_policy:
            needs: tuple[str, ...] = ("policy", *self._user_name())
            return [*self._user(evaluate), self._policy(evaluate), self._ours(evaluate, needs, "results.json")]
        return [*self._user(evaluate), self._ours(evaluate, self._user_name(), "results.json")]

    def _training(self, needs: Sequence[str]) -> list[Command]:
        """From a model in Hugging Face's format to one: converted, trained, converted back."""
        first = needs[:1] if isinstance(self.config.stage, RftConfig) else self.had  # the policy's GPUs are free then
        return [self._base(first), self._ray(("base", *needs)), self._train(("ray", *needs)), self._export(("train",))]

    # ------------------------------------------------------------ commands of ours

    def _ours(self, part: str, needs: Iterable[str] = (), makes: str | None = None) -> Command:
        made = str(self.folder / (makes or f"slime/{part}.jsonl"))
        return Command(part, (*TAU2_EXP, "slime", part, str(self.folder)), needs=tuple(needs), makes=made)

    def _user_name(self) -> tuple[str, ...]:
        return ("user",) if self.config.user.serve else ()

    def _user(self, until: str) -> list[Command]:
        served = self.config.user.serve
        if not served:
            return []
        model = absolute(served)
        return [self._server("user", model, self.layout.user, until, (), ())]

    def _policy(self, until: str) -> Command:
        context = ("--context", str(self.config.model.context))
        return self._server("policy", str(self.model), self.layout.policy, until, context, self.had)

    def _server(
        self, role: str, model: str, gpus: Sequence[int], until: str, further: Sequence[str], needs: tuple[str, ...]
    ) -> Command:
        slime, ready = self.config.engine.slime, str(self.folder / f"servers/{role}.json")
        argv = [*TAU2_EXP, "serve", model, "--role", role, "--engine", "sglang", "--gpus", ",".join(map(str, gpus))]
        argv += ["--ready", ready, "--log", str(self.folder / f"logs/{role}.log")]
        argv += ["--seconds", str(slime.start_seconds), "--memory-fraction", str(slime.memory_fraction), *further]
        divided = slime.server_gpus if len(gpus) % slime.server_gpus == 0 else len(gpus)  # the others are copies
        argv.append(f"--flags=--tp-size {divided} --dp-size {len(gpus) // divided}")
        return Command(role, tuple(argv), needs=needs, ready=ready, until=until)

    def _ray(self, needs: Sequence[str]) -> Command:
        ready = str(self.folder / "servers/ray.json")
        argv = [*TAU2_EXP, "ray", "up", str(self.folder), "--nodes", str(self.layout.nodes)]
        argv += ["--gpus", str(self.layout.per_node), "--ready", ready]
        argv += ["--seconds", str(self.config.engine.slime.start_seconds)]
        return Command("ray", tuple(argv), needs=tuple(needs), ready=ready, until="train")

    # ------------------------------------------------------------ commands of slime's

    def _train(self, needs: Sequence[str]) -> Command:
        env = self._env()
        if not isinstance(self.config.stage, GrpoConfig):
            env["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"  # not beside SGLang, which pins its memory
        settings = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        script = ["python3", trainer(self.config), *train_arguments(self.config, self.folder, str(self.model))]
        argv = (*TAU2_EXP, "ray", "submit", str(self.folder), *settings, "--", *script)
        return Command("train", argv, env, tuple(needs), cwd=self.config.engine.slime.root)

    def _base(self, needs: Sequence[str]) -> Command:
        """torchrun finds a free port, and sets the ranks that the tool would else take from SLURM."""
        processes = str(min(8, self.layout.per_node) if self.config.model.experts else 1)
        tool = ["python3", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
        tool += [f"{self.config.engine.slime.root}/tools/convert_hf_to_torch_dist.py"]
        sizes = {given.flag: given.value for given in model_flags(self.config.model)}
        tool += [*write_flags(sizes), "--hf-checkpoint", "{source}", "--save", "{target}"]
        made = self.folder / BASE
        argv = (*TAU2_EXP, "cached", "--of", str(self.model), "--into", str(made), "--cache", str(self.cache / "base"))
        return Command(
            "base",
            (*argv, "--", *tool),
            self._env(),
            tuple(needs),
            cwd=self.config.engine.slime.root,
            makes=str(made),
        )

    def _export(self, needs: Sequence[str]) -> Command:
        """Tensor parallelism pads the vocabulary; what was added is left behind."""
        tool = ["python3", f"{self.config.engine.slime.root}/tools/convert_torch_dist_to_hf.py"]
        tool += ["--input-dir", "{source}", "--output-dir", "{target}", "--origin-hf-dir", str(self.model)]
        tool += ["--vocab-size", str(self.config.model.vocab_size)]
        made, source = self.folder / MODEL, self.folder / CHECKPOINTS
        argv = (*TAU2_EXP, "cached", "--of", str(source), "--into", str(made), "--", *tool)
        env, root = self._env(), self.config.engine.slime.root
        return Command("export", argv, env, tuple(needs), cwd=root, makes=str(made))

    def _env(self) -> dict[str, str]:
        """Of slime's processes; Megatron wants one connection where a model is divided."""
        paths = (self.config.engine.slime.megatron, self.config.engine.slime.root, str(ROOT))
        return {"PYTHONPATH": ":".join(paths), "CUDA_DEVICE_MAX_CONNECTIONS": "1", "PYTHONUNBUFFERED": "1"}
