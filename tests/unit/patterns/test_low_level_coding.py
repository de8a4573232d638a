"""Bounded types: every field of every message has a bound, and so has every field inside of it.

Control: a type without one is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pytest

from refmta.wire import messages
from refmta.wire.messages import Message

ALL = [
    each
    for each in vars(messages).values()
    if isinstance(each, type) and issubclass(each, Message) and each is not Message
]


def unbounded(kind: Any, where: str) -> Iterator[str]:
    """The places of a type at which a value may be as large as it likes."""
    match kind:
        case msgspec.inspect.StructType():
            for each in kind.fields:
                yield from unbounded(each.type, f"{where}.{each.name}")
        case msgspec.inspect.UnionType():
            for each in kind.types:
                yield from unbounded(each, where)
        case msgspec.inspect.StrType():
            if kind.max_length is None and (kind.pattern is None or not ends(kind.pattern)):
                yield where
        case msgspec.inspect.BytesType():
            if kind.max_length is None:
                yield where
        case msgspec.inspect.IntType():
            if None in (kind.ge if kind.gt is None else kind.gt, kind.le or kind.lt):
                yield where
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            if kind.max_length is None:
                yield where
            yield from unbounded(kind.item_type, f"{where}[]")
        case (
            msgspec.inspect.BoolType() | msgspec.inspect.LiteralType() | msgspec.inspect.NoneType()
        ):
            return
        case _:
            yield f"{where}: {type(kind).__name__}"


def ends(pattern: str) -> bool:
    """A pattern bounds a text if it is anchored and repeats nothing without end."""
    unescaped = pattern.replace("\\.", "")
    return pattern.startswith("^") and pattern.endswith("\\Z") and not set("*+") & set(unescaped)


@pytest.mark.parametrize("message", ALL, ids=lambda each: each.__name__)
def test_every_field_of_every_message_has_a_bound(message):
    assert list(unbounded(msgspec.inspect.type_info(message), message.__name__)) == []


class Part(msgspec.Struct):
    """What a message might hold."""

    free: str


class Loose(msgspec.Struct):
    """Bounds are missing everywhere but in `good` and `kind`."""

    text: str
    anchored: Annotated[str, msgspec.Meta(pattern=r"^[a-z]+\Z")]
    octets: bytes
    number: int
    half: Annotated[int, msgspec.Meta(ge=0)]
    several: tuple[Annotated[str, msgspec.Meta(max_length=3)], ...]
    inside: Annotated[tuple[Part, ...], msgspec.Meta(max_length=3)]
    anything: Any
    table: dict[str, str]
    kind: Literal["a", "b"] = "a"
    good: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,9}\Z")] = "a"


def test_control_what_has_no_bound_is_found():
    assert list(unbounded(msgspec.inspect.type_info(Loose), "")) == [
        ".text", ".anchored", ".octets", ".number", ".half", ".several", ".inside[].free",
        ".anything: AnyType", ".table: DictType",
    ]  # fmt: skip
