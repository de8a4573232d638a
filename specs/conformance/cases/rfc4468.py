"""RFC 4468, BURL: section 3.

Tricky: no case lets the server fetch anything; what BURL does with a message that can be fetched
needs an IMAP server, and is not covered.
"""

from __future__ import annotations

from specs.conformance.model import NON_STRICT, PASS, Door
from specs.conformance.section import Section

here = Section("4468")

_DOORS: tuple[Door, ...] = ("smtp", "starttls", "submission-starttls", "tls")
for _door in _DOORS:
    for _slug, _url in (
        ("imap", "imap://ada@imap.conform.example/INBOX/;uid=1"),
        ("http", "http://127.0.0.1:9/"),
        ("file", "file:///etc/passwd"),
    ):
        here.probe(
            f"3.1-before-rcpt-{_slug}-{_door}", level="MUST", clauses="4468-3.1-a", door=_door,
            keywords="BURL",
            requirement="BURL of somebody who is not authenticated and has named no recipient is "
            f"refused ({_url}, {_door})",
            sent=[f"BURL {_url} LAST"],
            allowed={"503": PASS, "554": PASS, "530": PASS, "5yz": NON_STRICT},
            security="the server fetches what a stranger names",
        )  # fmt: skip

    here.probe(
        f"3.2-malformed-{_door}", level="IMPLIED", clauses="4468-3.1-a", door=_door,
        keywords="BURL", requirement=f"BURL without a URL is refused, best with 501 ({_door})",
        sent=["BURL"], allowed={"501": PASS, "503": PASS, "530": PASS, "5yz": NON_STRICT},
    )  # fmt: skip

for _slug, _url in (("http", "http://127.0.0.1:9/"), ("file", "file:///etc/passwd")):
    here.probe(
        f"3.1-without-auth-{_slug}", level="MUST", clauses="4468-3.1-a", keywords="BURL",
        needs="rcpt", upto="rcpt",
        requirement=f"BURL of somebody who is not authenticated is refused ({_url})",
        sent=[f"BURL {_url} LAST"],
        allowed={"503": PASS, "554": PASS, "530": PASS, "5yz": NON_STRICT},
        security="the server fetches what a stranger names",
    )  # fmt: skip
