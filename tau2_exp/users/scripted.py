"""A customer without a model behind it: deterministic, and honest about what its own tools show.

It opens with why it calls and what it knows, does exactly what it is asked for, reports its tools' words as they
are, and ends when they show its problem gone, when it is told that all is done, or when it is transferred. It reads
the scenario only: neither the criteria of the task nor a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tau2_exp.types import Message, Role, Task, ToolCall, Usage, World
from tau2_exp.users.speech import first_person
from tau2_exp.wording import Request, understand, want

STOP, TRANSFER = "###STOP###", "###TRANSFER###"
LOST = "I am not sure what you mean."

# What in the scenario says how the problem shows: the tool that shows it, and its words when the problem is gone.
EVIDENCE = (
    (r"successfully send an? MMS", "can_send_mms", r"can send MMS messages"),
    (r"speed test returns excellent", "run_speed_test", r"\(Excellent\)"),
    (r"status bar shows that you have signal", "check_status_bar", r"Status Bar: (?!.*(?:No Signal|Airplane Mode))"),
)

_TRANSFERRED = re.compile(
    r"(?:being|been|are|be) transferr?ed|transferring you|transfer you (?:now|to)|connect you (?:to|with) a human", re.I
)
_DONE = re.compile(
    r"good ?bye|have a (?:great|nice|good|wonderful|lovely)|anything else|all done|"
    r"(?:issue|problem|request)s? (?:is|are|has been|have been|was) (?:now )?(?:fully |completely )?(?:resolved|fixed|solved|completed?)",
    re.I,
)
_STILL = re.compile(r"\b(?:resolved|fixed|solved|working|works)\b[^.!]*\?", re.I)
_AMOUNT = re.compile(r"how much (?:data|gb)|how many (?:gb|gigabytes)|what amount", re.I)
_PLAN = re.compile(r"(?:change|switch|upgrade|move)\b[^.?!]*\bplan\b", re.I)
_IDENTITY = re.compile(
    r"\b(?:your|the)\b[^.?!]*\b(?:name|phone number|number|user ?id|email|zip|address|identity|location|order)\b|"
    r"who (?:am i|are you)|verify|identify|where are you|abroad|travell?ing|outside",
    re.I,
)
_OPEN_QUESTION = re.compile(
    r"\b(?:what|which|who|when|where|how|why|could you (?:tell|provide|give)|please (?:tell|provide|give))\b", re.I
)
_STATEMENT = re.compile(
    r"^\W*(?:okay|ok|great|thank\w*|good|alright|perfect|i|i've|i'm|i'll|we|we've|your|the|it|there|this|that)\b", re.I
)


class ScriptedUser:
    """One customer in one episode, with the tools of its side of the world."""

    name = "scripted"

    def __init__(self, task: Task, world: World):
        self.usage = Usage()
        self._task = task
        self._tools = {schema["function"]["name"] for schema in world.schemas(Role.USER)}
        self._opened = bool(task.history)
        self._asked: list[Request] = []  # what the last message of the agent asked for
        self._results: list[Message] = []  # the answers to the first of them
        self._corrected: set[int] = set()

    async def reply(self, heard: Sequence[Message]) -> Message:
        """The next message: words, or calls of its own tools, never both."""
        results = [message for message in heard if message.role is Role.TOOL]
        if results:
            return self._after_tools(results)
        if not self._opened:
            self._opened = True
            return _say(self.opening)
        return self._answer(heard[-1].content or "" if heard else "")

    @property
    def opening(self) -> str:
        scenario = self._task.scenario
        told = [first_person(text) for text in (scenario.reason, scenario.known) if text]
        return " ".join(told) or first_person(scenario.instructions) or "Hello."

    # ------------------------------------------------------------ tools

    def _perform(self, requests: list[Request]) -> Message:
        self._asked, self._results, self._corrected = requests, [], set()
        return _call(requests)

    def _after_tools(self, results: list[Message]) -> Message:
        """Report, once every switch stands as asked; one that went the wrong way is flipped back first."""
        self._results.extend(results)
        for index, (request, result) in enumerate(zip(self._asked, self._results, strict=False)):
            wrong = (
                request.wanted
                and f"is now {request.wanted}" not in (result.content or "")
                and "is now" in (result.content or "")
            )
            if wrong and index not in self._corrected:
                self._corrected.add(index)
                del self._results[index:]
                return _call(self._asked[index:])
        words = "\n".join(result.content or "" for result in self._results)
        return _say(f"{words}\n{STOP}" if self._solved(words) else words)

    def _solved(self, words: str) -> bool:
        """Whether the tools' last word on the problem says that it is gone."""
        evidence = self._evidence()
        if evidence is None:
            return False
        tool, gone = evidence
        lines = [line for line in words.split("\n") if _speaks_of(tool, line)]
        return bool(lines) and re.search(gone, lines[-1]) is not None

    def _evidence(self) -> tuple[str, str] | None:
        told = f"{self._task.scenario.reason} {self._task.scenario.guidance}"
        return next(
            ((tool, gone) for sign, tool, gone in EVIDENCE if tool in self._tools and re.search(sign, told)), None
        )

    # ------------------------------------------------------------ words

    def _answer(self, said: str) -> Message:
        if _TRANSFERRED.search(said):
            return _say(TRANSFER)
        requests = [request for request in understand(said) if request.call.name in self._tools]
        if requests:
            return self._perform(requests)
        evidence = self._evidence()
        if evidence and _STILL.search(said):
            return self._perform([want(evidence[0])])
        if _DONE.search(said):
            return _say(f"Thank you. {STOP}")
        return _say(self._talk(said))

    def _talk(self, said: str) -> str:
        scenario, asks = self._task.scenario, "?" in said or "please" in said.lower()
        refuel = re.search(r"refuel ([\d.]+) GB", scenario.guidance)
        if refuel and _AMOUNT.search(said):
            return f"{refuel[1]} GB, please."
        if "do not want to change your" in scenario.guidance and asks and _PLAN.search(said):
            return "No, I do not want to change my plan."
        if asks and _OPEN_QUESTION.search(said) and not _IDENTITY.search(said) and not self._tools:
            return first_person(scenario.guidance) or first_person(scenario.reason) or LOST
        if asks and _IDENTITY.search(said) and (_OPEN_QUESTION.search(said) or "are you" in said.lower()):
            return first_person(scenario.known) or LOST
        if "?" in said:
            return "Yes, please."
        return "Okay." if _STATEMENT.match(said) and not asks else LOST


def _speaks_of(tool: str, line: str) -> bool:
    signs = {"can_send_mms": "send MMS messages", "run_speed_test": "Speed ", "check_status_bar": "Status Bar:"}
    return signs[tool].lower() in line.lower()


def _say(text: str) -> Message:
    return Message(Role.USER, text)


def _call(requests: list[Request]) -> Message:
    calls: tuple[ToolCall, ...] = tuple(request.call for request in requests)
    return Message(Role.USER, tool_calls=calls)
