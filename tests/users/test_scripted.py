"""The scripted customer in real telecom worlds: it opens, does as it is told, reports, and knows when it is done."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.domains import load_domain
from tau2_exp.interfaces import World
from tau2_exp.types import GREETING, Message, Role, Task
from tau2_exp.users.scripted import ScriptedUser


def find(*signs: str) -> Task:
    tasks = load_domain("telecom").tasks("full")
    return next(task for task in tasks if all(sign in task.id for sign in signs))


def alone(kind: str, fault: str) -> Task:
    return find(f"[{kind}]{fault}[")


class Call:
    """A conversation with the scripted user about one task."""

    def __init__(self, task: Task, domain: str = "telecom"):
        self.world: World = load_domain(domain).world(task)
        self.user = ScriptedUser(task, self.world)
        self.calls: list[str] = []
        self.opening = self.say(GREETING.content or "")

    def say(self, text: str) -> str:
        heard = [Message(Role.ASSISTANT, text)]
        while True:
            message = asyncio.run(self.user.reply(heard))
            assert bool(message.content) != bool(message.tool_calls)
            if message.content:
                return message.content
            self.calls.extend(call.name for call in message.tool_calls)
            heard = [self.world.call(call) for call in message.tool_calls]


def test_it_opens_with_its_reason_and_what_it_knows() -> None:
    call = Call(alone("service_issue", "airplane_mode_on"))
    assert call.opening == (
        "My phone has been showing 'No Service' for the past few hours. I am John Smith with phone number 555-123-2002."
    )


def test_it_does_exactly_what_it_is_asked_and_reports_its_tools_words() -> None:
    call = Call(find("[mms_issue]airplane_mode_on|bad_wifi_calling"))
    assert call.say("Please check the status bar.") == "Status Bar: ✈️ Airplane Mode | 🔋 80%"
    assert call.say("Please check Wi-Fi Calling.") == "Wi-Fi Calling is currently turned ON."
    assert call.calls == ["check_status_bar", "check_wifi_calling_status"]


def test_a_switch_that_already_stands_as_asked_is_flipped_back() -> None:
    call = Call(alone("mobile_data_issue", "data_saver_mode_on"))
    words = call.say("Please turn Airplane Mode off.")
    assert words.startswith("Airplane Mode is now OFF.")
    assert call.calls == ["toggle_airplane_mode"] * 2


def test_a_flip_back_repeats_what_came_after_it() -> None:
    call = Call(alone("mobile_data_issue", "data_mode_off"))
    words = call.say("Please turn Data Saver off, then turn Mobile Data on, then run a speed test.")
    assert "Mobile Data is now ON." in words
    assert "Data Saver Mode is now OFF." in words
    assert words.endswith("###STOP###")


@pytest.mark.parametrize(
    ("kind", "fault", "mend", "check"),
    [
        ("service_issue", "airplane_mode_on", "Please turn Airplane Mode off.", None),
        ("mobile_data_issue", "data_saver_mode_on", "Please turn Data Saver off.", "Please run a speed test."),
        ("mms_issue", "bad_wifi_calling", "Please turn Wi-Fi Calling off.", "Please try to send an MMS."),
    ],
)
def test_it_ends_when_its_own_tools_show_the_problem_gone(kind: str, fault: str, mend: str, check: str | None) -> None:
    call = Call(alone(kind, fault))
    words = call.say(mend)
    if check:
        assert "###STOP###" not in words, "nothing it was asked to run has shown the problem gone yet"
        words = call.say(check)
    assert words.endswith("###STOP###")


@pytest.mark.parametrize("check", ["Please run a speed test.", "Please check the status bar."])
def test_it_goes_on_while_the_problem_is_there(check: str) -> None:
    call = Call(alone("mobile_data_issue", "bad_vpn"))
    assert "###" not in call.say(check)


def test_a_question_whether_it_works_is_answered_by_looking() -> None:
    call = Call(alone("mms_issue", "bad_wifi_calling"))
    assert call.say("Is your issue resolved?") == "Your messaging app cannot send MMS messages."


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (
            "What is your phone number?",
            "I am John Smith with phone number 555-123-2002. I am currently abroad in France.",
        ),
        ("Are you abroad?", "I am John Smith with phone number 555-123-2002. I am currently abroad in France."),
        ("May I refuel 2.0 GB for $4.00?", "Yes, please."),
        ("How much data do you want to refuel?", "2.0 GB, please."),
        ("Would you like to change your plan?", "No, I do not want to change my plan."),
        ("I have enabled roaming on your line.", "Okay."),
        ("Frobnicate the gizmo, please.", "I am not sure what you mean."),
        ("flub blub", "I am not sure what you mean."),
        ("", "I am not sure what you mean."),
        ("Your issue is resolved. Have a nice day.", "Thank you. ###STOP###"),
        ("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.", "###TRANSFER###"),
    ],
)
def test_it_talks_from_what_it_knows(said: str, answer: str) -> None:
    call = Call(find("[mobile_data_issue]user_abroad_roaming_enabled_off["))
    assert call.say(said) == answer
    assert call.calls == []


def test_it_has_no_tools_in_retail_and_says_what_it_knows() -> None:
    domain = load_domain("retail")
    call = Call(domain.tasks("base")[0], "retail")
    assert call.opening.endswith("I am Yusuf Rossi in zip code 19122.")
    assert call.opening.startswith("I received my order #W2378156")
    assert call.say("What is your name and zip code?") == "I am Yusuf Rossi in zip code 19122."
    assert call.say("Please check the status bar.") == "I am not sure what you mean."
    assert call.say("Shall I go ahead with the exchange?") == "Yes, please."


@given(st.lists(st.text(max_size=80) | st.sampled_from(["turn wi-fi off", "reboot", "pay the bill?"]), max_size=3))
def test_no_agent_breaks_it(texts: list[str]) -> None:
    call = Call(alone("mobile_data_issue", "bad_vpn"))
    for text in texts:
        assert call.say(text)
