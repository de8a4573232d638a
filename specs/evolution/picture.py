"""An evolution at a glance: a column for each step, a row for each measure.

Rules of reading, which the picture itself also tells:
- a column is a running system; its head is the pattern that made it from the one before;
- the cells at the top say which files a seized process that faces the network can read;
- below, a bar is coloured only where the step has changed the measure, so that what a pattern does
  is where its column has a colour.

`records` is everything that is drawn, as plain rows; the rest is layout.  altair and vl-convert are
needed for that only.  The page holds the programs that draw it, and needs no network.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from specs.evolution.effects import MEASURES, changes, lost, relative
from specs.evolution.inventory import KINDS
from specs.evolution.measured import Share, Stage

NEEDED: Final = ("altair", "vl_convert")
COLUMN, BAR_ROW, CELL_ROW = 116, 60, 25
_LEFT: Final = -112  # of the names of files
START, SAME, BETTER, WORSE = "the start", "unchanged", "better", "worse"
_CHANGES: Final = {START: "#6b7280", SAME: "#d4d7dc", BETTER: "#0f8a6c", WORSE: "#dd7a1f"}
_TINTS: Final = {START: "white", SAME: "white", BETTER: "#e4f4ef", WORSE: "#fcecdc"}
_TEXTS: Final = {START: "#1f2933", SAME: "#6b7280", BETTER: "#0a664f", WORSE: "#a8540a"}
_LEVELS: Final = {"all": "#c0392b", "some": "#f2b59b", "none": "#eef1ef"}
_FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"
_INK, _QUIET = "#1f2933", "#6b7280"
#: Measure -> how its row is called; in the order in which the patterns turn to them.
_ROWS: Final = {
    "facing_lines": ("lines of code", "in such a process"),
    "root_processes": ("root processes", "(kinds)"),
    "root_lines": ("lines of code", "that run as root"),
    "users": ("distinct users",),
    "lost": ("crash states that lose", "promised mail (P3)"),
    "attempts": ("other attacks on it", "that work"),
    "rate": ("delivered per second,", "times the monolith's"),
    "reach_weakened": ("kinds of files it reads with", "Landlock and seccomp broken"),
}
#: Letters in a line of a column's head, and of what stands below it.
_HEAD, _TEXT = 15, 19


def unavailable() -> str | None:
    """What is missing to draw, or None."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"to draw, Python needs: {', '.join(missing)}" if missing else None


# -- what is drawn --------------------------------------------------------------------------------


def records(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """A row for each cell and bar: part is how long a bar is (the longest of its row is 1), or a
    level.
    """
    found = []
    for place, (stage, changed) in enumerate(zip(stages, changes(stages), strict=True)):
        effects = {each.measure: BETTER if each.better else WORSE for each in changed}
        column = {
            "place": place,
            "architecture": stage.step.architecture,
            "pattern": stage.step.pattern or stage.step.text,
            "text": stage.step.text if stage.step.pattern else "",
        }
        for kind in KINDS:
            share = stage.seen.reach.get(kind, Share(0, 0))
            found.append({**column, "row": kind, "level": share.level, "said": str(share)})
        for measure in MEASURES:
            if measure.name in _ROWS:
                value, said = _value(measure.name, stage, stages[0])
                change = effects.get(measure.name, SAME) if place else START
                row = {"row": measure.name, "value": value, "said": said, "change": change}
                found.append({**column, **row})
    return found


def _value(measure: str, stage: Stage, first: Stage) -> tuple[float, str]:
    """A bar's length, and what stands at its end."""
    match measure:
        case "reach_weakened":
            kinds = [each for each in stage.weakest.reach.values() if each.have]
            return len(kinds), f"{len(kinds)} of {len(stage.weakest.reach)}"
        case "attempts":
            return len(stage.seen.attempts), f"{len(stage.seen.attempts)} of {stage.seen.tried}"
        case "facing_lines":
            return stage.seen.facing_lines, f"{stage.seen.facing_lines:,}"
        case "root_lines":
            return stage.seen.root_lines, f"{stage.seen.root_lines:,}"
        case "root_processes":
            share = stage.seen.root
            return share.have, f"{share.have} of {share.of}"
        case "users":
            return stage.seen.users, str(stage.seen.users)
        case "lost":
            share = lost(stage)
            return share.have, f"{share.have} of {share.of:,}" if share.have else "none"
        case _:
            ratios = relative(stage, first)
            middle = statistics.median(ratios) if ratios else 0.0
            return middle, f"{middle:.1f}" if ratios else "not taken"


# -- how it is drawn ------------------------------------------------------------------------------


def html(stages: Sequence[Stage]) -> str:
    """A page of its own.  Raises ImportError if altair or vl-convert are missing."""
    page: str = _chart(stages).to_html(inline=True)
    return page


def png(stages: Sequence[Stage], scale: float = 2.0) -> bytes:
    """The same as a picture.  Raises ImportError."""
    convert: Any = importlib.import_module("vl_convert")
    picture: bytes = convert.vegalite_to_png(_chart(stages).to_json(), scale=scale)
    return picture


def _chart(stages: Sequence[Stage]) -> Any:
    alt: Any = importlib.import_module("altair")
    rows = records(stages)
    width = COLUMN * len(stages)
    # names in front of numbers, so that columns keep their order
    x = alt.X("place:O", axis=None, scale=alt.Scale(paddingInner=0.06, paddingOuter=0.03))
    heads = _heads(alt, rows, x, width)
    cells = _cells(alt, [each for each in rows if "level" in each], x, width)
    bars = [
        _bars(alt, [each for each in rows if each["row"] == name], x, width, _ROWS[name])
        for name in _ROWS
    ]
    return (
        alt.vconcat(heads, cells, *bars, spacing=9)
        .resolve_scale(x="shared", color="independent")
        .properties(
            title=alt.TitleParams(
                "From a monolith to compartments, one security pattern at a time",
                subtitle=[
                    "Each column is a running mail server, made from the one on its left by the"
                    " pattern at its head, and measured.",
                    "Coloured bars: what that pattern changed, for the better (green) or the worse"
                    " (orange). Grey: unchanged.",
                ],
                fontSize=21, subtitleFontSize=13, subtitleColor=_QUIET, anchor="start",
                offset=14, color=_INK,
            ),
            padding={"left": 16, "right": 24, "top": 16, "bottom": 16},
        )
        .configure(background="white", font=_FONT, view=alt.ViewConfig(stroke=None))
    )  # fmt: skip


def _heads(alt: Any, rows: list[dict[str, Any]], x: Any, width: int) -> Any:
    first = {each["place"]: each for each in rows}
    data = alt.Data(values=[_head(each) for each in first.values()])
    base = alt.Chart(data).encode(x=x, tooltip=["architecture:N", "pattern:N", "text:N"])
    number = base.mark_text(fontSize=12, color=_QUIET, y=6).encode(text="place:O")
    names = base.mark_text(
        fontSize=13, fontWeight="bold", color=_INK, lineBreak="\n", lineHeight=15, y=22
    ).encode(text="head:N")
    texts = base.mark_text(
        fontSize=10, color=_QUIET, lineBreak="\n", lineHeight=12, y=54, baseline="top"
    ).encode(text="below:N")
    return alt.layer(number, names, texts).properties(width=width, height=106)


def _head(row: dict[str, Any]) -> dict[str, Any]:
    """With a pattern's name, and what it does, in short lines."""
    name = " ".join(_hyphenated(word) for word in str(row["pattern"]).split())
    lines = textwrap.wrap(name, _HEAD, break_on_hyphens=False)
    return {
        **row,
        "head": "\n".join(lines),
        "below": "\n".join(textwrap.wrap(str(row["text"]), _TEXT)),
    }


def _hyphenated(word: str) -> str:
    """A long one in two halves."""
    half = len(word) // 2
    return f"{word[:half]}- {word[half:]}" if len(word) > _HEAD else word


def _cells(alt: Any, rows: list[dict[str, Any]], x: Any, width: int) -> Any:
    data = alt.Data(values=rows)
    title = ["A seized process that", "faces the network reads"]
    y = alt.Y("row:N", sort=list(KINDS), axis=_side(alt, title, labels=True))
    base = alt.Chart(data).encode(
        x=x, y=y, tooltip=["architecture:N", "pattern:N", "row:N", "said:N"]
    )
    colour = alt.Color(
        "level:N",
        scale=alt.Scale(domain=list(_LEVELS), range=list(_LEVELS.values())),
        legend=None,
    )
    boxes = base.mark_rect(cornerRadius=2, stroke="white", strokeWidth=2).encode(color=colour)
    texts = base.mark_text(fontSize=12).encode(
        text=alt.condition("datum.level == 'none'", alt.value("-"), alt.Text("said:N")),
        color=alt.condition("datum.level == 'all'", alt.value("white"), alt.value(_INK)),
    )
    return alt.layer(boxes, texts).properties(width=width, height=CELL_ROW * len(KINDS))


def _bars(alt: Any, rows: list[dict[str, Any]], x: Any, width: int, title: tuple[str, ...]) -> Any:
    top = max([each["value"] for each in rows] + [1e-9])
    data = alt.Data(values=rows)
    scale = alt.Scale(domain=[0, top * 1.45], nice=False)
    y = alt.Y("value:Q", scale=scale, axis=_side(alt, list(title), labels=False))
    base = alt.Chart(data).encode(
        x=x, y=y, tooltip=["architecture:N", "pattern:N", "text:N", "said:N", "change:N"]
    )
    back = base.mark_rect(cornerRadius=2).encode(
        y=alt.value(0), y2=alt.value(BAR_ROW), color=_coloured(alt, _TINTS)
    )
    bars = base.mark_bar(cornerRadiusTopLeft=2, cornerRadiusTopRight=2).encode(
        color=_coloured(alt, _CHANGES)
    )
    texts = base.mark_text(fontSize=12, dy=-8).encode(text="said:N", color=_coloured(alt, _TEXTS))
    layers = alt.layer(back, bars, texts).resolve_scale(color="independent")
    return layers.properties(width=width, height=BAR_ROW)


def _coloured(alt: Any, colours: Mapping[str, str]) -> Any:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("change:N", scale=scale, legend=None)


def _side(alt: Any, title: list[str], *, labels: bool) -> Any:
    """A row's name, on the left."""
    return alt.Axis(
        title=title, titleAngle=0, titleAlign="right", titleBaseline="middle",
        titleX=_LEFT if labels else -14,
        titleFontSize=13, titleFontWeight="normal", titleColor=_INK, titleLineHeight=16,
        labels=labels, labelFontSize=12, labelColor=_QUIET, labelPadding=6,
        domain=False, ticks=False, grid=False,
    )  # fmt: skip
