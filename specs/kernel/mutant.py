"""Mutants of real source, beside the original.

A control must show that a check refuses wrong code, so the wrong code has to be made from the right
one: the text of a module is taken, a few passages are replaced, and the result is compiled as a
module of its own, under a name of its own. The original is never touched, and nobody who imported
the original sees the mutant; a module that must *use* the mutant is itself made again, with
`replacing`.

Rules
- Each passage to be replaced must occur exactly once: a control that no longer finds its passage
  fails loudly instead of testing nothing.
- New text that contains `__mutant_ran__()` counts each time it runs (the call returns True, so that
  it fits into expressions: `if __mutant_ran__() and ...`); `hits` reads the count.
- Classes of the mutant are not those of the original: values must not be mixed by isinstance.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from types import ModuleType

_NUMBERS = count(1)


class MutationError(ValueError):
    """The module's text does not have the passage exactly once."""


def mutate(
    module_name: str,
    replacements: Sequence[tuple[str, str]],
    replacing: Mapping[str, ModuleType] | None = None,
) -> ModuleType:
    """Compile the module's text with each (old, new) replaced, as a separate module.

    `replacing` maps names of modules to mutants: imports of them, inside the new module, find the
    mutant. Raises MutationError if an old text does not occur exactly once.
    """
    original = importlib.import_module(module_name)
    source = _replaced(module_name, inspect.getsource(original), replacements)
    alias = f"{module_name}__mutant_{next(_NUMBERS)}"
    mutant = ModuleType(alias, original.__doc__)
    mutant.__package__ = original.__package__
    mutant.__file__ = original.__file__
    mutant.__dict__["__mutant_hits__"] = [0]
    mutant.__dict__["__mutant_ran__"] = lambda: _count(mutant)
    sys.modules[alias] = mutant  # dataclasses and msgspec look their module up
    try:
        with _standing_in(replacing or {}):
            exec(compile(source, f"<{alias}>", "exec", dont_inherit=True), mutant.__dict__)  # noqa: S102
    except BaseException:
        del sys.modules[alias]
        raise
    return mutant


def hits(mutant: ModuleType) -> int:
    """How often the mutated lines of this mutant ran."""
    counted: list[int] = mutant.__dict__["__mutant_hits__"]
    return counted[0]


def _count(mutant: ModuleType) -> bool:
    mutant.__dict__["__mutant_hits__"][0] += 1
    return True


def _replaced(module_name: str, source: str, replacements: Sequence[tuple[str, str]]) -> str:
    for old, new in replacements:
        found = source.count(old)
        if found != 1:
            raise MutationError(f"{module_name}: {old!r} occurs {found} times, not once")
        source = source.replace(old, new)
    return source


@contextmanager
def _standing_in(replacing: Mapping[str, ModuleType]) -> Iterator[None]:
    """While this lasts, `import` and `from ... import` find the mutants."""
    originals = {name: importlib.import_module(name) for name in replacing}
    try:
        for name, module in replacing.items():
            _bind(name, module)
        yield
    finally:
        for name, module in originals.items():
            _bind(name, module)


def _bind(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules[package], last, module)
