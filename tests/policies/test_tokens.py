"""A policy of tokens: a turn that was cut is no whole turn, whoever generates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from dialogues import CharTokenizer
from players import CounterWorld, make_spec

from tau2_exp.config import ProtocolName
from tau2_exp.policies.tokens import TokenPolicy
from tau2_exp.protocols import make_protocol
from tau2_exp.types import Action, Generation, Message, Role, Sampling, Turn, stable_seed

NATIVE = make_protocol(ProtocolName.native)
TOKENIZER = CharTokenizer(NATIVE)
ROOM = 200


class Saying:
    """Samples a text, as far as the bound lets it; a stop at the bound itself it calls "length", as SGLang does."""

    def __init__(self, text: str):
        self.ids = TOKENIZER.encode(text)

    def open(self, session: int) -> None: ...

    def close(self, session: int) -> None: ...

    async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
        sampled = tuple(self.ids[: sampling.max_tokens])
        finish = "length" if len(sampled) == sampling.max_tokens else "stop"
        return Generation(sampled, (0.0,) * len(sampled), finish)


def act(text: str, max_tokens: int, context: int = 10_000) -> Action:
    prompts = {"counting": ("Count.", None)}
    policy = TokenPolicy("m", Saying(text), NATIVE, TOKENIZER, prompts, Sampling(max_tokens=max_tokens), context)
    task = make_spec().task
    agent = policy.make_agent(CounterWorld(task), make_spec())
    return asyncio.run(agent.act([Message(Role.USER, "Hello.")]))


@pytest.mark.parametrize("spare", [0, 5])
def test_a_turn_that_ends_at_its_bound_is_whole(spare: int) -> None:
    action = act("Hi.<|im_end|>", max_tokens=4 + spare)
    assert action.message == Message(Role.ASSISTANT, "Hi.") and not action.truncated


def test_a_turn_that_is_cut_is_unparsable_though_its_beginning_could_be_read() -> None:
    action = act("Hi, I will now look at it.<|im_end|>", max_tokens=20)
    assert action.message is None and action.truncated and action.error == "cut at max_tokens (20): write less"
    assert action.tokens is not None and len(action.tokens.sampled) == 20, "it is recorded as it was sampled"


def test_a_turn_that_is_cut_by_the_context_says_so() -> None:
    used = 10_000 - int((act("x" * 10_000, 10_000).error or "").partition("(")[2].partition(")")[0])
    action = act("Hi, I will now look at it.<|im_end|>", max_tokens=512, context=used + 20)
    assert action.truncated and action.error == "cut at the end of the context (20): write less"


def test_an_agent_that_goes_on_hears_and_says_what_the_first_would_have() -> None:
    """Its context is that of the token record, and the seed of its turns is its own."""
    asked: list[tuple[list[int], int]] = []

    class Noting(Saying):
        async def generate(self, session: int, ids: Sequence[int], sampling: Sampling, seed: int) -> Generation:
            asked.append((list(ids), seed))
            return await super().generate(session, ids, sampling, seed)

    policy = TokenPolicy(
        "m", Noting("Hi.<|im_end|>"), NATIVE, TOKENIZER, {"counting": ("Count.", None)}, Sampling(), 10_000
    )
    world = CounterWorld(make_spec().task)
    agent, turns = policy.make_agent(world, make_spec()), []
    for words in ("Hello.", "And?", "So?"):
        turns.append(Turn("", (), tokens=asyncio.run(agent.act([Message(Role.USER, words)])).tokens))
    for spec in (make_spec(), make_spec(5)):
        fork = policy.continue_agent(world, spec, turns[:2])
        assert asyncio.run(fork.act([Message(Role.USER, "So?")])).tokens == turns[2].tokens
        assert asked[-1] == (asked[2][0], stable_seed(spec.seed, 2))
    with pytest.raises(ValueError, match="turn 1 has no token record"):
        policy.continue_agent(world, make_spec(), [turns[0], Turn("", ())])
