"""Cases and results, made up, for what tells of them."""

from __future__ import annotations

from specs.conformance.model import FAIL, INFO, NON_STRICT, PASS, Case, Line, Reply, Result, Verdict
from specs.conformance.session import Session


async def nothing(_: Session) -> Reply:
    return Reply(code="250")


def case(name: str = "5321-4.1.1.10-quit", **more: object) -> Case:
    fields: dict[str, object] = {
        "clauses": ("5321-4.1.1.10-a",), "level": "MUST", "requirement": "QUIT is answered 221",
        "sent": "QUIT", "allowed": {"221": PASS}, "script": nothing,
    }  # fmt: skip
    return Case(id=name, **{**fields, **more})  # type: ignore[arg-type]


def result(name: str = "5321-4.1.1.10-quit", verdict: Verdict = FAIL, **more: object) -> Result:
    fields: dict[str, object] = {
        "observed": "500", "saw": "500 what?", "seconds": 0.25,
        "transcript": (
            Line(at_s=0.0, who="-", octets=b"connected"),
            Line(at_s=0.1, who="C", octets=b"QUIT\r\n"),
            Line(at_s=0.2, who="S", octets=b"500 what? \xff\x1b[31m</script>\r\n"),
        ),
    }  # fmt: skip
    case_more = {key: more.pop(key) for key in ("security", "allowed", "role") if key in more}
    return Result(case=case(name, **case_more), verdict=verdict, **{**fields, **more})  # type: ignore[arg-type]


__all__ = ["FAIL", "INFO", "NON_STRICT", "PASS", "case", "nothing", "result"]
