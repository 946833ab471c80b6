"""The calculator answers what Python answers to arithmetic, and neither runs code nor runs long."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tau2_exp.domains.calculator import calculate

NUMBERS = st.one_of(st.integers(0, 999).map(str), st.decimals(0, 99, places=2).map(str))
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", " + ", " - "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(inner, st.sampled_from(["**2", "**-1", "**0.5"])).map("".join),
    ),
    max_leaves=12,
)
SCRAPS = st.text("0123456789+-*/(). ", max_size=9).filter(lambda text: "**" not in text)


def python(expression: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(round(float(eval(expression, {"__builtins__": None}, {})), 2))
        except Exception as problem:
            return f"Error: {problem}"


def ours(expression: str) -> str:
    try:
        return calculate(expression)
    except Exception as problem:
        return f"Error: {problem}"


@given(st.one_of(EXPRESSIONS, SCRAPS))
def test_answers_as_python_does(expression: str) -> None:
    assert ours(expression) == python(expression)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("2 + 2", "4.0"),
        ("1/0", "Error: division by zero"),
        ("", "Error: invalid syntax (<string>, line 0)"),
        ("2(3)", "Error: 'int' object is not callable"),
        ("__import__('os')", "Error: Invalid characters in expression"),
        ("+".join(["1"] * 2000), "2000.0"),
    ],
)
def test_examples(expression: str, answer: str) -> None:
    assert ours(expression) == answer


@pytest.mark.parametrize("expression", ["9**9**9", "9**9**9**9", "-9**99999999", "*".join(["9**9999"] * 50)])
def test_what_would_run_for_ever_is_refused(expression: str) -> None:
    assert ours(expression) == "Error: int too large to convert to float"


@given(st.one_of(st.none(), st.integers(), st.lists(st.text()), st.text()))
def test_anything_ends_in_an_answer_or_an_ordinary_error(given_value: object) -> None:
    if isinstance(given_value, str) and "**" in given_value:
        return
    assert isinstance(ours(given_value), str)  # type: ignore[arg-type]
