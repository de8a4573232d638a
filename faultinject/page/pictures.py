"""The pictures of the page, as Vega-Lite: what was found, how much was tried, and when.

    found      findings of each server under each fault, known ones apart
    tried      faults injected and messages promised, of each server under each fault
    over_time  each case while it ran, in its server's rows, a row for each kind of fault
    matrix     targets by faults, as one picture for slides (`refmta-fault report --picture`)

On the page they have no background and the colours of its text, in the light and in the dark: that
is set there (`page.js`), with the width.  altair is needed for this only.
"""

from __future__ import annotations

import importlib
import textwrap
from typing import Any, Final

from faultinject.campaign.summary import State

COLUMN, ROW = 168, 60
_FONT: Final = "system-ui, DejaVu Sans, Helvetica, Arial, sans-serif"
_INK, _QUIET = "#1f2933", "#5b6472"
#: State -> colour of its cell, and of what stands in it; both in the light and in the dark.
COLOURS: Final[dict[State, tuple[str, str]]] = {
    "found": ("#c0342b", "#ffffff"),
    "broken": ("#6f4fa3", "#ffffff"),
    "known": ("#f2b84b", "#3d2a00"),
    "held": ("#0f7a5c", "#ffffff"),
    "unavailable": ("#c9ced6", "#2f3944"),
    "not run": ("#e6e9ed", "#4b5563"),
}
#: Of kinds of faults, in their order; legible on white and on black.
FAULTS: Final = (
    "#3b82c4", "#e0782f", "#2a9d8f", "#b34fa3", "#8a8f1f", "#d1495b", "#6c63c7", "#7f6a52",
)  # fmt: skip
#: States in which a cell says what was found, and in which it says how much was tried.
SURPRISED: Final = ("found", "known")
JUDGED: Final = (*SURPRISED, "held", "broken")
#: Letters in a line of a cell, and of a column's head.
_LETTERS, _HEAD = 22, 22


def found(document: dict[str, Any]) -> dict[str, Any]:
    """Bars: a row for each cell in which anything was found."""
    alt: Any = importlib.import_module("altair")
    rows = [
        {**each, "cell": f"{each['target']}, {each['harness']}",
         "what": f"{each['finding']} ({each['count']:,})"}
        for each in document["findings"]
    ]  # fmt: skip
    order = list(dict.fromkeys(each["cell"] for each in rows))
    texts: dict[str, list[str]] = {}
    for each in rows:
        texts.setdefault(each["cell"], []).append(each["what"])
    said = [
        {"cell": cell, "count": sum(e["count"] for e in rows if e["cell"] == cell),
         "text": textwrap.shorten(", ".join(words), 44, placeholder=" ...")}
        for cell, words in texts.items()
    ]  # fmt: skip
    y = alt.Y("cell:N", sort=order, title=None, axis=_names(alt))
    x = alt.X(
        "sum(count):Q", title="findings", axis=alt.Axis(grid=True, tickMinStep=1, tickCount=5),
        scale=alt.Scale(domainMax=_room(said)),
    )  # fmt: skip
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(height=15, cornerRadius=2)
        .encode(
            x=x, y=y, color=_states(alt),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("cell", "finding", "count", "state")],
        )
    )  # fmt: skip
    words = (
        alt.Chart(alt.Data(values=said))
        .mark_text(align="left", dx=6, fontSize=12)
        .encode(x="count:Q", y=y, text="text:N")
    )
    return _wide(alt.layer(bars, words).properties(height=24 * max(1, len(order))))


def _room(said: list[dict[str, Any]]) -> float:
    """The end of the axis: the longest bar with the words behind it."""
    return max((each["count"] for each in said), default=1) * 1.9


def tried(document: dict[str, Any]) -> dict[str, Any]:
    """Dots: a row for each server, a colour for each kind of fault; the scale is logarithmic."""
    alt: Any = importlib.import_module("altair")
    names = [each["name"] for each in document["harnesses"]]
    count = len(names)
    base = alt.Chart(alt.Data(values=document["tried"])).encode(
        x=alt.X(
            "count:Q", title=None, scale=alt.Scale(type="log", nice=True),
            axis=alt.Axis(
                format="~s", values=_tens(document["tried"]), labelOverlap=True, labelSeparation=8
            ),
        ),
        y=_targets(alt, document),
        yOffset=alt.YOffset("harness:N", sort=names, scale=alt.Scale(domain=names)),
        color=alt.Color(
            "harness:N", scale=alt.Scale(domain=names, range=_colours(count)), sort=names,
            legend=alt.Legend(title=None, orient="top", columns=min(count, 6), symbolType="circle"),
        ),
        tooltip=[
            alt.Tooltip(f"{name}:N") for name in ("target", "harness", "what", "count", "text")
        ],
    )  # fmt: skip
    dots = base.mark_circle(size=70, opacity=1)
    charts = [
        dots.transform_filter(f"datum.what === '{what}'").properties(
            title=what, width=380, height={"step": max(6, 48 // max(1, count)), "for": "offset"}
        )
        for what in dict.fromkeys(each["what"] for each in document["tried"])
    ]
    return _plain(alt.concat(*charts, columns=2, spacing=30))


def _tens(rows: list[dict[str, Any]]) -> list[int]:
    """The powers of ten on the scale."""
    most = max((each["count"] for each in rows), default=1)
    return [10**power for power in range(len(str(most)) + 1)]


def over_time(document: dict[str, Any]) -> dict[str, Any]:
    """A bar from the beginning of each case to its end, in its server's rows."""
    alt: Any = importlib.import_module("altair")
    names = [each["name"] for each in document["harnesses"]]
    chart = (
        alt.Chart(alt.Data(values=document["points"]))
        .mark_bar(height=7, cornerRadius=1)
        .encode(
            x=alt.X(
                "from:Q", title="minutes of the campaign",
                axis=alt.Axis(grid=True, tickCount=8, labelOverlap=True, labelSeparation=8),
            ),
            x2="minute:Q",
            y=_targets(alt, document),
            yOffset=alt.YOffset("harness:N", sort=names, scale=alt.Scale(domain=names)),
            color=_states(alt),
            tooltip=[
                alt.Tooltip(f"{name}:N")
                for name in ("target", "harness", "state", "findings", "from", "minute")
            ],
        )
        .properties(height=(10 * len(names) + 6) * max(1, len(document["targets"])))
    )  # fmt: skip
    return _wide(chart)


def _targets(alt: Any, document: dict[str, Any]) -> Any:
    """A row for each server, whether or not anything is in it; a line below each."""
    names = document["targets"]
    axis = alt.Axis(
        domain=False, ticks=False, labelPadding=8, labelFontSize=13, labelLimit=170, grid=True,
        tickBand="extent",
    )  # fmt: skip
    return alt.Y("target:N", sort=names, scale=alt.Scale(domain=names), title=None, axis=axis)


def _names(alt: Any) -> Any:
    """An axis of names."""
    return alt.Axis(domain=False, ticks=False, labelPadding=8, labelFontSize=13, labelLimit=170)


def _states(alt: Any) -> Any:
    colours = [each[0] for each in COLOURS.values()]
    return alt.Color("state:N", scale=alt.Scale(domain=list(COLOURS), range=colours), legend=None)


def _colours(count: int) -> list[str]:
    return [FAULTS[number % len(FAULTS)] for number in range(count)]


def _wide(chart: Any) -> dict[str, Any]:
    """As wide as its place, axes and all (the page says how wide); as high as its rows need."""
    return _plain(chart.properties(autosize={"type": "fit-x", "contains": "padding"}))


def _plain(chart: Any) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)
    return spec


# -- the matrix, for slides -----------------------------------------------------------------------


def matrix(document: dict[str, Any]) -> dict[str, Any]:
    """Targets by faults."""
    alt: Any = importlib.import_module("altair")
    harnesses = [each["name"] for each in document["harnesses"]]
    x = alt.X("harness:N", sort=harnesses, axis=None, scale=alt.Scale(padding=0.04))
    y = alt.Y(
        "target:N", sort=document["targets"], title=None, scale=alt.Scale(padding=0.06),
        axis=alt.Axis(
            labelFontSize=15, labelColor=_INK, labelPadding=12, domain=False, ticks=False,
            labelLimit=200,
        ),
    )  # fmt: skip
    called = {each["name"]: each["called"] for each in document["states"]}
    cells = alt.Data(values=[_cell(each, called) for each in document["cells"]])
    base = alt.Chart(cells).encode(x=x, y=y)
    boxes = base.mark_rect(cornerRadius=6).encode(color=_scale(alt, 0))
    words = base.mark_text(fontSize=13, fontWeight="bold", dy=-8, baseline="middle").encode(
        text="first:N", color=_scale(alt, 1)
    )
    below = base.mark_text(fontSize=11, dy=11).encode(text="second:N", color=_scale(alt, 1))
    layers = alt.layer(boxes, words, below).resolve_scale(color="independent")
    chart = alt.vconcat(
        _heads(alt, document["harnesses"], harnesses),
        layers.properties(width=COLUMN * len(harnesses), height=ROW * len(document["targets"])),
        spacing=4,
    ).resolve_scale(x="shared", color="independent")
    spec: dict[str, Any] = chart.configure(
        background="white", font=_FONT, view=alt.ViewConfig(stroke=None)
    ).to_dict()
    return spec


def _heads(alt: Any, harnesses: list[dict[str, Any]], order: list[str]) -> Any:
    """The columns' names, and what each does."""
    rows = [
        {"harness": each["name"], "text": "\n".join(textwrap.wrap(each["text"], _HEAD))}
        for each in harnesses
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("harness:N", sort=order, axis=None, scale=alt.Scale(padding=0.04))
    )
    names = base.mark_text(fontSize=15, fontWeight="bold", color=_INK, y=8).encode(text="harness:N")
    texts = base.mark_text(
        fontSize=11, color=_QUIET, y=22, baseline="top", lineBreak="\n", lineHeight=13
    ).encode(text="text:N")
    return alt.layer(names, texts).properties(width=COLUMN * len(order), height=52)


def _cell(cell: dict[str, Any], called: dict[str, str]) -> dict[str, Any]:
    """With its two lines."""
    state = cell["state"]
    names = cell["findings"] if state == "found" else cell["known"]
    words = [f"{name} {count:,}" for name, count in names.items()]
    first = words[0] if words and state in SURPRISED else called[state]
    if len(words) > 1 and state in SURPRISED:
        first += f" +{len(words) - 1}"
    second = cell["trials"] if state in JUDGED else cell["reason"]
    return {
        **{name: cell[name] for name in ("target", "harness", "state")},
        "first": textwrap.shorten(first, _LETTERS, placeholder="..."),
        "second": textwrap.shorten(second, _LETTERS + 6, placeholder="..."),
    }


def _scale(alt: Any, part: int) -> Any:
    colours = [each[part] for each in COLOURS.values()]
    return alt.Color("state:N", scale=alt.Scale(domain=list(COLOURS), range=colours), legend=None)
