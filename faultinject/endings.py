"""What every harness does with a server once the faults are over: drain its queue, stop it, gather
what became of the mail, and hear what its log and its trace say.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from faultinject.books import Books
from faultinject.collect import book_mailboxes, book_queue
from faultinject.ledger import Finding
from faultinject.networks import in_thread
from faultinject.target import Target, TargetError
from faultinject.traces import judge_trace


async def drain(
    target: Target, say: Callable[[str], None], *, flush_s: float, look_s: float
) -> None:
    """Until the queue is empty: looked at, and tried again, after so many seconds each."""
    next_s = 0.0
    while target.waiting():
        if trio.current_time() >= next_s:
            next_s = trio.current_time() + flush_s
            try:
                await in_thread(target.flush)
            except TargetError as error:
                say(f"flush: {error}")
        await trio.sleep(look_s)


def stop(target: Target) -> list[Finding]:
    """In good order; what was odd about it."""
    try:
        oddities = target.stop()
    except TargetError as error:
        oddities = (str(error),)
    return [Finding(name="stop", text=each) for each in oddities]


def gather(books: Books, target: Target) -> None:
    """Mailboxes, and what is left in the queue of the stopped server."""
    book_mailboxes(books, target.mailboxes())
    book_queue(books, target.queued())


def health(target: Target) -> tuple[str, list[Finding]]:
    """What its trace amounts to ("none" if it has none), and findings of log and trace."""
    found = [Finding(name="defect", text=text) for text in target.defects()]
    trace = target.trace()
    said, refusals = judge_trace(trace) if trace is not None else ("none", [])
    return said, found + refusals
