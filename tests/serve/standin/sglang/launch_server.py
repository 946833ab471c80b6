"""`python -m sglang.launch_server`: behaves as behaviour.json in the model's folder says, and notes how it was called.

starts       seconds until it answers (absent: at once); "never": it listens and is not healthy
exits        the status it ends with instead of starting
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--model-path", type=Path, required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=30000)
parser.add_argument("--tp-size", type=int, default=1)
parser.add_argument("--context-length", type=int)
parser.add_argument("--mem-fraction-static", type=float)
parser.add_argument("--max-running-requests", type=int)
parser.add_argument("--tool-call-parser")
parser.add_argument("--log-level")
parser.add_argument("--dtype")
parser.add_argument("--config", type=Path)
given = parser.parse_args()
settings = json.loads(given.config.read_text())  # JSON is YAML

note = given.model_path / "behaviour.json"
behaviour = json.loads(note.read_text()) if note.exists() else {}
scheduler = subprocess.Popen(["sleep", "600"])  # SGLang's schedulers are processes of their own
with (given.model_path / "started.jsonl").open("a") as started:
    called = {"argv": sys.argv[1:], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "settings": settings}
    started.write(json.dumps({**called, "pids": [os.getpid(), scheduler.pid]}) + "\n")
print(f"server_args=ServerArgs(api_key={settings['api-key']!r})", flush=True)  # SGLang's first line tells it too
print("loading weights", flush=True)
if "exits" in behaviour:
    print("RuntimeError: CUDA out of memory", flush=True)
    sys.exit(behaviour["exits"])
ready = time.monotonic() + (float("inf") if behaviour.get("starts") == "never" else behaviour.get("starts", 0))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        well = self.path == "/health_generate" and time.monotonic() > ready
        self.send_response(200 if well else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
