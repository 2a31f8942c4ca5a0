"""When the sizes of a program are in order: one rule is one function is one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from ..constructors.layouts import item_span, item_text, unpack, written
from ..errors import Label, PlaitError
from ..mistakes import AxisSizeMismatch, InvalidSize, KindMismatch
from ..program import BATCH, Axis, Const, Map, Program, Size, walk
from ..source import Span
from .size_forms import closed, form_axes, not_a_size, program_axes, size_operands, used_axes


def in_python(span: Span | None) -> bool:
    """Whether the user's text is Python, so that remedies are spelled that way."""
    return span is not None and span.source.path.endswith(".py")


def also(span: Span | None, text: str, at: Span | None) -> list[Label]:
    """A second label, unless it would sit where the first does."""
    return [Label(span, text)] if span is not None and span != at else []


def fixed_sizes_agree(program: Program) -> Iterator[PlaitError]:
    """A fixed size is said once, and at least 1."""
    seen: dict[Axis, int] = {}
    for axis, size in program.fixed:
        if seen.setdefault(axis, size) != size:
            yield AxisSizeMismatch(
                f"axis `{axis.name}` has two sizes in `{program.name}`, {seen[axis]} and {size}",
                at=axis.span or program.span, label=str(size), facts={"axis": axis.name, "sizes": (seen[axis], size)},
            )  # fmt: skip
        if size < 1:
            yield InvalidSize(
                f"axis `{axis.name}` has size {size}; a size is at least 1",
                at=axis.span or program.span,
                label="here",
            )


def sizes_are_sizes(program: Program) -> Iterator[PlaitError]:
    """The range of an axis and a requirement are computed from sizes and numbers alone."""
    ranges = [form for axis in program_axes(program) for form in (axis.lo, axis.size) if form is not None]
    for form in (*ranges, *(require.predicate for require in program.requires)):
        for part in walk((form,), size_operands):
            if not isinstance(part, Const | Size | Map):
                yield not_a_size(part)


def requirements_are_conditions(program: Program) -> Iterator[PlaitError]:
    """A requirement is true or false."""
    for require in program.requires:
        if require.predicate.kind != "bool":
            yield KindMismatch(
                f"`require` takes a condition on sizes, and found {require.predicate.kind}",
                at=require.predicate.span or require.span, label="here",
                helps=["compare sizes: `size(h) % 2 == 0`, in Python `h.size % 2 == 0`"],
            )  # fmt: skip


def all_sizes_known(program: Program) -> Iterator[PlaitError]:
    """Some tensor of the call, or the program, gives every axis its size. Of two that only their product
    is known of, the first is named: with it the other is known."""
    known = {axis for axis, _ in program.fixed}
    known |= {item[0] for d in program.declarations for item in d.items if len(item) == 1}
    for axis in used_axes(program):
        unpack((item for d in program.declarations for item in d.items), known)
        if axis.size is None and axis != BATCH and axis not in known:
            known.add(axis)
            yield _without_size(program, axis)


def _without_size(program: Program, axis: Axis) -> PlaitError:
    name = axis.name
    packed = [(d, at, item) for d in program.declarations for at, item in enumerate(d.items) if axis in item]
    at = axis.span or next((item_span(d, place) for d, place, _ in packed), None) or _first_use(program, axis)
    notes = [f"`{written(d)}` gives only the product `{item_text(item)}`" for d, _, item in packed]
    if in_python(at):
        say = f'say it: `.program({name}=16)`, or make the axis with `axis("{name}", 16)`'
    else:
        say = f"say it: `axis {name}=16`, or `{name}=16` where an input names it"
    return InvalidSize(
        f"axis `{name}` of `{program.name}` has no size: no input, parameter or fixed size gives it", at=at,
        label="of unknown size", notes=notes, helps=[say], facts={"axis": name},
    )  # fmt: skip


def _first_use(program: Program, axis: Axis) -> Span | None:
    for form in program.forms:
        if form.span is not None and axis in closed(form_axes((form,))):
            return form.span
    return next((o.span for o in program.outputs if any(axis in item for item in o.items)), program.span)
