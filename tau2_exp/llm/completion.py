"""Chat completions through litellm, for users and policies alike: one client, one retry policy, one conversion."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tau2_exp.config import ConfigError, PolicyConfig, UserConfig
from tau2_exp.llm.budget import Budget, PromptBound
from tau2_exp.llm.client import count_prompt, counted_usage, litellm_module, price, told_usage
from tau2_exp.llm.conversation import Chat
from tau2_exp.llm.keys import find_key
from tau2_exp.llm.reading import read_reply
from tau2_exp.llm.refusals import says_context_full, says_unreadable
from tau2_exp.llm.replies import Replies, Reply
from tau2_exp.llm.retry import LONGEST_ASKED, asked_pause, retry
from tau2_exp.llm.secrets import masked
from tau2_exp.types import BudgetReached, ContextFull, FaultError, FaultSource, Role, Sampling, Schema, Usage

NOT_ASKED = ("api_key", "timeout", "max_retries", "drop_params")  # of a request: they do not change its reply


class Unusable(Exception):
    """A reply that holds no usable turn."""


@dataclass(frozen=True)
class Account:
    """What the completions of one run share.

    `replies` are kept for all runs. `own` keeps for this run alone the replies that the configuration does not share,
    so that an episode which a budget cut short repeats at no cost.
    """

    replies: Replies | None = None
    own: Replies | None = None
    budget: Budget | None = None
    prompts: dict[str, PromptBound] = field(default_factory=lambda: defaultdict(PromptBound))  # by model
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the run's own servers, by address

    @asynccontextmanager
    async def reserved(self, model: str, prompt: int | None, completion: int) -> AsyncIterator[None]:
        """Room in the budget for a request whose prompt has `prompt` tokens by our own count; None: without a bound."""
        if self.budget is None or prompt is None:
            yield
            return
        most = self.prompts[model].of(prompt)
        async with self.budget.reserved(Usage(most, completion, price(model, most, completion))):
            yield


class Completions:
    """One model behind litellm, for the side of `source` (USER or ENGINE), which its faults then name.

    Raises ConfigError where the model, or the key that the configuration names, is not set.
    """

    def __init__(
        self, config: UserConfig | PolicyConfig, sampling: Sampling, source: FaultSource, account: Account | None = None
    ):
        self._group = "user" if source is FaultSource.USER else "policy"
        if not config.model:
            raise ConfigError(f"{self._group}.model is not set: give litellm's name of a model")
        self._config, self._sampling, self._source = config, sampling, source
        self._role = Role.USER if source is FaultSource.USER else Role.ASSISTANT
        self._account = account or Account()
        self._key = self._account.tokens.get(config.api_base or "") or find_key(config, self._group)
        self._replies = self._account.replies if keeps_replies(config) else self._account.own
        self.name: str = config.model

    async def complete(self, messages: Chat, tools: Sequence[Schema], seed: int, retry_unusable: bool) -> Reply:
        """One reply; a kept one where the same request was made before. `seed` is the episode's: samples differ by it.

        The usage is that of all requests made for the reply. An unusable reply is requested again with
        `retry_unusable`, else it is returned with its error. Raises FaultError, BudgetReached, and ContextFull where a
        policy's context is full.
        """
        request = self._request(messages, tools, seed)
        if self._replies is None:
            return await self._ask(request, retry_unusable)
        asked = {name: value for name, value in request.items() if name not in NOT_ASKED} | {"seed": _sent(seed)}
        kept = await asyncio.to_thread(self._replies.get, asked)
        if kept is not None:
            usage = kept.usage
            return replace(kept, usage=Usage(reused_tokens=usage.prompt_tokens + usage.completion_tokens))
        reply = await self._ask(request, retry_unusable)
        await asyncio.to_thread(self._replies.put, asked, reply)
        return reply

    async def _ask(self, request: dict[str, Any], retry_unusable: bool) -> Reply:
        await asyncio.to_thread(litellm_module)
        spent = Usage()

        async def attempt() -> Reply:
            nonlocal spent
            reply = await self._attempt(request)
            spent += reply.usage
            if retry_unusable and reply.error:
                raise Unusable(reply.error)
            return reply

        try:
            return replace(await retry(attempt, self._config.retries, _passes), usage=spent)
        except BudgetReached:
            raise
        except Exception as error:
            if self._role is Role.ASSISTANT and says_context_full(error):
                raise ContextFull(self._describe(error)) from error
            raise FaultError(self._source, self._describe(error), spent) from error

    async def _attempt(self, request: dict[str, Any]) -> Reply:
        """One request, which the budget has room for, and what came back, counted."""
        account = self._account
        bounded = account.budget is not None and account.budget.bounded
        counted = self._count(request) if bounded else None
        async with account.reserved(self.name, counted, self._sampling.max_tokens):
            try:
                async with asyncio.timeout(self._config.timeout):
                    response = await litellm_module().acompletion(**request)
            except Exception as error:
                if account.budget and _timed_out(error):  # the server may have answered, and bills for it
                    account.budget.add(self._most(request, counted))
                if not says_unreadable(error):
                    raise
                reply = Reply(None, (), Usage(), "", error="the tool call could not be read by the server")
            else:
                usage = told_usage(response, self.name)
                if counted and usage:
                    account.prompts[self.name].learn(counted, usage.prompt_tokens)
                reply = read_reply(response, self._role, self._sampling.max_tokens, usage or Usage())
            if reply.usage == Usage():
                usage = counted_usage(self.name, self._count(request) if counted is None else counted, reply.text)
                reply = replace(reply, usage=usage)
            if account.budget:
                account.budget.add(reply.usage)
        return reply

    def _most(self, request: dict[str, Any], counted: int | None) -> Usage:
        """What a request without an answer may have used."""
        prompt = self._count(request) if counted is None else counted
        return Usage(prompt, self._sampling.max_tokens, price(self.name, prompt, self._sampling.max_tokens))

    def _count(self, request: dict[str, Any]) -> int:
        return count_prompt(self.name, request["messages"], request.get("tools", ()))

    def _request(self, messages: Chat, tools: Sequence[Schema], seed: int) -> dict[str, Any]:
        config, sampling = self._config, self._sampling
        request: dict[str, Any] = {
            "model": config.model,
            "messages": messages,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "timeout": config.timeout,
            "max_retries": 0,
            "drop_params": True,  # some models take no temperature, or no seed
        }
        if config.seed:
            request["seed"] = _sent(seed)
        if sampling.top_p != 1.0:
            request["top_p"] = sampling.top_p
        if sampling.top_k:
            request["top_k"] = sampling.top_k
        if tools:
            request |= {"tools": list(tools), "tool_choice": "auto"}
        if config.api_base:
            request |= {"api_base": config.api_base, "api_key": "none"}  # a local server asks for no key
        if self._key:
            request["api_key"] = self._key
        return request

    def _describe(self, error: Exception) -> str:
        """What went wrong and what to mend, on one line, never with a key in it."""
        group, model = self._group, self.name
        if self._config.api_base:
            model += f" at {masked(self._config.api_base)}"
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            name = self._config.api_key_env
            key = f"the key in {name}" if name else f"{group}.api_key_env, which names no key"
            return f"{model} refused the key ({status}): check {key}"
        if isinstance(error, Unusable):
            return f"{model} gave no usable reply: {error}"
        if _timed_out(error):
            return f"{model} gave no answer within {self._config.timeout:g} s ({group}.timeout)"
        reason = masked(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
        mend = f": check {group}.model and {group}.api_base" if status in (400, 404, 422) else ""
        pause = asked_pause(error)
        waits = f" (it asks for a pause of {pause:g} s; {LONGEST_ASKED:g} s are waited in all)" if pause else ""
        return f"{model} failed{mend}{waits}: {reason}"


def keeps_replies(config: UserConfig | PolicyConfig) -> bool:
    """Whether replies are kept: by default those of hosted models, since a server may change what it serves."""
    return config.api_base is None if config.cache is None else config.cache


def _sent(seed: int) -> int:
    """The seed as servers take it: 31 bits."""
    return seed & 0x7FFFFFFF


def _timed_out(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or getattr(error, "status_code", None) == 408


def _passes(error: Exception) -> bool:
    """Worth another try: too many requests, the server's own errors, timeouts, lost connections, no usable reply."""
    if says_context_full(error):
        return False
    status = getattr(error, "status_code", None)
    passing = status in (408, 409, 425, 429) or (status is not None and status >= 500)
    return isinstance(error, (TimeoutError, Unusable)) or passing
