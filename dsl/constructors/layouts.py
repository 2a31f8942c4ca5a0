"""How the dimensions of a tensor are written, where they stand in the text, and what a product leaves open."""

from __future__ import annotations

from collections.abc import Iterable

from ..program import Axis, Declaration, Item
from ..source import Span


def item_text(item: Item) -> str:
    """`1`, `h` or `(h w)`."""
    names = " ".join(axis.name for axis in item)
    return "1" if not item else names if len(item) == 1 else f"({names})"


def item_span(declaration: Declaration, place: int) -> Span | None:
    """The characters of one dimension in `x[b, (h w), c]`, or the whole where they are not found."""
    span = declaration.span
    if span is None:
        return None
    text = span.text
    start, end = text.find("["), text.rfind("]")
    if start < 0 or end < start:
        return span
    parts = _commas(text, start + 1, end)
    if len(parts) != len(declaration.items):
        return span
    left, right = parts[place]
    return Span(span.source, span.start + left, span.start + right)


def _commas(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The stretches between the commas outside brackets, blanks at their ends left out."""
    cuts, depth = [start - 1], 0
    for at in range(start, end):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if text[at] == "," and depth == 0:
            cuts.append(at)
    stretches: list[tuple[int, int]] = []
    for left, right in zip(cuts, [*cuts[1:], end], strict=True):
        part = text[left + 1 : right]
        left += 1 + len(part) - len(part.lstrip())
        stretches.append((left, left + max(1, len(part.strip()))))
    return stretches


def written(declaration: Declaration) -> str:
    """`x[b, (h w), c]`."""
    return f"{declaration.leaf.name}[{', '.join(map(item_text, declaration.items))}]"


def unpack(items: Iterable[Item], known: set[Axis]) -> None:
    """Add the axes that packed dimensions give, as long as they give any."""
    packed = [item for item in items if len(item) > 1]
    before = -1
    while before != len(known):
        before = len(known)
        for item in packed:
            unknown = [axis for axis in item if axis.size is None and axis not in known]
            if len(unknown) == 1:
                known.add(unknown[0])
