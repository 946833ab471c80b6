"""A turn as text, in both directions: the base, two formats, and the one strict parser of tool calls."""

from tau2_exp.config import ModelConfig, ProtocolName, Thinking
from tau2_exp.interfaces import Tokenizer
from tau2_exp.protocols.base import Parsed, Protocol, correction
from tau2_exp.protocols.native import Native
from tau2_exp.protocols.single_action import SingleAction
from tau2_exp.protocols.template import NamesNoTools, TemplateNative, renderer
from tau2_exp.protocols.text import CALL_END, IM_END

__all__ = ["Parsed", "Protocol", "correction", "make_protocol", "protocol_of"]

PROTOCOLS: dict[ProtocolName, type[Protocol]] = {
    ProtocolName.single_action: SingleAction,
    ProtocolName.native: Native,
}


def make_protocol(name: ProtocolName) -> Protocol:
    """The protocol of that name, for a tokenizer that is trained for it."""
    return PROTOCOLS[name]()


def protocol_of(model: ModelConfig, tokenizer: Tokenizer) -> Protocol:
    """The model's protocol as its own tokenizer and chat template write it.

    Raises TemplateError where the template cannot be followed. One that names no tools is not needed where no schemas
    are shown: the words are then ChatML's, as in ours.
    """
    if model.protocol is ProtocolName.single_action:
        return SingleAction("" if tokenizer.token_id(CALL_END) is not None else IM_END)
    if tokenizer.chat_template is None:
        return Native()
    try:
        return TemplateNative(renderer(tokenizer.chat_template, {}, model.thinking is Thinking.keep))
    except NamesNoTools:
        if model.schemas:
            raise
        return Native()
