"""The telecom workflow as a program: look, then mend. It reads the conversation and nothing else.

Each of its actions follows from what it asked last and what came back, so that one observation leads to one next
action: a small model can learn it. The order is that of τ²-bench's support workflow, with the account looked at first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tau2_exp.domains.wording import Request, ask, want
from tau2_exp.policies.action import say, use
from tau2_exp.types import Action, Message

APP = "messaging"
MODE = "4g_5g_preferred"
MOST_REFUEL_GB = 2.0  # the policy's maximum
TRANSFERRED = "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."

# What a status bar shows wrong → what to ask for. The first that is found is mended first.
BAR = (
    (r"Airplane Mode", want("toggle_airplane_mode", "OFF")),
    (r"\b[23]G\b", want("set_network_mode_preference", mode=MODE)),
    (r"Data Disabled", want("toggle_data", "ON")),
    (r"Data Saver", want("toggle_data_saver_mode", "OFF")),
    (r"VPN Connected", want("disconnect_vpn")),
)


class WorkflowAgent:
    """The agent of one telecom episode."""

    def __init__(self) -> None:
        self._next: Callable[[str], Action] = self._identify
        self._problem = ""  # service, data or mms
        self._abroad = False
        self._phone = ""
        self._customer: dict[str, Any] = {}
        self._lines: list[str] = []  # still to be looked up
        self._line: dict[str, Any] = {}
        self._bills: list[str] = []  # still to be looked up
        self._requested = ""  # the bill a payment was asked for
        self._sim_works = self._apn_works = False

    async def act(self, heard: Sequence[Message]) -> Action:
        """The next action of the workflow. Raises nothing: what it cannot read ends in a transfer to a human."""
        try:
            return self._next(heard[-1].content or "" if heard else "")
        except (KeyError, ValueError, IndexError, TypeError):
            return self._transfer()

    def close(self) -> None:
        """Nothing is held."""

    # ------------------------------------------------------------ speaking

    def _ask(self, then: Callable[[str], Action], *requests: Request) -> Action:
        self._next = then
        return say(ask(*requests))

    def _use(self, then: Callable[[str], Action], tool: str, **arguments: Any) -> Action:
        self._next = then
        return use(tool, arguments)

    def _transfer(self) -> Action:
        self._next = lambda _: self._goodbye(TRANSFERRED)
        return use("transfer_to_human_agents", {"summary": "I cannot fix the issue."})

    def _goodbye(self, words: str) -> Action:
        self._next = lambda _: say("Goodbye.", done=True)
        return say(words)

    # ------------------------------------------------------------ the account

    def _identify(self, opening: str) -> Action:
        self._problem = "mms" if "MMS" in opening else "data" if "data" in opening else "service"
        self._abroad = "abroad" in opening
        number = re.search(r"\d{3}-\d{3}-\d{4}", opening)
        if number is None:
            self._next = self._identify
            return say("What is your phone number?")
        self._phone = number.group()
        return self._use(self._read_customer, "get_customer_by_phone", phone_number=self._phone)

    def _read_customer(self, words: str) -> Action:
        self._customer = json.loads(words)
        self._lines, self._bills = list(self._customer["line_ids"]), list(self._customer["bill_ids"])
        return self._look_up_line()

    def _look_up_line(self) -> Action:
        return self._use(self._read_line, "get_details_by_id", id=self._lines.pop(0))

    def _read_line(self, words: str) -> Action:
        line = json.loads(words)
        if line["phone_number"] != self._phone:
            return self._look_up_line()
        self._line = line
        if line["status"] == "Suspended" and line["contract_end_date"] < line["suspension_start_date"]:
            return self._transfer()  # the policy forbids lifting the suspension
        if self._problem == "service":
            return self._look_at_phone()
        if self._abroad and not line["roaming_enabled"]:
            return self._use(lambda _: self._look_up_usage(), "enable_roaming", **self._owner)
        return self._look_up_usage()

    @property
    def _owner(self) -> dict[str, str]:
        return {"customer_id": self._customer["customer_id"], "line_id": self._line["line_id"]}

    def _look_up_usage(self) -> Action:
        return self._use(self._read_usage, "get_data_usage", **self._owner)

    def _read_usage(self, words: str) -> Action:
        usage = json.loads(words)
        used, limit, refuel = (float(usage[f"data_{name}_gb"]) for name in ("used", "limit", "refueling"))
        if used < limit + refuel:
            return self._look_at_phone()
        return self._use(self._offer_refuel, "get_details_by_id", id=self._line["plan_id"])

    def _offer_refuel(self, words: str) -> Action:
        price = MOST_REFUEL_GB * json.loads(words)["data_refueling_price_per_gb"]
        self._next = self._refuel
        return say(f"Your data is used up. May I refuel {MOST_REFUEL_GB} GB for ${price:.2f}?")

    def _refuel(self, words: str) -> Action:
        if not re.match(r"yes\b", words, re.I):
            return self._transfer()
        return self._use(lambda _: self._look_at_phone(), "refuel_data", **self._owner, gb_amount=MOST_REFUEL_GB)

    # ------------------------------------------------------------ signal

    def _look_at_phone(self) -> Action:
        return self._ask(self._read_bar, want("check_status_bar"))

    def _read_bar(self, words: str) -> Action:
        bar = words[words.rindex("Status Bar:") :]
        if "No Signal" in bar:
            return self._restore_signal()
        for sign, mend in BAR:
            if re.search(sign, bar):
                return self._ask(self._read_bar, mend)
        return self._look_at_settings()

    def _restore_signal(self) -> Action:
        if not self._sim_works:
            return self._ask(self._read_sim, want("check_sim_status"))
        if not self._apn_works:
            return self._ask(self._read_apn_name, want("check_apn_settings"))
        return self._look_up_bill() if self._line["status"] == "Suspended" else self._transfer()

    def _read_sim(self, words: str) -> Action:
        if "No SIM" in words:
            return self._ask(self._read_bar, want("reseat_sim_card"))
        if "active" not in words:
            return self._transfer()  # locked: the policy says to escalate
        self._sim_works = True
        return self._restore_signal()

    def _read_apn_name(self, words: str) -> Action:
        self._apn_works = True
        if "APN Name: broken" in words:
            return self._ask(self._read_bar, want("reset_apn_settings"), want("reboot_device"))
        return self._restore_signal()

    # ------------------------------------------------------------ a suspended line

    def _look_up_bill(self) -> Action:
        """The latest bill first."""
        return self._use(self._read_bill, "get_details_by_id", id=self._bills.pop())

    def _read_bill(self, words: str) -> Action:
        bill = json.loads(words)
        if bill["status"] == "Paid" and bill["bill_id"] == self._requested:
            return self._use(lambda _: self._restart(), "resume_line", **self._owner)
        if bill["status"] != "Overdue":
            return self._look_up_bill()
        self._requested = bill["bill_id"]
        return self._use(
            lambda _: self._request_payment(),
            "send_payment_request",
            customer_id=self._customer["customer_id"],
            bill_id=self._requested,
        )

    def _request_payment(self) -> Action:
        self._bills.append(self._requested)
        return self._ask(lambda _: self._look_up_bill(), want("check_payment_request"), want("make_payment"))

    def _restart(self) -> Action:
        return self._ask(self._read_bar, want("reboot_device"))

    # ------------------------------------------------------------ data and MMS, once there is signal

    def _look_at_settings(self) -> Action:
        if self._problem == "service":
            return self._goodbye("Your issue is resolved. Have a nice day.")
        if self._abroad:
            return self._ask(self._read_roaming, want("check_network_status"))
        return self._check_problem()

    def _read_roaming(self, words: str) -> Action:
        return self._check_problem(*([want("toggle_roaming", "ON")] if "Data Roaming Enabled: No" in words else []))

    def _check_problem(self, *mend: Request) -> Action:
        if self._problem == "data":
            return self._ask(self._read_outcome, *mend, want("run_speed_test"))
        return self._ask(self._read_wifi_calling, *mend, want("check_wifi_calling_status"))

    def _read_wifi_calling(self, words: str) -> Action:
        mend = [want("toggle_wifi_calling", "OFF")] if "turned ON" in words else []
        return self._ask(self._read_permissions, *mend, want("check_app_permissions", app_name=APP))

    def _read_permissions(self, words: str) -> Action:
        granted = words.rpartition("permission")[2]
        missing = [permission for permission in ("sms", "storage") if permission not in granted]
        mend = [want("grant_app_permission", app_name=APP, permission=permission) for permission in missing]
        return self._ask(self._read_mmsc, *mend, want("check_apn_settings"))

    def _read_mmsc(self, words: str) -> Action:
        mend = [want("reset_apn_settings"), want("reboot_device")] if "Not Set" in words else []
        return self._ask(self._read_outcome, *mend, want("can_send_mms"))

    def _read_outcome(self, words: str) -> Action:
        """A user whose problem is gone has ended the call by itself, or says what its tools show."""
        if "(Excellent)" in words or "can send MMS" in words:
            return self._goodbye("Your issue is resolved. Have a nice day.")
        return self._transfer()
