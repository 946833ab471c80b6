"""A small HTTP server over loopback: answers POSTs from a list, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What one POST gets: a status and a body; after `stall` seconds; or, with status 0, a connection that drops."""

    body: Any = None
    status: int = 200
    stall: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Served:
    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)  # the JSON bodies, in order
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serve(*answers: Answer | Callable[[dict[str, Any]], Answer]) -> Iterator[Served]:
    """Answers come in the order given; the last is repeated."""
    queue = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append(asked)
            served.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            self.send(answer(asked) if callable(answer) else answer)

        def send(self, answer: Answer) -> None:
            time.sleep(answer.stall)
            if answer.status == 0:
                self.connection.close()
                return
            body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that gave up waiting
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def completion(
    content: str | None = None,
    *calls: tuple[Any, ...],
    usage: tuple[int, int] | None = (11, 7),
    finish: str | None = None,
    **more: Any,
) -> Answer:
    """An OpenAI chat completion: text, and tool calls as (name, arguments in JSON[, id]); `more` of the message.

    `usage` is (prompt, completion) in tokens; None: the server tells none.
    """
    tool_calls = [
        {"id": id[0] if id else f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments, *id) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content} | ({"tool_calls": tool_calls} if calls else {}) | more
    finish = finish or ("tool_calls" if calls else "stop")
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "local",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(body)


def refusal(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI's API words it; `headers` as Retry_After="3"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"error": {"message": message, "type": "error", "code": code}}, status, headers=named)
