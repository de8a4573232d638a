"""Errors as they were raised, without the groups that nurseries put around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


def leaf(error: BaseException) -> BaseException:
    """The error, or the first of a group that is none itself."""
    return leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def run(main: Callable[[], Awaitable[T]]) -> T:
    """As trio.run; of a group its first error is raised."""
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        raise leaf(group) from group
