"""`calculate` as τ²-bench answers it, without evaluating text as code, and bounded."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

MAX_BITS = 1 << 16  # of an integer on the way; far above what a float can hold
_ALLOWED = "0123456789+-*/(). "
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, rounded to two places.

    Raises what Python raises for such an expression (its text is what the agent reads), and OverflowError
    where an integer on the way would take more than MAX_BITS.
    """
    if not all(char in _ALLOWED for char in expression):
        raise ValueError("Invalid characters in expression")
    if not isinstance(expression, str):
        raise TypeError("eval() arg 1 must be a string, bytes or code object")
    tree = ast.parse(expression.lstrip(" "), filename="<string>", mode="eval")
    return str(round(float(_value(tree.body)), 2))


def _value(root: ast.expr) -> Any:
    """Evaluated with a stack of our own: a long sum nests deeper than Python may recurse."""
    values: list[Any] = []
    pending: list[tuple[ast.expr, bool]] = [(root, False)]
    while pending:
        node, ready = pending.pop()
        operands = _operands(node)
        if operands and not ready:
            pending.append((node, True))
            pending.extend((operand, False) for operand in reversed(operands))
            continue
        arguments = values[len(values) - len(operands) :]
        del values[len(values) - len(operands) :]
        values.append(_bounded(_apply(node, arguments)))
    return values.pop()


def _operands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Call):
        return [node.func, *node.args]
    return []


def _apply(node: ast.expr, arguments: list[Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            _check_power(*arguments)
        return _BINARY[type(node.op)](*arguments)
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](*arguments)
    if isinstance(node, ast.Call):
        raise TypeError(f"'{type(arguments[0]).__name__}' object is not callable")
    if isinstance(node, ast.Tuple) and not node.elts:
        return ()
    raise ValueError("Invalid expression")


def _check_power(base: Any, exponent: Any) -> None:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and exponent > 0 and abs(base) > 1 and base.bit_length() * exponent > MAX_BITS:
        raise OverflowError("int too large to convert to float")


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError("int too large to convert to float")
    return value
