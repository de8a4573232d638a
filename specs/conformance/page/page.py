"""The page, from its parts.  It needs no other file, and asks for none: its own program and style
are all that its policy allows.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html as markup
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any, Final

from specs.conformance.page.document import document, said
from specs.conformance.records import Record

#: The program's parts, in this order: each knows those before it.
PROGRAM: Final = (
    "elements.js", "link.js", "choice.js", "said.js", "matrix.js", "opened.js", "start.js",
)  # fmt: skip


def page(found: Sequence[Record]) -> str:
    """The whole file."""
    shown = document(found)
    style, program = _part("page.css"), "".join(_part(each) for each in PROGRAM)
    return Template(_part("page.html")).substitute(
        title=markup.escape(shown["title"]),
        policy=f"default-src 'none'; script-src {_digest(program)}; style-src {_digest(style)};"
        " img-src data:; base-uri 'none'; form-action 'none'",
        style=style,
        data=packed(shown),
        said="\n".join(packed(each) for each in said(found)),
        program=program,
    )


def packed(value: Any) -> str:
    """JSON, gzip and base64: nothing in it ends an element, and equal values are equal texts."""
    octets = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return base64.b64encode(gzip.compress(octets, mtime=0)).decode("ascii")


def _digest(part: str) -> str:
    """Of what stands between the tags (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return resources.files("specs.conformance.page").joinpath(name).read_text(encoding="utf-8")
