#!/usr/bin/env bash
# Run a command in slime's container, with all GPUs of this machine and this checkout in it.
#
#   launchers/container.sh make setup                      # once: what the image lacks, into .venv of this checkout
#   launchers/container.sh .venv/bin/python run.py experiment=reference_grpo hardware=gpu_8
#   launchers/container.sh bash
#
# TAU2_IMAGE   the image (slimerl/slime:latest); give a tag or a digest where results are to be repeated
# TAU2_ENGINE  docker (the default) or podman
# HF_HOME      models that are there already, and where new ones go (~/.cache/huggingface)
#
# API keys are passed by name. Their values come from this shell and are written to no file and no argument.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
models=${HF_HOME:-$HOME/.cache/huggingface}
mkdir -p "$models"

# Whatever becomes of this command: docker ps --filter label=tau2_exp
options=(--rm --label "tau2_exp=$here" --gpus all --network host --ipc host --shm-size 16g --ulimit memlock=-1 --ulimit stack=67108864)
options+=(--volume "$here:$here" --workdir "$here" --volume "$models:$models" --env "HF_HOME=$models")
for name in OPENAI_API_KEY ANTHROPIC_API_KEY WANDB_API_KEY HF_TOKEN; do
  if [[ -n ${!name:-} ]]; then options+=(--env "$name"); fi
done
if [[ -t 0 && -t 1 ]]; then options+=(--interactive --tty); fi

exec "${TAU2_ENGINE:-docker}" run "${options[@]}" "${TAU2_IMAGE:-slimerl/slime:latest}" "${@:-bash}"
