"""The names of refmta's processes, as manifests have them: a row of the architecture is one, or,
if it is a pool, three kinds of them.
"""

from __future__ import annotations

from refmta.architectures.architecture import Architecture, CompartmentRow, Talk


def parts(row: CompartmentRow) -> tuple[str, ...]:
    """Of a pool the parent, the template that forks, and the workers; else the row's own name."""
    return (row.name, f"{row.name} template", working(row)) if row.pooled else (row.name,)


def working(row: CompartmentRow) -> str:
    """The one that does the row's job."""
    return f"{row.name} worker" if row.pooled else row.name


def ends(row: CompartmentRow) -> tuple[str, ...]:
    """Those that hold channels to other compartments: a pool's parent introduces its workers."""
    return (row.name, working(row)) if row.pooled else (row.name,)


def between(architecture: Architecture) -> tuple[Talk, ...]:
    """The channels that leave a process; the others have no descriptors."""
    return tuple(each for each in architecture.talks if each.client != each.server)
