"""What a module's source says: which names it uses, and how many lines of code it has.

Names are resolved through the module's own imports, so that neither `import os as o` nor
`from os import link as l` nor `getattr(os, "link")` hides a call:

    import os as o; o.fork()            os.fork
    from subprocess import run          subprocess.run
    getattr(os, "chroot")(path)         os.chroot
    __import__("pickle")                pickle
    eval(text)                          eval        unless the module binds that name itself
    assert x                            assert

This reads text and runs nothing.  It is made against habit, not against malice: code that hides a
name (`getattr(os, a + b)`) is not found, and needs none of this to be refused in a review.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

_IMPORTERS = frozenset({"__import__", "importlib.import_module"})


@dataclass(frozen=True, slots=True)
class Use:
    """A name, and the line where it is used."""

    name: str
    line: int


def uses(source: str) -> list[Use]:
    """Every use of a name that the module did not make itself.  Raises SyntaxError."""
    tree = ast.parse(source)
    reader = _Reader(dict(_imported(tree)), frozenset(_bound(tree)))
    return sorted({*reader.read(tree)}, key=lambda use: (use.line, use.name))


def imports(source: str) -> set[str]:
    """The top-level names of all that it imports.  Raises SyntaxError."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {_first(each.name) for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(_first(node.module or ""))
    return found


def is_among(name: str, banned: str) -> bool:
    """Whether a use falls under a ban: the name itself, a part of it, or a pattern (os.exec*)."""
    return fnmatchcase(name, banned) or name.startswith(f"{banned}.")


def code_lines(source: str) -> int:
    """Lines that hold code: no blanks, comments, docstrings.  Raises SyntaxError."""
    texts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in texts
        for number, line in enumerate(source.splitlines(), 1)
    )


# -- names ----------------------------------------------------------------------------------------


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name here, what it is elsewhere)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield (each.asname, each.name) if each.asname else (_first(each.name),) * 2
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                yield each.asname or each.name, f"{node.module}.{each.name}"


def _first(name: str) -> str:
    return name.partition(".")[0]


def _bound(tree: ast.AST) -> Iterator[str]:
    """Names that the module makes itself: they are no builtins.  Scopes are not told apart, but a
    method is no name: it must not hide a builtin from the whole module.
    """
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = {id(each) for node in classes for each in node.body}
    for node in ast.walk(tree):
        match node:
            case _ if id(node) in methods:
                continue
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name


@dataclass(frozen=True, slots=True)
class _Reader:
    imported: dict[str, str]
    bound: frozenset[str]

    def read(self, tree: ast.AST) -> Iterator[Use]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (Use(each.name, node.lineno) for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (Use(f"{node.module}.{e.name}", node.lineno) for e in node.names)
            elif isinstance(node, ast.Assert):
                yield Use("assert", node.lineno)
            elif isinstance(node, ast.Name | ast.Attribute | ast.Call):
                name = self._name(node)
                if name:
                    yield Use(name, node.lineno)

    def _name(self, node: ast.AST) -> str:
        """The dotted name that an expression stands for; "" if it stands for none."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                return self.imported.get(name, "" if name in self.bound else name)
            case ast.Attribute(value=value, attr=attr):
                above = self._name(value)
                return f"{above}.{attr}" if above else ""
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(str(attr)), *_]):
                above = self._name(value)
                return f"{above}.{attr}" if above else ""
            case ast.Call(func=function, args=[ast.Constant(str(module)), *_]):
                return module if self._name(function) in _IMPORTERS else ""
        return ""
