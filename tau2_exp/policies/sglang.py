"""Generation by an SGLang server over HTTP: token ids in, token ids and log-probabilities out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tau2_exp.config import ConfigError, OutOfMemory, PolicyConfig
from tau2_exp.llm.refusals import is_context_full
from tau2_exp.llm.retry import retry
from tau2_exp.llm.secrets import masked
from tau2_exp.types import ContextFull, FaultError, FaultSource, Generation, Sampling

RECONNECT_SECONDS = 1.0  # between two tries to reach a server that has answered before
NO_MEMORY = 507  # what our own server answers where it has no memory for a request
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SglangGenerator:
    """A Generator (see interfaces). The server keeps its own cache of contexts, so sessions hold nothing here.

    Sampling is the server's: the seed of a turn is sent by a `seeded` generator alone, and heeded where SGLang was
    started with --enable-deterministic-inference. Its log-probabilities are those after the temperature and before
    top-p and top-k, which is SGLang's default. A server that has answered before and is gone is waited for (it is being
    started again), as long as an answer may take. `token` is sent as a bearer token; None: nothing is.
    """

    def __init__(self, config: PolicyConfig, token: str | None = None, seeded: bool = False):
        if not config.url:
            raise ConfigError("policy.url is not set: give a server's address (`python -m tau2_exp serve` starts one)")
        self._url = config.url.rstrip("/")
        self._timeout, self._retries, self._seeded = config.timeout, config.retries, seeded
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._answered = False
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, session: int) -> None:
        """Nothing to prepare."""

    def close(self, session: int) -> None:
        """Nothing is held."""

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        """Continue `ids`. Raises FaultError(ENGINE); ContextFull where the server's context has no room for them.

        Raises OutOfMemory where our own server has no memory for them.
        """
        generation = await self.request(ids, sampling, seed if self._seeded else None)
        if generation.finish not in ("stop", "length"):
            raise self.fault(f"the request ended by {generation.finish!r}")
        return generation

    async def request(self, ids: Sequence[int], sampling: Sampling, seed: int | None = None) -> Generation:
        """One answer of the server; an aborted one has what was generated until then, maybe nothing.

        Raises as `generate` does.
        """
        params = _sampling_params(sampling) | ({} if seed is None else {"sampling_seed": seed})
        request = {"input_ids": list(ids), "sampling_params": params, "return_logprob": True}
        try:
            return _read(await self._ask("generate", request))
        except httpx.HTTPStatusError as error:
            raise self._refused(error.response) from error
        except ValueError as error:
            raise self.fault(str(error)) from error

    async def load(self, folder: Path, version: str) -> None:
        """Have the server take the weights of a folder on its machine, which it then calls `version` in its answers.

        Raises FaultError(ENGINE); ConfigError where it refuses them.
        """
        try:
            await self._ask("update_weights_from_disk", {"model_path": str(folder), "weight_version": version})
        except httpx.HTTPStatusError as error:
            said = f"refuses the weights of {folder}: {' '.join(error.response.text.split())}"
            if error.response.status_code >= 500:
                raise self.fault(said) from None
            raise ConfigError(masked(f"SGLang at {self._url} {said}")) from None

    async def _ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A good answer. Raises httpx.HTTPStatusError for another, and FaultError(ENGINE) where there is none."""

        async def attempt() -> httpx.Response:
            async with asyncio.timeout(self._timeout):
                response = await self._post(path, body)
            return response.raise_for_status()

        try:
            return await retry(attempt, self._retries, _passes)
        except TimeoutError:
            raise self.fault(f"no answer within {self._timeout:g} s (policy.timeout)") from None
        except httpx.HTTPStatusError:
            raise
        except httpx.HTTPError as error:
            raise self.fault(f"{type(error).__name__}: {error}; is the server of policy.url up?") from error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        while True:
            try:
                response = await self._connected().post(f"{self._url}/{path}", json=body)
            except httpx.ConnectError:
                if not self._answered:
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                self._answered = True
                return response

    def _connected(self) -> httpx.AsyncClient:
        """The client of the running loop: connections do not survive the loop that opened them."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            proxied = urlsplit(self._url).hostname not in LOOPBACK
            self._client = httpx.AsyncClient(headers=self._headers, timeout=None, limits=limits, trust_env=proxied)
            self._loop = loop
        return self._client

    def _refused(self, response: httpx.Response) -> Exception:
        reason = masked(" ".join(response.text.split()))
        if response.status_code == 400 and is_context_full(reason):
            return ContextFull(reason[:300])
        if response.status_code == NO_MEMORY:
            return OutOfMemory(f"SGLang at {self._url}: {reason[:300]}")
        mend = "; policy.api_key_env names the variable with its token" if response.status_code == 401 else ""
        return self.fault(f"HTTP {response.status_code}: {reason[:300]}{mend}")

    def fault(self, reason: str) -> FaultError:
        """The FaultError(ENGINE) that ends an episode for this reason."""
        return FaultError(FaultSource.ENGINE, masked(f"SGLang at {self._url}: {reason}"))


def _sampling_params(sampling: Sampling) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "max_new_tokens": sampling.max_tokens,
        "stop_token_ids": list(sampling.stop_ids),
        "no_stop_trim": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def _passes(error: Exception) -> bool:
    """A server that is starting, overloaded or out of reach. A stall is not tried again: it costs the whole timeout."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status == 429 or (status >= 500 and status != NO_MEMORY)
    return isinstance(error, httpx.TransportError)


def _read(response: httpx.Response) -> Generation:
    """Raises ValueError for what is no answer of /generate."""
    try:
        meta = response.json()["meta_info"]
        finish = meta["finish_reason"]["type"]
        sampled = meta.get("output_token_logprobs", []) if finish == "abort" else meta["output_token_logprobs"]
        pairs = [(int(token), float(log_prob)) for log_prob, token, *_ in sampled]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an answer of /generate ({type(error).__name__}: {error})") from error
    if not pairs and finish in ("stop", "length"):
        raise ValueError("no token was generated")
    ids, log_probs = tuple(token for token, _ in pairs), tuple(log_prob for _, log_prob in pairs)
    return Generation(ids, log_probs, finish, version=meta.get("weight_version"))
