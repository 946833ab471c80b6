"""Flags that slime or Megatron refuse together, after minutes and in the words of an assertion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

REQUIRES = {
    "get-mismatch-metrics": "custom-tis-function-path",
    "enable-mtp-training": "mtp-num-layers",
    "use-stateless-adam": "no-save-optim",
    "optimizer-cpu-offload": "use-precision-aware-optimizer",
    "use-opd": "opd-type",
    "opd-teacher-load": "use-opd",
    "overlap-param-gather": "overlap-grad-reduce",
    "tp-comm-overlap": "sequence-parallel",
    "update-weight-local-checkpoint-dir": "update-weight-disk-dir",
    "release-train": "update-weight-disk-dir",
}
EXCLUDES = (
    ("use-tis", "use-rollout-logprobs"),
    ("only-train-params-name-list", "freeze-params-name-list"),
    ("sglang-config", "prefill-num-servers"),
    ("sglang-config", "rollout-external-engine-addrs"),
    ("prefill-num-servers", "rollout-external-engine-addrs"),
    ("release-train", "keep-old-actor"),
    ("use-opd", "custom-advantage-function-path"),  # both send a number for each token, and there is one field
)
GONE = {
    "batch-size": "micro-batch-size",
    "warmup": "stage.warmup",
    "model-parallel-size": "engine.slime.tensor_parallel",
    "checkpoint-activations": "engine.recompute",
}


def refused(flags: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a trainer's flags taken together, each as `FLAG: reason; mend`."""
    on = {name for name, value in flags.items() if value not in (None, False)}
    for name, needed in REQUIRES.items():
        if name in on and needed not in on:
            yield f"{name}: slime needs {needed} with it; add engine.slime.flags.{needed}"
    for one, other in EXCLUDES:
        if one in on and other in on:
            yield f"{other}: slime does not take it together with {one}; remove one of the two"
    for name, instead in GONE.items():
        if name in on:
            yield f"{name}: Megatron no longer takes it; use {instead}"
    yield from _weights(flags)
    yield from _numbers(flags)


def _weights(flags: Mapping[str, Any]) -> Iterator[str]:
    """How new weights reach the rollouts."""
    disk = flags.get("update-weight-transport") == "disk"
    if disk and not flags.get("update-weight-disk-dir"):
        yield "update-weight-transport=disk: slime needs update-weight-disk-dir, a folder that all nodes share"
    if flags.get("release-train") and not disk:
        yield "release-train: slime needs update-weight-transport=disk with it"
    if flags.get("update-weight-mode") == "delta":
        if not disk or not flags.get("update-weight-local-checkpoint-dir"):
            wanted = "update-weight-transport=disk and update-weight-local-checkpoint-dir"
            yield f"update-weight-mode=delta: slime needs {wanted} with it"
        if flags.get("colocate"):
            yield "update-weight-mode=delta: not on shared GPUs; use hardware.colocate=false"
        if flags.get("release-train"):
            yield "update-weight-mode=delta: not with release-train; use full"


def _numbers(flags: Mapping[str, Any]) -> Iterator[str]:
    def number(name: str, default: float = 0) -> Any:
        value = flags.get(name)
        return default if value is None else value

    if "over-sampling-batch-size" in flags and number("over-sampling-batch-size") < number("rollout-batch-size"):
        yield f"over-sampling-batch-size: must be at least stage.prompts_per_step={flags['rollout-batch-size']}"
    if number("min-lr") > number("lr"):
        yield f"min-lr={flags['min-lr']}: must be at most stage.lr={flags['lr']}"
    longest = number("rollout-max-context-len")
    if longest and number("rollout-max-prompt-len") > longest - 1:
        yield f"rollout-max-prompt-len={flags['rollout-max-prompt-len']}: must be less than model.context={longest}"
    if number("sglang-dp-size", 1) > 1 and not flags.get("sglang-enable-dp-attention"):
        yield "sglang-dp-size: slime needs sglang-enable-dp-attention with it"
    stages, server = number("sglang-pp-size", 1), number("rollout-num-gpus-per-engine", 1)
    if stages > 1 and server % stages:
        yield f"sglang-pp-size={stages}: must divide engine.slime.server_gpus={server}"
    if number("save-retain-interval", 1) % number("save-interval", 1):
        yield f"save-retain-interval={flags['save-retain-interval']}: must be a multiple of stage.save_every"
    ends = [flags.get(f"decoder-{end}-pipeline-num-layers") for end in ("first", "last")]
    if number("pipeline-model-parallel-size", 1) == 1 and any(end is not None for end in ends):
        yield "decoder-first-pipeline-num-layers: needs engine.slime.pipeline_parallel above 1"
