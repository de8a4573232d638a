"""An architecture as a page for people: everything on it is made from its rows.

So a page can't say what is not so; a test holds the pages in docs/architectures against this.  What
no row tells, where a composition departs from what it is named after, is a table, too
(`departures`).  The diagram is Mermaid, which the forges draw: text that can be compared.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator

from refmta.architectures.architecture import (
    OWN,
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
    Talk,
)
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.decisions import decisions
from refmta.architectures.departures import COMMON, DEPARTURES, Departure
from refmta.architectures.evolution import EVOLUTION, STEPS
from refmta.architectures.named import MODULES
from refmta.patterns.defense_in_depth import LAYERS
from refmta.patterns.trust_partitioning import border

NOTICE = "<!-- Made by `refmta architectures --pages docs/architectures`; change the data. -->"
#: The page that lists the others.
INDEX = "README"


def page(architecture: Architecture) -> str:
    """The whole page, Markdown."""
    answers = decisions(architecture)
    return _joined(
        f"# {architecture.name}",
        *_said(architecture),
        "## Processes",
        _diagram(architecture),
        "Double frames are pools, rounded ones a process for each recipient, red is root's; dotted "
        "arrows are channels that are made anew each time, dotted lines lead to directories that "
        "are only read.",
        _table(
            ("compartment", "roles", "process", "user", "root", "network", "why so much"),
            (_row(row, answers) for row in architecture.compartments),
        ),
        "Besides these there are the spawner, which starts all others, and the supervisor, which "
        "tells it what to start; neither touches mail.",
        "## Channels",
        _table(
            ("client", "server", "says", "hears", "how"),
            (_channel(each) for each in architecture.talks),
        ),
        "## Files",
        f"`refmta/stores/{architecture.store}.py` keeps the queue, and says in which states it may "
        f"be; mailboxes are {_mailboxes(architecture)}; after a crash `{architecture.keeper}` "
        f"recovers the queue{_again(architecture)}.",
        _table(("directory", "owner", "group", "mode", "changed by", "read by"),
               (_directory(architecture, path) for path in _paths(architecture))),
        "## Layers",
        _table(
            ("layer", "what it is", "here"),
            (
                (each, text, "yes" if each in architecture.layers else "no")
                for each, text in LAYERS.items()
            ),
        ),
        "## What falls together",
        "The fewest compartments that must be seized, one after the other along channels, until "
        "whoever speaks at a face has an asset (`refmta/patterns/distributed_delegation.py`):",
        _table(("from, to", "how many, which"), _falls(answers)),
        *_departed(architecture),
    )  # fmt: skip


def index(architectures: Iterable[Architecture]) -> str:
    """The page that lists the others, side by side."""
    there = list(architectures)
    return _joined(
        "# The architectures",
        "The same roles, put together in six ways. What differs is data: which roles share a "
        "process, whose it is, what it can reach, and over what they talk. "
        "`refmta demo --architecture NAME` shows each at work, and `refmta architectures --diff "
        "NAME NAME` the decisions in which two differ.",
        _table(
            ("architecture", "what it is", "compartments", "root's", "users", "store", "mailboxes",
             "clients to queue", "clients to mailboxes"),
            map(_side, there),
        ),
        "A compartment is a process, or a pool; besides these there are the spawner, which is "
        "root's in all of them, and the supervisor. Users: theirs together, without the "
        "recipients. The last columns: the fewest compartments that must be seized, one after the "
        "other, until clients have the asset; as the rows declare it.",
        "## From one to the other",
        "One pattern at a time, from the monolith to ours; each step runs, as "
        "`--architecture evolved-N`, and `refmta-spec evolve` measures what it brings.",
        _table(
            ("step", "pattern", "what it does", "compartments", "root's", "users",
             "clients to queue", "clients to mailboxes"),
            _evolved(),
        ),
        "## What none of them is",
        "They are compositions of our roles, in Python, and no copies. Each page ends with what "
        "its original does otherwise; this holds of all of them:",
        _departures(COMMON),
    )  # fmt: skip


def _joined(*parts: str) -> str:
    return "\n\n".join((NOTICE, *parts)) + "\n"


# -- words ----------------------------------------------------------------------------------------


def _said(architecture: Architecture) -> tuple[str, ...]:
    """What its module says of it, the drawing as it stands there; of a step, the one before it."""
    summary = _sentence(architecture.summary)
    for name in ARCHITECTURES:  # their modules are loaded, then
        if f"{architecture.name}-".startswith(f"{name}-"):
            text = sys.modules[f"refmta.architectures.{MODULES[name]}"].__doc__ or ""
            _, _, body = inspect.cleandoc(text).partition("\n\n")
            drawing, _, rest = body.partition("\n\n")
            return (summary, f"```\n{drawing}\n```", *([rest] if rest else []))
    return (summary, "A step from the monolith to ours (`refmta/architectures/evolution.py`).")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _mailboxes(architecture: Architecture) -> str:
    return {"maildir": "Maildirs", "mbox": "mbox files, appended to under a lock"}[
        architecture.mailbox
    ]


def _again(architecture: Architecture) -> str:
    """Of a keeper that looks again."""
    if not architecture.scan_s:
        return ""
    return f", and looks every {architecture.scan_s:g} s for what nobody told it of"


def _departed(architecture: Architecture) -> Iterator[str]:
    rows = DEPARTURES.get(architecture.name.removesuffix("-unjailed"), ())
    if rows:
        yield "## Where it departs from its model"
        yield _departures(rows)
        yield "The [index](README.md#what-none-of-them-is) has what holds of all of them."


def _departures(rows: Iterable[Departure]) -> str:
    return _table(("there", "here"), rows)


# -- tables ---------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("-" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


def _row(row: CompartmentRow, answers: dict[str, str]) -> tuple[str, ...]:
    columns = ("process", "user", "root", "network")
    told = [answers.get(f"{row.name}: {each}", "-") for each in columns]
    return (f"**{row.name}**", ", ".join(row.roles), *told, row.reason or "-")


def _channel(talk: Talk) -> tuple[str, ...]:
    side = border(talk.client_role, talk.server_role)
    names = [[each.__name__ for each in words.types] for words in (side.says, side.hears)]
    for words, found in zip((side.says, side.hears), names, strict=True):
        if words.octets:
            found.append("octets")
    how: list[str] = ["in one process" if talk.client == talk.server else talk.carrier]
    if talk.fresh:
        how.append("anew each time")
    ends = (f"{talk.client}.{talk.client_role}", f"{talk.server}.{talk.server_role}")
    return (*ends, *(", ".join(each) or "-" for each in names), ", ".join(how))


def _falls(answers: dict[str, str]) -> Iterator[tuple[str, str]]:
    prefix = "falls from "
    for name, answer in answers.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), answer


def _side(architecture: Architecture) -> tuple[str, ...]:
    """A row of the index."""
    name = architecture.name
    return (
        f"[{name}]({name}.md)",
        architecture.summary,
        *_numbers(architecture),
        architecture.store,
        architecture.mailbox,
        *_ways(architecture),
    )


def _evolved() -> Iterator[tuple[str, ...]]:
    steps = ("the monolith", *(each.pattern for each in STEPS))
    texts = ("as [sendmail](sendmail.md)", *(each.text for each in STEPS))
    rows = zip(EVOLUTION.values(), steps, texts, strict=True)
    for number, (architecture, pattern, text) in enumerate(rows):
        yield str(number), pattern, text, *_numbers(architecture), *_ways(architecture)


def _numbers(architecture: Architecture) -> tuple[str, str, str]:
    """How many compartments, which of them are root's, and how many users they have."""
    rows = architecture.compartments
    roots = [row.name for row in rows if row.user == ROOT]
    return str(len(rows)), ", ".join(roots) or "none", str(_users(architecture))


def _users(architecture: Architecture) -> int:
    """Of the compartments that are no recipient's."""
    rows = [row for row in architecture.compartments if row.user != RECIPIENT]
    if "users" in architecture.layers:
        return len({row.name if row.user == OWN else f"user {row.user}" for row in rows})
    return len({row.user == ROOT for row in rows})


def _ways(architecture: Architecture) -> tuple[str, str]:
    answers = decisions(architecture)
    return answers["falls from clients to queue"], answers["falls from clients to mailboxes"]


# -- directories ----------------------------------------------------------------------------------


def _paths(architecture: Architecture) -> list[str]:
    return [each.path for each in architecture.directories]


def _directory(architecture: Architecture, path: str) -> tuple[str, ...]:
    (row,) = [each for each in architecture.directories if each.path == path]
    changes, reads = _reach(architecture, path)
    who = [", ".join(each) or "-" for each in (changes, reads)]
    return f"`{path}/`", row.owner, row.group, f"{row.mode:04o}", *who


def _reach(architecture: Architecture, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who changes a directory, and who only reads it."""
    rows = architecture.compartments
    changes = tuple(row.name for row in rows if f"/{path}" in row.changes)
    reads = tuple(row.name for row in rows if f"/{path}" in row.reads)
    return changes, reads


# -- the diagram ----------------------------------------------------------------------------------


def _diagram(architecture: Architecture) -> str:
    return "\n".join(["```mermaid", *_drawn(architecture), "```"])


def _drawn(architecture: Architecture) -> Iterator[str]:
    yield "flowchart LR"
    for row in architecture.compartments:
        yield from _compartment(row)
    for client, server, line in _lines(architecture):
        yield f"    {client} {line} {server}"
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for path in _paths(architecture):  # those that the same processes reach are one box
        groups.setdefault(_reach(architecture, path), []).append(path)
    for number, ((changes, reads), paths) in enumerate(groups.items()):
        yield f'    files{number}[("{"<br/>".join(f"{each}/" for each in paths)}")]'
        yield from (f"    {name} --- files{number}" for name in changes)
        yield from (f"    {name} -.- files{number}" for name in reads)
    yield "    classDef root fill:#f6c1c1,stroke:#a00"


def _compartment(row: CompartmentRow) -> Iterator[str]:
    label = f"<b>{row.name}</b>"
    if row.roles != (row.name,):
        label += f"<br/>{', '.join(row.roles)}"
    begin, end = ("[[", "]]") if row.pooled else ("([", "])") if row.per_user else ("[", "]")
    yield f'    {row.name}{begin}"{label}"{end}'
    if row.user == ROOT:
        yield f"    class {row.name} root"
    if row.listener:
        yield f"    clients((clients)) --> {row.name}"
    if "remote" in row.roles:
        yield f"    {row.name} --> hops((next hops))"
    if {"local", "lmtpd"} & {*row.roles}:
        yield f"    {row.name} --> boxes[(mailboxes)]"


def _lines(architecture: Architecture) -> Iterator[tuple[str, str, str]]:
    """Between compartments, one for each pair and kind."""
    found = dict.fromkeys(
        (each.client, each.server, "-.->" if each.fresh else "-->")
        for each in architecture.talks
        if each.client != each.server
    )
    yield from found
