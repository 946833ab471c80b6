"""Another package's tool functions on a light class of ours, and schemas from their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

from tau2_exp.domains.calculator import calculate
from tau2_exp.types import Schema


def kit_class(name: str, source: type, replaced: dict[str, Any], methods: dict[str, Callable[..., Any]]) -> type:
    """A class with the functions and properties of `source`, without its bases and its state.

    `replaced` are names the functions shall see in place of their module's; `methods` are added, or replace
    theirs. Qualified names become `name`'s: Python puts them into the error texts that an agent reads.
    """
    namespace: dict[str, Any] = {"__slots__": ("__dict__",)}
    scope: dict[str, Any] | None = None
    for key, value in {**vars(source), **methods}.items():
        function = value.fget if isinstance(value, property) else value
        if not isinstance(function, FunctionType) or key.startswith("__"):
            continue
        if key not in methods:
            scope = scope or {**function.__globals__, **replaced}
        function = rebound(function, function.__globals__ if key in methods else scope or {}, f"{name}.{key}")
        namespace[key] = property(function) if isinstance(value, property) else function
    return type(name, (), namespace)


def rebound(function: Any, scope: dict[str, Any], qualname: str) -> FunctionType:
    """A copy of a plain function that looks names up in `scope` and is called `qualname` in error texts."""
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = dict(function.__annotations__)
    copy.__doc__ = function.__doc__
    copy.__qualname__ = qualname
    return copy


def calculate_tool(self: Any, expression: str) -> str:
    """τ²-bench's tool `calculate`, as a method of a toolkit."""
    return calculate(expression)


def transfer_tool(self: Any, summary: str) -> str:
    """τ²-bench's tool `transfer_to_human_agents`, as a method of a toolkit; it changes nothing."""
    return "Transfer successful"


def function_schema(name: str, function: Callable[..., Any], hidden: str = "self") -> Schema:
    """An OpenAI function schema of a documented function, made as τ²-bench makes its own.

    The parameter `hidden` is none of the tool's.
    """
    from docstring_parser import parse
    from pydantic import Field, create_model

    document = parse(inspect.getdoc(function) or "")
    told = {parameter.arg_name: parameter.description for parameter in document.params}
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if key == hidden:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[key] = (annotation, Field(default, description=told[key]) if key in told else default)
    parts = (document.short_description, document.long_description)
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "\n\n".join(part for part in parts if part) or name,
            "parameters": create_model("parameters", **fields).model_json_schema(),
        },
    }


def schemas_of(functions: Iterable[tuple[str, Callable[..., Any]]]) -> list[Schema]:
    """The schemas of named functions, as `function_schema` makes them."""
    return [function_schema(name, function) for name, function in functions]
