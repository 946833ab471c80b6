"""Errors as a person reads them: a group of exceptions names no reason, its first one does."""

from __future__ import annotations


def first_error(error: BaseException) -> BaseException:
    """The error itself; of a group its first error, at any depth: the others usually follow from it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
