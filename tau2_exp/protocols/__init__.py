"""A turn as text, in both directions: the base, two formats, and the one strict parser of tool calls."""

from tau2_exp.config import ProtocolName
from tau2_exp.protocols.base import Parsed, Protocol, correction
from tau2_exp.protocols.native import Native
from tau2_exp.protocols.single_action import SingleAction

__all__ = ["Parsed", "Protocol", "correction", "make_protocol"]

PROTOCOLS: dict[ProtocolName, type[Protocol]] = {
    ProtocolName.single_action: SingleAction,
    ProtocolName.native: Native,
}


def make_protocol(name: ProtocolName) -> Protocol:
    """The protocol of that name."""
    return PROTOCOLS[name]()
