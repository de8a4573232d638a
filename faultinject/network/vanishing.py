"""A peer that is gone without a word: what arrives is dropped before the kernel looks at it.

A filter that accepts no packet is put on the socket (socket(7), SO_ATTACH_FILTER), so no
acknowledgement goes out, no reset and no end: the other side sends again and again, as to a host
that has lost its power.  On a listening socket it is a black hole: whoever connects hears nothing.

It needs no privilege, and goes with the socket.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final, Protocol

#: Of linux/filter.h: one instruction, "accept 0 octets" (BPF_RET | BPF_K).
_DROP: Final = struct.pack("=HBBI", 0x06, 0, 0, 0)
_PROGRAM: Final = struct.Struct("@HP")
#: Of asm-generic/socket.h; Python names neither.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


class _Settable(Protocol):
    def setsockopt(self, level: int, name: int, value: bytes, /) -> None: ...


def vanish(where: _Settable) -> None:
    """From now on this socket hears nothing.  Raises OSError."""
    instructions = ctypes.create_string_buffer(_DROP, len(_DROP))
    program = _PROGRAM.pack(1, ctypes.addressof(instructions))
    where.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def appear(where: _Settable) -> None:
    """It hears again what is sent (once more).  Raises OSError."""
    where.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, struct.pack("i", 0))
