"""SGLang's /generate as this engine implements it: JSON → a request, a generation → JSON.

Source: SGLang's documentation (docs.sglang.io: Native APIs, Sampling Parameters). What a request asks for beyond it
is refused by name, never passed over. What is read here can be generated beside others: nothing in it can fail later.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, NoReturn

from tau2_exp.engines.torch.tokenizer import TextTokenizer
from tau2_exp.types import Generation, Sampling

NEW_TOKENS = 128  # where a request does not say, as with SGLang
GREEDY_BELOW = 1e-6  # a temperature under this is greedy
HOTTEST = 1e6  # above it every token is as likely as another, to float32
ALL_IDS = 1 << 30  # a top-k as large as this is none
SEED_BITS = 64
MOST_STOPS = 64  # each is looked for after every token
LONGEST_TEXT = 1024  # characters of a stop, of a request's name, of a version

_REQUEST = {"rid", "input_ids", "sampling_params", "return_logprob"}
_PARAMS = set(
    "temperature top_p top_k max_new_tokens stop stop_token_ids ignore_eos no_stop_trim skip_special_tokens "
    "spaces_between_special_tokens sampling_seed".split()
)
_NEUTRAL = {"logprob_start_len": -1, "n": 1, "repetition_penalty": 1}  # of other keys: what is empty or zero


class Refused(ValueError):
    """A request that is answered with status 400; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One turn to be generated. `stops` is text that ends it; without a seed the draws are the server's own."""

    name: str
    ids: list[int]
    sampling: Sampling
    stops: tuple[str, ...] = ()
    seed: int | None = None
    log_probs: bool = False
    trim: bool = True  # cut what ended the turn off its text
    specials: bool = False  # leave special tokens in its text


@dataclass(frozen=True, slots=True)
class Swap:
    """A request to load other weights. `abort` ends the running turns."""

    path: str
    version: str | None
    abort: bool


def read_body(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request, read as RFC 8259 has it; Python's own reader takes UTF-16 and NaN too.

    Raises Refused, also for text that no answer could hold (half a surrogate pair).
    """
    try:
        text = raw.decode()
        body = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(body, ensure_ascii=False).encode()
    except Refused:
        raise
    except UnicodeDecodeError:
        raise Refused("the request is not UTF-8") from None
    except UnicodeEncodeError:
        raise Refused("the request holds half a surrogate pair, which is no text") from None
    except RecursionError:
        raise Refused("the request is nested too deep") from None
    except json.JSONDecodeError as error:
        raise Refused(f"the request is not JSON: {error}") from None
    except ValueError:
        raise Refused("the request holds a number of too many digits") from None
    if not isinstance(body, dict):
        raise Refused("the request is not a JSON object")
    return body


def read_abort(body: dict[str, Any]) -> str | None:
    """The name of the request to end; None for all. Raises Refused."""
    given = _Fields(body, "")
    name = given.text("rid")
    if given.flag("abort_all", False):
        return None
    if not name:
        raise Refused("abort_request: rid is missing, or abort_all")
    return name


def read_swap(body: dict[str, Any]) -> Swap:
    """The request to load other weights. Raises Refused."""
    given = _Fields(body, "")
    path = given.text("model_path", longest=1 << 12)
    if not path or "\0" in path:
        raise Refused("update_weights_from_disk: model_path is missing, a checkpoint's folder")
    return Swap(path, given.text("weight_version"), given.flag("abort_all_requests", False))


def read_request(body: dict[str, Any], vocab_size: int, context: int, eos: Sequence[int]) -> Request:
    """The turn that a body requests. Raises Refused: not of the protocol, unsupported, or without room in `context`."""
    _refuse_others(body, _REQUEST, "")
    params = body.get("sampling_params")
    params = {} if params is None else params
    if not isinstance(params, dict):
        raise Refused("sampling_params is not an object (one request at a time is served)")
    _refuse_others(params, _PARAMS, "sampling_params.")
    top, given = _Fields(body, ""), _Fields(params, "sampling_params.")
    ids = _ids(body.get("input_ids"), "input_ids", vocab_size)
    if not ids:
        raise Refused("input_ids is missing: token ids go in, at least one")
    if len(ids) >= context:
        raise Refused(f"The input ({len(ids)} tokens) is longer than the model's context length ({context} tokens).")
    return Request(
        name=top.text("rid") or uuid.uuid4().hex,
        ids=ids,
        sampling=_sampling(given, len(ids), vocab_size, context, eos),
        stops=_stops(params.get("stop")),
        seed=given.seed(),
        log_probs=top.flag("return_logprob", False),
        trim=not given.flag("no_stop_trim", False),
        specials=not given.flag("skip_special_tokens", True),
    )


def whole_turn(stops: Sequence[str], tokenizer: TextTokenizer, ids: Sequence[int]) -> str | None:
    """The stop string that the last of `ids` completed, if one did: a token is one byte of it or more."""
    longest = max((len(stop.encode()) for stop in stops), default=0)
    tail = tokenizer.decode(ids[-longest - 1 :]) if longest else ""
    return next((stop for stop in stops if stop in tail), None)


def answer(request: Request, generation: Generation, tokenizer: TextTokenizer, about: dict[str, Any]) -> dict[str, Any]:
    """The JSON of one generation; `about` is added to its meta_info."""
    finish, ids = _finish(request, generation, tokenizer), generation.ids
    matched = finish.get("matched")
    shown = ids[:-1] if isinstance(matched, int) and request.trim else ids
    text = tokenizer.decode(shown) if request.specials else tokenizer.decode_words(shown)
    if isinstance(matched, str) and matched in text:
        text = text[: text.index(matched) + (0 if request.trim else len(matched))]
    meta = {
        "id": request.name,
        "finish_reason": finish,
        "prompt_tokens": len(request.ids),
        "completion_tokens": len(ids),
        **about,
    }
    if request.log_probs:
        pairs = zip(generation.log_probs, ids, strict=True)
        meta |= {"input_token_logprobs": [], "output_token_logprobs": [[p, token, None] for p, token in pairs]}
    return {"text": text, "output_ids": list(ids), "meta_info": meta}


def _finish(request: Request, generation: Generation, tokenizer: TextTokenizer) -> dict[str, Any]:
    ids = generation.ids
    if generation.finish == "abort":
        return {"type": "abort", "message": "the request was aborted"}
    if generation.finish == "length":
        return {"type": "length", "length": len(ids)}
    by_token = ids[-1] in request.sampling.stop_ids
    return {"type": "stop", "matched": ids[-1] if by_token else whole_turn(request.stops, tokenizer, ids)}


def _sampling(given: _Fields, used: int, vocab_size: int, context: int, eos: Sequence[int]) -> Sampling:
    temperature = given.number("temperature", 1.0, 0.0, HOTTEST)
    top_p = given.number("top_p", 1.0, 0.0, 1.0)
    top_k = given.integer("top_k", -1, -1, ALL_IDS)
    new = given.integer("max_new_tokens", min(NEW_TOKENS, context - used), 1, ALL_IDS)
    if top_p == 0 or top_k == 0:
        raise Refused("sampling_params: top_p must be above 0, and top_k 1 or more, or -1 for all tokens")
    if used + new > context:
        raise Refused(f"{used} tokens and {new} new ones are more than the model's context length ({context} tokens).")
    stop_ids = {*_ids(given.values.get("stop_token_ids"), "stop_token_ids", vocab_size), *eos}
    return Sampling(
        temperature=0.0 if temperature < GREEDY_BELOW else temperature,
        top_p=top_p,
        top_k=0 if top_k in (-1, ALL_IDS) else top_k,
        max_tokens=new,
        stop_ids=() if given.flag("ignore_eos", False) else tuple(sorted(stop_ids)),
    )


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise Refused("sampling_params.stop is neither a text nor a list of texts")
    if len(stops) > MOST_STOPS or any(len(stop) > LONGEST_TEXT for stop in stops):
        raise Refused(f"sampling_params.stop: must be at most {MOST_STOPS} texts of at most {LONGEST_TEXT} characters")
    return tuple(stops)


def _ids(value: Any, name: str, vocab_size: int) -> list[int]:
    ids = [] if value is None else value
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise Refused(f"{name} is not one list of token ids")
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        raise Refused(
            f"{name}: ids go from 0 to {vocab_size - 1}; these go from {short(min(ids))} to {short(max(ids))}"
        )
    return ids


def _refuse_others(given: dict[str, Any], known: set[str], where: str) -> None:
    for key, value in given.items():
        neutral = value == _NEUTRAL[key] if key in _NEUTRAL else not value
        if key not in known and value is not None and not neutral:
            raise Refused(f"{where}{short(key)[1:-1]}={short(value)} is not supported by the torch engine")


def _refuse_constant(name: str) -> NoReturn:
    raise Refused(f"the request holds {name}, which JSON does not have")


class _Fields:
    """Fields as they came, named in refusals with `where` before them; null stands for the default."""

    def __init__(self, values: dict[str, Any], where: str):
        self.values, self._where = values, where

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self._refusal(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self._get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self._refusal(key, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._refusal(key, value, "true or false")
        return value

    def text(self, key: str, longest: int = LONGEST_TEXT) -> str | None:
        value = self._get(key, None)
        if value is not None and not (isinstance(value, str) and len(value) <= longest):
            raise self._refusal(key, value, f"a text of at most {longest} characters")
        return value

    def seed(self) -> int | None:
        if self.values.get("sampling_seed") is None:
            return None
        return self.integer("sampling_seed", 0, 0, (1 << SEED_BITS) - 1)

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def _refusal(self, key: str, value: Any, wanted: str) -> Refused:
        return Refused(f"{self._where}{key}={short(value)}: must be {wanted}")
