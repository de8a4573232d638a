"""remote: sends mail to other hosts.

It is handed one open descriptor per message, read only, and the recipients of one destination; it
never sees the queue.  A worker serves one call of the queue manager: one destination, a few
connections at a time.

Rules a reader may rely on
- "delivered" means that the next hop said 2yz after the end of the content, and nothing else
  does (`protocol.smtp_client`).  It is written to the trace before the caller is told.
- No octet of a message leaves before its chunk was verified to the end (`content`).
- The next host is tried only where this one was not really asked: no connection, refused before
  MAIL, or lost before the end of the content; of transactions that were begun, one more.  A
  verdict on a recipient stands.
- A next hop can cost us time and nothing else: replies are bounded in lines and octets, each wait
  by RFC 5321 4.5.3.2, hosts by `mx.ADDRESSES`, texts are escaped and cut.  Whatever it says, every
  recipient gets exactly one outcome.
- A connection that ended a transaction well is used for the next job, for `idle_s`.  It is looked
  at before: a server that has closed in between costs nobody an attempt.
- When the server stops (Hurry, or the caller is gone), everything is given back but a message whose
  end was sent: its reply is waited for.

What it does not do: decide when to try again, or how many connections a destination bears (qmgr);
TLS and authentication.
"""

from refmta.roles.remote.conversation import Conversation, Slice, attend
from refmta.roles.remote.names import preload

__all__ = ["Conversation", "Slice", "attend", "preload"]
