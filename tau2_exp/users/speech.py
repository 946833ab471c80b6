"""τ²-bench's scenarios address the user simulator ("You are …"): the same, in the first person."""

from __future__ import annotations

import re

# After one of these words "you" is an object: "told you", "to you".
_OBJECT = (
    r"to|for|with|at|of|from|by|about|than|between|tell|tells|told|give|gives|gave|let|help|helps|assist|ask|asks|asked|"
    r"inform|informs|informed|allow|allows|offer|offers|offered|remind|charge|charged|charges|refund|refunded|send|sent|"
    r"show|shows|contact|make|makes|want|wants|got|get|cost|costs"
)

_RULES = (
    (r"\byou mobile\b", "my mobile"),  # "You mobile data is not working", as τ²-bench's telecom tasks have it
    (r"\byourself\b", "myself"),
    (r"\byours\b", "mine"),
    (r"\byour\b", "my"),
    (r"\byou(?:'re| are)\b", "I am"),
    (r"\bare you\b", "am I"),
    (r"\byou(?:'ve| have)\b", "I have"),
    (r"\byou were\b", "I was"),
    (r"\byou(?:'d)\b", "I'd"),
    (r"\byou(?:'ll)\b", "I'll"),
    (rf"\b({_OBJECT}) you\b", r"\1 me"),
    (r"\byou\b", "I"),
)


def first_person(text: str) -> str:
    """The text with "you" become "I", on one line, its sentences beginning with capitals."""
    text = " ".join(text.split())
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text, flags=re.I)
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)
