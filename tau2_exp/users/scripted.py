"""A customer without a model behind it: deterministic, and honest about what its own tools show.

It opens with why it calls and what it knows, does exactly what it is asked for, reports its tools' words as they
are, and ends when they show its problem gone, when it is told that all is done, or when it is transferred. It reads
the scenario only: neither the criteria of the task nor a verdict.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tau2_exp.domains.wording import Request, want
from tau2_exp.interfaces import World
from tau2_exp.types import Message, Role, Scenario, Task, Usage
from tau2_exp.users.speech import first_person
from tau2_exp.users.understanding import named_calls, understand

STOP, TRANSFER = "###STOP###", "###TRANSFER###"
LOST = "I am not sure what you mean."


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a problem shows: where the scenario matches `sign`, in lines of `tool` that begin with `line`.

    The problem is solved where the last of them matches `gone`.
    """

    sign: str
    tool: str
    line: str
    gone: str


EVIDENCE = (
    Evidence(r"successfully send an? MMS", "can_send_mms", "Your messaging app", r"can send MMS"),
    Evidence(r"speed test returns excellent", "run_speed_test", "Speed ", r"\(Excellent\)"),
    Evidence(r"status bar shows that you have signal", "check_status_bar", "Status Bar:", r"📶"),
)

_TRANSFERRED = re.compile(r"\b(?:are|be|been|being) transferr?ed|\btransferring you|\btransfer you (?:now|to)", re.I)
_DONE = re.compile(
    r"good ?bye|have a (?:great|nice|good|wonderful|lovely)|anything else|all done"
    r"|(?:issue|problem|request)s? (?:is|are|has been|have been) (?:now )?(?:resolved|fixed|solved|complete)",
    re.I,
)
_STILL = re.compile(r"\b(?:resolved|fixed|solved|working|works)\b[^.!]*\?", re.I)
_AMOUNT = re.compile(r"how (?:much (?:data|gb)|many (?:gb|gigabytes))|what amount", re.I)
_PLAN = re.compile(r"(?:change|switch|upgrade|move)\b[^.?!]*\bplan\b", re.I)
_WHO = re.compile(
    r"\b(?:name|number|user ?id|e-?mail|zip|address|identity|location|abroad|travell?ing|verify|identify|who|where)\b",
    re.I,
)
_OPEN_QUESTION = re.compile(
    r"\b(?:what|which|who|when|where|how|why|are you|is your|(?:tell|provide|give|share|confirm|verify)\b)", re.I
)
_STATEMENT = re.compile(r"^\W*(?:okay|ok|great|thank|i|i've|i'm|we|we've|your|the|it|there|this|for|done)\b", re.I)


class ScriptedUser:
    """One customer in one episode, with the tools of its side of the world."""

    name = "scripted"

    def __init__(self, task: Task, world: World):
        self.usage = Usage()
        self._scenario = task.scenario
        self._tools = {schema["function"]["name"]: schema for schema in world.schemas(Role.USER)}
        self._opened = bool(task.history)
        self._asked: list[Request] = []  # by the agent's last message
        self._results: list[Message] = []  # the answers to the first of them
        self._flipped_back = 0  # requests before this one stand as asked, or were tried twice
        told = f"{task.scenario.reason} {task.scenario.guidance}"
        self._evidence = next((e for e in EVIDENCE if e.tool in self._tools and re.search(e.sign, told)), None)

    async def reply(self, heard: Sequence[Message]) -> Message:
        """The next message: words, or calls of the user's own tools, never both."""
        results = [message for message in heard if message.role is Role.TOOL]
        if results:
            return self._after_tools(results)
        if not self._opened:
            self._opened = True
            return _say(_opening(self._scenario))
        return self._answer((heard[-1].content or "") if heard else "")

    def fork(self, world: World, seed: int) -> ScriptedUser:
        """A copy as it stands; it draws nothing at random."""
        other = copy.copy(self)
        other._asked, other._results = list(self._asked), list(self._results)
        return other

    # ------------------------------------------------------------ tools

    def _perform(self, requests: list[Request]) -> Message:
        self._asked, self._results, self._flipped_back = requests, [], 0
        return _call(requests)

    def _after_tools(self, results: list[Message]) -> Message:
        """Report, once every switch stands as asked; one that went the wrong way is flipped back first."""
        self._results.extend(results)
        for index, (request, result) in enumerate(zip(self._asked, self._results, strict=False)):
            if index >= self._flipped_back and _went_wrong(request, result.content or ""):
                self._flipped_back = index + 1
                del self._results[index:]
                return _call(self._asked[index:])
        words = "\n".join(result.content or "" for result in self._results)
        return _say(f"{words}\n{STOP}" if self._solved(words) else words)

    def _solved(self, words: str) -> bool:
        """Whether the tools' last word on the problem says that it is gone."""
        if self._evidence is None:
            return False
        lines = [line for line in words.split("\n") if line.startswith(self._evidence.line)]
        return bool(lines) and re.search(self._evidence.gone, lines[-1]) is not None

    # ------------------------------------------------------------ words

    def _answer(self, said: str) -> Message:
        if _TRANSFERRED.search(said):
            return _say(TRANSFER)
        requests = named_calls(said, self._tools)
        requests = requests or [request for request in understand(said) if request.call.name in self._tools]
        if requests:
            return self._perform(requests)
        if self._evidence and _STILL.search(said):
            return self._perform([want(self._evidence.tool)])
        if _DONE.search(said):
            return _say(f"Thank you. {STOP}")
        return _say(self._talk(said))

    def _talk(self, said: str) -> str:
        """An answer from what the scenario says, to a message that asks for nothing to be done."""
        asks = "?" in said or "please" in said.lower()
        if not asks:
            return "Okay." if _STATEMENT.match(said) else LOST
        refuel = re.search(r"refuel ([\d.]+) GB", self._scenario.guidance)
        if refuel and _AMOUNT.search(said):
            return f"{refuel[1]} GB, please."
        if _PLAN.search(said) and "do not want to change your mobile data plan" in self._scenario.guidance:
            return "No, I do not want to change my plan."
        if _OPEN_QUESTION.search(said):
            if _WHO.search(said):
                return first_person(self._scenario.known) or LOST
            if not self._tools:
                return first_person(self._scenario.reason) or LOST
            return LOST
        return "Yes, please." if "?" in said else LOST


def _opening(scenario: Scenario) -> str:
    told = [first_person(text) for text in (scenario.reason, scenario.known) if text]
    return " ".join(told) or first_person(scenario.instructions) or "Hello."


def _went_wrong(request: Request, result: str) -> bool:
    position = re.search(r"is now (ON|OFF)", result)
    return request.wanted is not None and position is not None and position[1] != request.wanted


def _say(text: str) -> Message:
    return Message(Role.USER, text)


def _call(requests: Sequence[Request]) -> Message:
    return Message(Role.USER, tool_calls=tuple(request.call for request in requests))
