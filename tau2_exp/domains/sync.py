"""How telecom's two databases are kept consistent, after every call that did not raise."""

from __future__ import annotations

import typing
from typing import Any


def sync_telecom(agent: Any, user: Any) -> None:
    """Bring the phone's surroundings in line with the carrier's records, and settle a paid bill.

    `agent` and `user` are the two toolkits. Raises what the toolkits raise where the line is unknown.
    """
    around = user.db.surroundings
    if around.phone_number is None:
        return
    line = agent._get_line_by_phone(around.phone_number)
    plan = agent._get_plan_by_id(line.plan_id)
    around.line_active = line.status == "Active"
    around.roaming_allowed = bool(line.roaming_enabled)
    around.mobile_data_usage_exceeded = line.data_used_gb >= plan.data_limit_gb + line.data_refueling_gb
    request = around.payment_request
    if request is not None and request.paid:
        agent._set_bill_to_paid(request.bill_id)
        around.payment_request = None
    if around.payment_request is None:
        waiting = agent._get_bills_awaiting_payment(agent.get_customer_by_phone(around.phone_number))
        if waiting:
            request_type = _payment_request(type(around))
            around.payment_request = request_type(bill_id=waiting[0].bill_id, amount_due=waiting[0].total_due)


def _payment_request(surroundings: Any) -> Any:
    return typing.get_args(surroundings.model_fields["payment_request"].annotation)[0]
