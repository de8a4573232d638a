"""Channels in qmail's formats: the messages of `wire.messages` as octets of `wire.qmail`.

    smtpd, bounce -> enqueue    Submit, content, Finish      opening, netstrings, the empty one
                  <-            Kept; Refused                0, queue id; an exit code that refuses
    qmgr -> local               Deliver and its descriptor   a command
         <-                     Outcome                      a report, after the concurrency
    qmgr -> remote              Relay and its descriptor     a command for each recipient
         <-                     Relayed                      their reports, put together again
    qmgr -> clean               Cleanse                      foop/ID or todo/ID
         <-                     Cleansed                     + or !

Rules a reader may rely on
- What is heard becomes a message of the border and is held to the same bounds as a frame: it goes
  through the border's own decoder.
- Abandon is an early end: the writing side of the socket is shut, and the channel serves for no
  other message.  An end of the stream within a message is heard as Abandon.
- A spawner says its concurrency first; no command is written before that, nor more at once than it
  allows: what is posted beyond waits here.  A number means a delivery until its report; the lowest
  that is free is taken (qmail-send.c).
- A command brings one descriptor, sent with its first octet.  A job for several recipients is as
  many commands, as in qmail, whose mail goes to each of them by itself.
- Hurry is the end of commands: like qmail's spawners, the other end reports what it has begun, and
  ends.  What was not yet commanded is returned.
- What qmail has no place for is not carried: of an envelope, an agent is told the sender, the
  recipient that it is to serve, and when the message came; of a refusal, the submitter is told what
  its exit code means; a reference is this end's, and a number beyond it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from refmta.patterns.trust_partitioning import Border
from refmta.processes.qmail.cleaning import CleanCaller, Cleaner
from refmta.processes.qmail.ends import QmailChannel
from refmta.processes.qmail.spawning import SpawnCaller, Spawner
from refmta.processes.qmail.submitting import Queue, Submitter
from refmta.wire.messages import Cleanse, Deliver, Message, Relay, Submit

_End = Callable[[socket.socket, Border], QmailChannel]

#: By what is said first: the end that says it, and the end that hears it.
ENDS: Final[dict[type[Message], tuple[_End, _End]]] = {
    Submit: (Submitter, Queue),
    Deliver: (SpawnCaller, Spawner),
    Relay: (SpawnCaller, Spawner),
    Cleanse: (CleanCaller, Cleaner),
}


def channel(end: socket.socket, border: Border) -> QmailChannel:
    """A channel in qmail's formats.  Raises ValueError for a border that qmail has no format for;
    the socket stays open.
    """
    for first, (says, hears) in ENDS.items():
        if first in border.says.types:
            return says(end, border)
        if first in border.hears.types:
            return hears(end, border)
    raise ValueError("qmail has no format for this border")
