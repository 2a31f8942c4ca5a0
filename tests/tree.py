"""The tree as data: the modules of the package, what they import, and where."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FACE = "plait"
"""The name of the root's own `__init__`; every other module goes without the leading `plait.`."""

PACKAGES = ("dsl", "compiler", "backends", "stdlib")
"""The folders that hold the package, beside the modules of the root itself."""


def module_paths() -> dict[str, Path]:
    """Every module of the package: `plait` and `api` of the root, `dsl` for dsl/__init__.py, `dsl.source`."""
    files = [*ROOT.glob("*.py"), *(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))]
    return {_name(path.relative_to(ROOT)): path for path in sorted(files)}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or FACE


def sources() -> dict[str, str]:
    """The text of every module of the package."""
    return {name: path.read_text(encoding="utf-8") for name, path in module_paths().items()}


def full_name(name: str) -> str:
    """What Python imports: `dsl.source` is `plait.dsl.source`."""
    return FACE if name == FACE else f"{FACE}.{name}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module. `ours` names it as `module_paths` does where it is part of plait."""

    module: str
    line: int
    ours: str | None
    relative: bool
    function: str | None
    """The function that holds the import, if one does."""


def imports(name: str, text: str, modules: Mapping[str, object]) -> list[Import]:
    """Everything that a module imports, at its top, under TYPE_CHECKING, or inside a function.

    `modules` are the names of the project's own modules; a name imported from a package is taken for a
    module where there is one (`from .dsl import program`).
    """
    found: list[Import] = []
    for node, function in _statements(ast.parse(text), None):
        level = node.level if isinstance(node, ast.ImportFrom) else 0
        for target in _targets(node, _package(name, modules)):
            ours = _own(target, modules)
            found.append(Import(target, node.lineno, ours, level > 0, function))
    return found


Statement = ast.Import | ast.ImportFrom


def _statements(node: ast.AST, function: str | None) -> Iterator[tuple[Statement, str | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, function
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _statements(child, child.name if inside else function)


def _package(name: str, modules: Mapping[str, object]) -> list[str]:
    """The package that a module's relative imports start from, as parts."""
    is_package = name == FACE or any(other.startswith(f"{name}.") for other in modules)
    parts = full_name(name).split(".")
    return parts if is_package else parts[:-1]


def _targets(node: Statement, package: list[str]) -> list[str]:
    """The dotted names that a statement may import, `a.b` for `from a import b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = package[: len(package) - node.level + 1] if node.level else []
    start = [*base, *(node.module.split(".") if node.module else ())]
    return [".".join((*start, alias.name)) for alias in node.names]


def _own(target: str, modules: Mapping[str, object]) -> str | None:
    """The longest leading part of `target` that is a module of ours."""
    if target.split(".")[0] != FACE:
        return None
    parts = target.split(".")[1:]
    leading = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((name for name in leading if name in modules), FACE)
