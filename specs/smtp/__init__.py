"""What an SMTP or LMTP server may answer: a set, by state and command, and a judge of sessions.

    heard = Heard([Chunk("S", b"220 mx\r\n"), Chunk("C", b"NOOP\r\n"), Chunk("S", b"250 ok\r\n")])
    judge(heard).fault            # None, or the first octet that no allowed behaviour explains

Parts: `heard` (what was seen), `reading` (the client's octets as commands, content and chunks),
`states`, `tables` (codes and rules, with their sections), `step` (which replies are possible, and
what is after them), `replies` (octets of a reply), `judge`.

Nothing here does I/O, and nothing is shared with a server.
"""
