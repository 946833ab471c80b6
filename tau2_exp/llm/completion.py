"""Chat completions through litellm, for users and policies alike: one client, one retry policy, one conversion."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any

from tau2_exp.config import ConfigError, PolicyConfig, UserConfig
from tau2_exp.llm.budget import Budget
from tau2_exp.llm.replies import Replies, Reply
from tau2_exp.llm.retry import retry
from tau2_exp.llm.secrets import secret
from tau2_exp.types import (
    BudgetReached,
    ContextFull,
    FaultError,
    FaultSource,
    Message,
    Role,
    Sampling,
    Schema,
    ToolCall,
    Usage,
)

Chat = list[dict[str, Any]]  # OpenAI's messages
NOT_ASKED = ("api_key", "timeout", "max_retries", "drop_params")  # of a request: they do not change its reply


class Unusable(Exception):
    """A reply that says nothing, or whose tool arguments are no JSON object."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the completions of one run share.

    `resumable` says that every reply is kept: an episode that is cut short is played again for nothing, so that the
    budget is looked at before each request, and not only before each episode.
    """

    replies: Replies | None = None
    budget: Budget | None = None
    resumable: bool = False
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the run's own servers, by address

    @property
    def admits(self) -> bool:
        """Whether another episode may begin."""
        return self.resumable or self.budget is None or not self.budget.reached


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
        self._key = (
            secret(config.api_key_env) if config.api_key_env else self._account.tokens.get(config.api_base or "")
        )
        self._replies = self._account.replies if keeps_replies(config) else None
        self.name = config.model

    async def complete(self, messages: Chat, tools: Sequence[Schema], seed: int, retry_unusable: bool) -> Reply:
        """One reply, a kept one where the same was asked before: `seed`, the episode's, tells samples apart.

        Raises FaultError; BudgetReached; ContextFull where a policy's context is; Unusable unless that is retried.
        """
        request = self._request(messages, tools, seed)
        if self._replies is None:
            return await self._ask(request, retry_unusable)
        asked = {name: value for name, value in request.items() if name not in NOT_ASKED}
        kept = await asyncio.to_thread(self._replies.get, asked)
        if kept is not None:
            usage = kept.usage
            return replace(kept, usage=Usage(reused_tokens=usage.prompt_tokens + usage.completion_tokens))
        reply = await self._ask(request, retry_unusable)
        await asyncio.to_thread(self._replies.put, asked, reply)
        return reply

    async def _ask(self, request: dict[str, Any], retry_unusable: bool) -> Reply:
        litellm = await asyncio.to_thread(_litellm)
        budget = self._account.budget

        async def attempt() -> Reply:
            if budget and budget.reached and self._account.resumable:
                raise BudgetReached
            async with asyncio.timeout(self._config.timeout):
                response = await litellm.acompletion(**request)
            usage = _usage(litellm, response, self.name)
            if budget:
                budget.add(usage)
            return self._read(response, usage)

        def passes(error: Exception) -> bool:
            return (retry_unusable and isinstance(error, Unusable)) or _passes(error)

        try:
            return await retry(attempt, self._config.retries, passes)
        except BudgetReached:
            raise
        except Exception as error:
            if self._role is Role.ASSISTANT and isinstance(error, litellm.ContextWindowExceededError):
                raise ContextFull(str(error)) from error
            if isinstance(error, Unusable) and not retry_unusable:
                raise
            raise FaultError(self._source, self._describe(error)) from error

    def _request(self, messages: Chat, tools: Sequence[Schema], seed: int) -> dict[str, Any]:
        config, sampling = self._config, self._sampling
        request: dict[str, Any] = {
            "model": config.model,
            "messages": messages,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "seed": seed & 0x7FFFFFFF,
            "timeout": config.timeout,
            "max_retries": 0,
            "drop_params": True,  # some models take no temperature, or no seed
        }
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

    def _read(self, response: Any, usage: Usage) -> Reply:
        message = response.choices[0].message
        calls = tuple(self._call(call) for call in message.tool_calls or ())
        content = message.content if (message.content or "").strip() else None
        if content is None and not calls:
            raise Unusable("the model's reply was empty")
        return Reply(content, calls, usage)

    def _call(self, call: Any) -> ToolCall:
        try:
            arguments = json.loads(call.function.arguments or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Unusable(f"the arguments of {call.function.name} are not a JSON object: {call.function.arguments!r}")
        return ToolCall(call.function.name, arguments, self._role, call.id or "")

    def _describe(self, error: Exception) -> str:
        """What went wrong and what to mend, on one line, never with a key in it."""
        group, model = self._group, self.name
        if self._config.api_base:
            model += f" at {self._config.api_base}"
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            name = self._config.api_key_env
            key = f"the key in {name}" if name else f"{group}.api_key_env, which names no key"
            return f"{model} refused the key ({status}): check {key}"
        if isinstance(error, TimeoutError) or status == 408:
            return f"{model} gave no answer within {self._config.timeout:g} s ({group}.timeout)"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if self._key:
            reason = reason.replace(self._key, "***")
        mend = f": check {group}.model and {group}.api_base" if status in (400, 404, 422) else ""
        return f"{model} failed{mend}: {reason}"


def keeps_replies(config: UserConfig | PolicyConfig) -> bool:
    """Whether replies are kept: by default those of hosted models, since a server may change what it serves."""
    return config.api_base is None if config.cache is None else config.cache


class Conversation:
    """A chat as one side of an episode sees it: its own words are the assistant's, the other's are the user's."""

    def __init__(self, system: str, role: Role):
        self.messages: Chat = [{"role": "system", "content": system}]
        self._role = role

    def hear(self, heard: Sequence[Message]) -> None:
        self.messages.extend(self._convert(message) for message in heard)

    def say(self, reply: Reply) -> None:
        self.messages.append(_spoken(reply.content, reply.tool_calls))

    def _convert(self, message: Message) -> dict[str, Any]:
        if message.role is Role.TOOL and message.call_id:
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.content or ""}
        if message.role is self._role:
            return _spoken(message.content, message.tool_calls)
        return {"role": "user", "content": message.content or ""}


def _spoken(content: str | None, calls: Sequence[ToolCall]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for c in calls
        ]
    return message


def _passes(error: Exception) -> bool:
    """Worth another try: too many requests, the server's own errors, timeouts, lost connections."""
    status = getattr(error, "status_code", None)
    return isinstance(error, TimeoutError) or status in (408, 409, 425, 429) or (status is not None and status >= 500)


def _usage(litellm: ModuleType, response: Any, model: str) -> Usage:
    usage = getattr(response, "usage", None)
    return Usage(
        getattr(usage, "prompt_tokens", 0) or 0,
        getattr(usage, "completion_tokens", 0) or 0,
        _dollars(litellm, response, model),
    )


def _dollars(litellm: ModuleType, response: Any, model: str) -> float | None:
    """By the price of the model that the reply names, else of the one that was asked for; None where none is listed."""
    for named in (None, model):
        try:
            return float(litellm.completion_cost(response, model=named))
        except Exception:  # litellm raises bare Exceptions for models without a price
            continue
    return None


def has_price(model: str) -> bool:
    """Whether litellm's own table lists what the model's tokens cost."""
    try:
        _litellm().cost_per_token(model=model, prompt_tokens=1, completion_tokens=1)
    except Exception:  # as above
        return False
    return True


@cache
def _litellm() -> ModuleType:
    """litellm, without asking the network for prices as its import would. Takes 3.5 s: call it in a thread."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        import litellm
    except ImportError as error:
        raise ImportError("litellm is not installed: pip install 'tau2_exp[litellm]'") from error
    litellm.suppress_debug_info = True
    return litellm
