"""Requests that our own server does not take: each is refused alone, and those beside it are answered."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from tau2_exp.config import EngineConfig
from tau2_exp.engines.torch.generation import TorchGenerator
from tau2_exp.engines.torch.guard import BODY_BYTES, _means_us
from tau2_exp.engines.torch.model import CausalLM
from tau2_exp.engines.torch.tokenizer import TextTokenizer
from tau2_exp.types import FaultError, Generation, Sampling
from tests.engines.conftest import tokens
from tests.engines.test_generation import naive
from tests.serve.conftest import CONTEXT, KNOWN, TOKEN, make_model, served

PATHS = ("generate", "abort_request", "update_weights_from_disk")
GOOD = {"input_ids": [5, 6, 7], "sampling_params": {"temperature": 0, "max_new_tokens": 4}}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def model(tokenizer: TextTokenizer) -> CausalLM:
    return make_model(tokenizer.size)


@pytest.fixture(scope="module")
def url(model: CausalLM, tokenizer: TextTokenizer) -> Iterator[str]:
    with served(model, tokenizer) as address:
        yield address


# ---------------------------------------------------------------- who may ask


def ask(url: str, path: str = "generate", method: str = "POST", **headers: str) -> httpx.Response:
    """A good request, but for these headers; one that is empty is left out."""
    sent = {name: value for name, value in {**KNOWN, **JSON, **headers}.items() if value}
    content = json.dumps(GOOD) if method == "POST" else None
    return httpx.request(method, f"{url}/{path}", headers=sent, content=content, timeout=PATIENCE, trust_env=False)


@pytest.mark.parametrize(
    ("headers", "status", "named"),
    [
        ({"Origin": "http://evil.example"}, 403, "other origins"),
        ({"Origin": "null"}, 403, "other origins"),
        ({"Origin": "http://127.0.0.1:1"}, 403, "other origins"),
        ({"Host": "evil.example"}, 403, "Host"),
        ({"Host": "evil.example:8000"}, 403, "Host"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "Host"),
        ({"Host": "[::1"}, 403, "Host"),
        ({"Host": "10.1.2.3"}, 403, "Host"),
        ({"Authorization": ""}, 401, "token"),
        ({"Authorization": TOKEN}, 401, "token"),
        ({"Authorization": f"Bearer {TOKEN}0"}, 401, "token"),
        ({"Authorization": "Bearer "}, 401, "token"),
        ({"Content-Type": "text/plain"}, 415, "application/json"),
        ({"Content-Type": ""}, 415, "application/json"),
        ({"Content-Length": str(BODY_BYTES + 1)}, 413, str(BODY_BYTES)),
    ],
)
def test_web_pages_strangers_and_other_than_json_are_refused(
    url: str, headers: dict[str, str], status: int, named: str
) -> None:
    """Over a connection of our own: what the headers say is enough."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    sent = {"Host": parts.netloc, "Content-Length": "0", **KNOWN, **JSON, **headers}
    connection.putrequest("POST", "/update_weights_from_disk", skip_host=True)
    for name, value in sent.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    said = answer.read().decode()
    connection.close()
    assert answer.status == status and named in json.loads(said)["error"]["message"] and "\n" not in said
    assert TOKEN not in said


def test_who_knows_the_token_asks_by_any_of_the_servers_names(url: str) -> None:
    port = urlsplit(url).port
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.9.9.9"):
        host = f"{name}:{port}"
        assert ask(url, Host=host).status_code == 200
        assert ask(url, Host=host, Origin=f"http://{host}").status_code == 200, "the server's own origin"
    assert ask(url, **{"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_only_that_there_is_a_server_is_told_to_everybody(url: str) -> None:
    asked = {path: ask(url, path, "GET", Authorization="").status_code for path in ("health", "health_generate", "x")}
    assert asked == {"health": 200, "health_generate": 401, "x": 401}
    assert ask(url, "health_generate", "GET").status_code == 200
    assert ask(url, "health", "GET", Host="evil.example").status_code == 403


def test_a_server_for_a_network_goes_by_its_addresses_and_its_own_name() -> None:
    def taken(host: str) -> list[str]:
        names = ("10.1.2.3:80", "10.1.2.4", "gpu-1.cluster", socket.gethostname(), "evil.example", "localhost", "")
        return [name for name in names if _means_us(name.lower(), host)]

    assert taken("127.0.0.1") == ["localhost"]
    assert taken("10.1.2.3") == ["10.1.2.3:80", "localhost"]
    assert taken("gpu-1.cluster") == ["gpu-1.cluster", "localhost"]
    assert taken("0.0.0.0") == ["10.1.2.3:80", "10.1.2.4", socket.gethostname(), "localhost"]


def test_a_body_without_an_end_is_not_read_whole(url: str) -> None:
    parts = urlsplit(url)
    sent = 0
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
        head = f"POST /generate HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            while sent < 8 * BODY_BYTES:
                sent += connection.send(b"10000\r\n" + b" " * (1 << 16) + b"\r\n")
        except OSError:
            pass  # the server has hung up
        assert sent < 3 * BODY_BYTES
    assert ask(url).status_code == 200


# ---------------------------------------------------------------- what is asked

TEXTS = st.text(max_size=5) | st.sampled_from(["\ud800", "a\udfff", "\0", "x" * 5000, "../..", "Qwen/Qwen3-0.6B"])
NUMBERS = (
    st.integers(-3, CONTEXT + 3)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([2**31, 2**63, 2**64, -(2**64), 10**300, 1e300, 1e-300, 5e-324])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2))
PARAMS = (
    "temperature top_p top_k max_new_tokens stop stop_token_ids ignore_eos no_stop_trim skip_special_tokens "
    "spaces_between_special_tokens sampling_seed n min_p repetition_penalty"
)
FIELDS = "rid return_logprob abort_all model_path weight_version abort_all_requests text stream logprob_start_len"


def fields(names: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names.split()) | TEXTS, values, max_size=3)


IDS = st.lists(NUMBERS | SCALARS, max_size=4) | VALUES | st.just([1]) | st.just([1] * (CONTEXT - 1))
BODIES = st.builds(
    lambda top, ids, params: {**top, "input_ids": ids, "sampling_params": params},
    fields(FIELDS, VALUES),
    IDS,
    fields(PARAMS, VALUES | st.lists(TEXTS, max_size=3)) | VALUES,
)
NESTED = b"[" * 900 + b"]" * 900
HARD = [
    b"",
    b"[" * 100_000,
    b'{"input_ids": ' + NESTED + b"}",
    b'{"input_ids": [1], "sampling_params": {"min_p": ' + NESTED + b"}}",
    b'{"input_ids": [1], "sampling_params": {"temperature": ' + b"9" * 4000 + b"}}",
    b'{"input_ids": [' + b"9" * 5000 + b"]}",
    b'{"input_ids": [NaN]}',
    b'{"input_ids": []}',
    b'{"input_ids": [-1]}',
    b'{"input_ids": [1], "sampling_params": {"temperature": 1e999}}',
    b'{"input_ids": [1], "sampling_params": {"max_new_tokens": 400}}',
    b'{"input_ids": [1], "sampling_params": {"sampling_seed": -1}}',
    b'{"input_ids": [1], "sampling_params": {"stop": "\\ud800"}}',
    b'{"input_ids": [1], "rid": "\\ud800"}',
    b'{"input_ids": [1], "rid": 7}',
    b'{"\\ud800": 1}',
    b'{"input_ids": [1], "text": "\xff"}',
    b'{"model_path": "a\\u0000b"}',
    b'{"model_path": 5}',
    b'{"model_path": "' + b"a" * 4000 + b'"}',
    json.dumps(GOOD).encode("utf-16"),
]
RAW = st.one_of(BODIES.map(json.dumps).map(str.encode), VALUES.map(json.dumps).map(str.encode), st.binary(max_size=20))


def answers(url: str, bad: list[tuple[str, bytes]]) -> list[httpx.Response]:
    """To the bad requests; two good ones are sent with them, and answered."""

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, headers=KNOWN | JSON, timeout=PATIENCE, trust_env=False) as client:
            good = [client.post("/generate", json=GOOD | {"rid": f"good {n}"}) for n in range(2)]
            *answers, first, second = await asyncio.gather(
                *(client.post(f"/{path}", content=raw) for path, raw in bad), *good
            )
            for answer in (first, second):
                made = answer.raise_for_status().json()
                assert len(made["output_ids"]) == 4 or made["meta_info"]["finish_reason"]["type"] == "abort"
            assert (await client.get("/health_generate")).status_code == 200
            return answers

    return asyncio.run(main())


def test_bad_requests_fail_alone_and_say_why_in_one_line(url: str) -> None:
    for path in PATHS:
        for raw, answer in zip(HARD, answers(url, [(path, raw) for raw in HARD]), strict=True):
            assert answer.status_code == 400 and "\n" not in answer.text, (path, raw[:80], answer.text)
            assert len(answer.text) < 700


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PATHS), RAW), min_size=1, max_size=4))
def test_whatever_is_asked_fails_alone(url: str, bad: list[tuple[str, bytes]]) -> None:
    for answer in answers(url, bad):
        assert answer.status_code in (200, 400), answer.text


def test_what_fails_within_one_turn_leaves_the_others_of_its_batch(model: CausalLM) -> None:
    """Whatever the wire let through: a broken end, a seed and ids of no model."""
    greedy = Sampling(temperature=0.0, max_tokens=12)

    async def main() -> list[Any]:
        generator = TorchGenerator(model, EngineConfig(lockstep=False))
        for session in range(6):
            generator.open(session)
        asked = [generator.generate(n, tokens(5 + n, n, model.shape.vocab_size), greedy, 0) for n in range(2)]
        asked += [generator.generate(2, [1], greedy, 0, lambda ids: ids[3] == 0)]
        asked += [generator.generate(3, [1], greedy, -1), generator.generate(4, [1, 10**9], greedy, 0)]
        asked += [generator.generate(5, [-1], greedy, 0)]
        return await asyncio.gather(*asked, return_exceptions=True)

    *well, broken, seed, beyond, negative = asyncio.run(main())
    for n, made in enumerate(well):
        assert isinstance(made, Generation)
        assert made.ids == naive(model, tokens(5 + n, n, model.shape.vocab_size), greedy, 0).ids
    assert isinstance(broken, FaultError) and "IndexError" in str(broken)
    assert all(isinstance(error, ValueError) for error in (seed, beyond, negative))
