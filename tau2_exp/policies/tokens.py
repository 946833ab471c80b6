"""A policy that is a language model seen as tokens: what it samples is kept, what it hears is tokenised once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tau2_exp.interfaces import Generator, Tokenizer, World
from tau2_exp.learning.batch import Transcript
from tau2_exp.protocols import Parsed, Protocol
from tau2_exp.types import (
    Action,
    ContextFull,
    EpisodeSpec,
    Message,
    Sampling,
    Schema,
    TokenSpan,
    Turn,
    Usage,
    stable_seed,
)

SMALLEST_TURN = 16  # tokens: with less room than this left, a turn cannot say anything


class TokenPolicy:
    """A Generator behind a protocol and a tokenizer.

    `prompts` gives each domain's document and tool schemas (None: not shown); `context` is the
    number of tokens an episode may hold.
    """

    def __init__(
        self,
        name: str,
        generator: Generator,
        protocol: Protocol,
        tokenizer: Tokenizer,
        prompts: Mapping[str, tuple[str, list[Schema] | None]],
        sampling: Sampling,
        context: int,
    ):
        self.name = name
        self.generator = generator
        self.protocol = protocol
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.context = context
        stop_ids = [tokenizer.token_id(stop) for stop in protocol.stops]
        self.sampling = dataclasses.replace(sampling, stop_ids=tuple(i for i in stop_ids if i is not None))

    def make_agent(self, world: World, spec: EpisodeSpec) -> _TokenAgent:
        """Make the agent of one episode, and open the generator's session of its index."""
        return _TokenAgent(self, spec)

    def continue_agent(self, world: World, spec: EpisodeSpec, turns: Sequence[Turn]) -> _TokenAgent:
        """Make the agent of an episode whose first turns were these, from their token record.

        Raises ValueError where a turn has none.
        """
        return _TokenAgent(self, spec, turns)


class _TokenAgent:
    def __init__(self, policy: TokenPolicy, spec: EpisodeSpec, turns: Sequence[Turn] = ()):
        self.policy, self.spec, self.turn = policy, spec, len(turns)
        self.transcript = Transcript(policy.protocol, policy.tokenizer)
        self.pending = [] if turns else self.transcript.start(*policy.prompts[spec.task.domain])
        self.ids: list[int] = []
        for number, turn in enumerate(turns):
            if turn.tokens is None:
                raise ValueError(f"{spec.task.key}: turn {number} has no token record to go on from")
            self.ids += [*turn.tokens.context, *turn.tokens.sampled]
        if turns and turns[-1].tokens:
            self.transcript.say(turns[-1].tokens.sampled)
        policy.generator.open(spec.index)

    async def act(self, heard: Sequence[Message]) -> Action:
        """A turn that was cut is no whole turn, even where its beginning could be read: it is unparsable.

        Its tokens are recorded as sampled: GRPO credits them as any unparsable turn's, RFT does not train on them.
        SGLang calls a turn whose stop is the last token of the bound "length" too; that one is whole.
        """
        context = [*self.pending, *self.transcript.hear(heard)]
        self.pending = []
        self.ids.extend(context)
        policy = self.policy
        room = policy.context - len(self.ids)
        if room < SMALLEST_TURN:
            raise ContextFull
        sampling = dataclasses.replace(policy.sampling, max_tokens=min(policy.sampling.max_tokens, room))
        seed = stable_seed(self.spec.seed, self.turn)
        generation = await policy.generator.generate(self.spec.index, self.ids, sampling, seed)
        self.turn += 1
        self.ids.extend(generation.ids)
        self.transcript.say(generation.ids)
        text = policy.tokenizer.decode(generation.ids)
        cut = generation.finish == "length" and generation.ids[-1] not in sampling.stop_ids
        parsed = Parsed(error=_cut_at(sampling, policy.sampling)) if cut else policy.protocol.parse(text)
        return Action(
            message=parsed.message,
            text=text,
            done=parsed.done,
            error=parsed.error,
            truncated=cut,
            tokens=TokenSpan(tuple(context), generation.ids, generation.log_probs, generation.entropy),
            usage=Usage(len(self.ids) - len(generation.ids), len(generation.ids)),
        )

    def close(self) -> None:
        self.policy.generator.close(self.spec.index)


def _cut_at(sampling: Sampling, bound: Sampling) -> str:
    """What the agent hears after a turn that was cut: at its own bound, or at the room that was left."""
    where = "max_tokens" if sampling.max_tokens == bound.max_tokens else "the end of the context"
    return f"cut at {where} ({sampling.max_tokens}): write less"
