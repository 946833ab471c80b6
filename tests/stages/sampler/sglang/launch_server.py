"""`python -m sglang.launch_server`."""

from __future__ import annotations

import argparse
import socket
import sys

from tau2_exp.engines.torch.server import main

parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in "--model-path --host --port --config --context-length --max-running-requests --dtype".split():
    parser.add_argument(flag, required=True)
parser.add_argument("--tp-size")
given = parser.parse_args()
listening = socket.create_server((given.host, int(given.port)), backlog=128)
argv = [given.model_path, "--socket", str(listening.detach()), "--host", given.host, "--key-file", given.config]
argv += ["--context", given.context_length, "--at-once", given.max_running_requests, "--dtype", given.dtype]
sys.exit(main(argv))
