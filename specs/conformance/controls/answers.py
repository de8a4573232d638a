"""Replies as values (RFC 5321 4.2), and refusals on the way to one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole reply.  enhanced: of RFC 2034, put before each line's text; "" for none."""

    code: int
    enhanced: str = ""
    lines: tuple[str, ...] = ("",)

    def octets(self) -> bytes:
        """RFC 5321 4.2.1: the same code on each line, a hyphen on all but the last."""
        last = len(self.lines) - 1
        texts = [f"{self.enhanced} {each}".strip() for each in self.lines]
        return "".join(
            f"{self.code}{' ' if at == last else '-'}{text}\r\n" for at, text in enumerate(texts)
        ).encode("utf-8")


class Refusal(Exception):
    """A command that ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(str(answer))


def answer(code: int, enhanced: str, *lines: str) -> Answer:
    """With at least one line."""
    return Answer(code, enhanced, lines or ("",))


def no(code: int, enhanced: str, *lines: str) -> Refusal:
    """To be raised."""
    return Refusal(answer(code, enhanced, *lines))
