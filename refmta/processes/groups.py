"""Groups of exceptions, as nurseries raise them."""

from __future__ import annotations


def leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception of a group that is none itself."""
    first = group.exceptions[0]
    return leaf(first) if isinstance(first, BaseExceptionGroup) else first
