"""Errors come out as they were raised."""

from __future__ import annotations

import pytest
import trio

from faultinject import groups


async def fails() -> None:
    async with trio.open_nursery() as outer:
        outer.start_soon(fails_within)


async def fails_within() -> None:
    async with trio.open_nursery() as inner:
        inner.start_soon(raises)


async def raises() -> None:
    raise OSError("in there")


async def is_fine() -> int:
    return 5


def test_an_error_of_nurseries_is_raised_alone():
    with pytest.raises(OSError, match="in there"):
        groups.run(fails)
    with pytest.raises(OSError, match="in there"):
        groups.run(raises)
    with pytest.raises(ExceptionGroup):  # control: as trio has it
        trio.run(fails)


def test_what_comes_of_it_is_returned():
    assert groups.run(is_fine) == 5
