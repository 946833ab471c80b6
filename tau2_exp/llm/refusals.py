"""What a server's refusal means: the words and codes of the servers that are in use."""

from __future__ import annotations

import re
from collections.abc import Iterator

# vLLM, OpenAI, SGLang, Mistral, llama.cpp and llama-cpp-python, Anthropic, Bedrock, Gemini, Cohere, TGI, DashScope.
_CONTEXT_FULL = re.compile(
    r"context[ _-]?(?:length|window|size|limit)"
    r"|maximum (?:model|input|prompt|allowed) length|max_model_len"
    r"|(?:prompt|input|request|inputs?) (?:is|are) too (?:long|large)|too large for model"
    r"|(?:prompt|input|message)s? (?:length )?(?:exceeds?|is longer than)"
    r"|exceeds? the maximum number of (?:input )?tokens|exceeded model token limit"
    r"|reduce the length of the (?:messages|prompt|input)|range of input length"
    r"|tokens. ?\+ ?.max_new_tokens. must be|inputs. must have less than|total number of tokens in the prompt"
    r"|max_(?:completion_)?tokens must be at least 1, got [-0]",
    re.IGNORECASE,
)
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"}
# Groq, llama.cpp, Ollama: the server could not read the tool call that its model wrote.
_UNREADABLE = re.compile(
    r"tool_use_failed|failed_generation|failed to parse (?:input at pos|tool call)|error parsing tool call"
    r"|malformed_function_call",
    re.IGNORECASE,
)
_ELSE = (401, 402, 403, 404, 429)  # of the key, the money, the address, the pace: never of what was sent


def says_context_full(error: Exception) -> bool:
    """Whether a server refused a request since its model's context has no room for it."""
    for cause in _causes(error):
        if getattr(cause, "status_code", None) in _ELSE:
            return False
        if type(cause).__name__ == "ContextWindowExceededError" or _codes(cause) & _CONTEXT_CODES:
            return True
    return bool(_CONTEXT_FULL.search(str(error)))


def is_context_full(text: str) -> bool:
    """Whether the text of a server's refusal says that the model's context has no room."""
    return bool(_CONTEXT_FULL.search(text)) or any(code in text for code in _CONTEXT_CODES)


def says_unreadable(error: Exception) -> bool:
    """Whether a server could not read what its own model wrote: the model's mistake, and not the server's."""
    if any(getattr(cause, "status_code", None) in _ELSE for cause in _causes(error)):
        return False
    texts = [str(error), *(code for cause in _causes(error) for code in _codes(cause))]
    return any(_UNREADABLE.search(text) for text in texts)


def _codes(error: BaseException) -> set[str]:
    """The code and the type of an error, as OpenAI's API names them."""
    body = getattr(error, "body", None)
    fields = body if isinstance(body, dict) else {}
    nested = fields.get("error") if isinstance(fields.get("error"), dict) else {}
    named = (getattr(error, "code", None), *(f.get(key) for f in (fields, nested or {}) for key in ("code", "type")))
    return {str(value) for value in named}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from: a client wraps what the server said."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
