"""The page, from its parts.  altair and vl-convert are needed for it (the extra "picture")."""

from __future__ import annotations

import base64
import hashlib
import html as markup
import importlib
import importlib.util
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any, Final

from faultinject.campaign.records import Record
from faultinject.page import pictures
from faultinject.page.document import document

NEEDED: Final = ("altair", "vl_convert")
#: What would end a block of data, or begin another, is written as an escape.
_ESCAPES: Final = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def unavailable() -> str | None:
    """What is missing to make it, or None."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"to draw, Python needs: {', '.join(missing)}" if missing else None


def html(records: Sequence[Record]) -> str:
    """The whole file.  Raises ValueError if there are no records, ImportError."""
    shown = document(records)
    colours = {name: list(pair) for name, pair in pictures.COLOURS.items()}
    data = {
        **shown,
        "colours": colours,
        "pictures": {
            "found": pictures.found(shown),
            "tried": pictures.tried(shown),
            "time": pictures.over_time(shown),
        },
    }
    convert: Any = importlib.import_module("vl_convert")
    programs = (f"\n{convert.javascript_bundle()}\n", f"\n{_part('page.js')}\n")
    return Template(_part("page.html")).substitute(
        title=markup.escape(shown["title"]),
        said=markup.escape(shown["said"]),
        policy=_policy(programs),
        style=_part("page.css"),
        data=as_data(data),
        vega=programs[0],
        program=programs[1],
    )


def picture(records: Sequence[Record], scale: float = 2.0) -> bytes:
    """The matrix alone, as PNG.  Raises ValueError if there are no records, ImportError."""
    convert: Any = importlib.import_module("vl_convert")
    spec = json.dumps(pictures.matrix(document(records)))
    octets: bytes = convert.vegalite_to_png(spec, scale=scale)
    return octets


def as_data(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).translate(_ESCAPES)


def _policy(programs: tuple[str, ...]) -> str:
    """These programs and no others; styles, since Vega sets some; no connection (CSP level 2)."""
    digests = (hashlib.sha256(each.encode()).digest() for each in programs)
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _part(name: str) -> str:
    return resources.files("faultinject.page").joinpath(name).read_text(encoding="utf-8")
