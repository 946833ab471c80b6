#!/usr/bin/env bash
# The GPU check: pack it on a machine with the project's environment, run it on one with a card and no network.
#
#   launchers/gpu_check.sh pack                    # outputs/gpu_check/packed/gpu_check.tar.gz
#   tar xzf gpu_check.tar.gz && gpu_check/launchers/gpu_check.sh run --minutes 8     # on the machine with the card
#
# PYTHON is the interpreter: by default the active environment's, else .venv's here, else python3. See docs/gpu-check.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=python3
if [[ -z ${VIRTUAL_ENV:-} && -x $here/.venv/bin/python ]]; then python=$here/.venv/bin/python; fi

export PYTHONPATH=$here:$here/benchmarks:$here/packed/site PYTHONUNBUFFERED=1
exec "${PYTHON:-$python}" -m benchmarks.gpu_check "$@"
