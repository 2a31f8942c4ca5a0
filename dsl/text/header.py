"""The header of a mixer: `q[..., h, w, d], ids[b, t]: index v, g[b]? -> o[..., h, w, d]`.

The same in both spellings. `parse.parse_header` reads it; these are what it reads it into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..source import Span

HeaderKind = Literal["real", "bool", "int", "complex", "index"]


@dataclass(frozen=True, slots=True)
class HeaderAxis:
    """An axis by name; `fixed` is the size in `z=3`. `...` is the axis named `...`."""

    name: str
    fixed: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class HeaderItem:
    """One dimension: no axis is a literal 1, one is that axis, several are a packed product."""

    axes: tuple[HeaderAxis, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class HeaderTensor:
    """An input or an output. `kind` is `index` with `index_of` naming the axis it ranges over."""

    name: str
    items: tuple[HeaderItem, ...]
    kind: HeaderKind
    index_of: HeaderAxis | None
    optional: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Header:
    inputs: tuple[HeaderTensor, ...]
    outputs: tuple[HeaderTensor, ...]
    span: Span
