"""What an interpretation makes, in which order, and how much memory that takes."""

from __future__ import annotations

import os
from math import prod

from ...dsl.mistakes import NotYet, TooLarge
from ...dsl.program import (
    AsIf,
    Axis,
    Form,
    Jvp,
    Library,
    OnGradient,
    Scan,
    Vjp,
    children,
    walk,
)
from .partial import DTYPES, Sizes, box
from .storage import describe_sizes

Step = tuple[Form, tuple[Form, ...]]
"""A form to make, and the values that nobody reads after it."""


def operands_of(form: Form) -> tuple[Form, ...]:
    """The values that the value of a form is made of; marks on the derivative have no other part."""
    return (form.value,) if isinstance(form, AsIf | OnGradient) else children(form)


def plan(roots: tuple[Form, ...]) -> list[Step]:
    """The forms that the roots need, operands first, each with the values that end with it. Raises
    NotYet for a form that the interpreter does not run."""
    needed = set(roots)
    steps: list[Step] = []
    for form in reversed(tuple(walk(roots, operands_of))):
        if isinstance(form, Scan | Library | Jvp | Vjp):
            raise not_yet(form)
        ended = tuple(each for each in dict.fromkeys(operands_of(form)) if each not in needed)
        needed.update(ended)
        steps.append((form, ended))
    return steps[::-1]


def check_memory(steps: list[Step], sizes: Sizes, limit: int | None = None) -> None:
    """Raise TooLarge for a program that needs more than `limit` bytes (half of the machine's memory
    where none is given) by this rule: a value takes its kind's width and one byte an entry from when
    it is made until its last use; making it takes three times that over the axes of all operands.
    """
    limit = half_of_memory() if limit is None else limit
    live, most, biggest = 0, 0, steps[0][0]
    for form, ended in steps:
        making = live + 3 * _bytes(form, _axes_around(form), sizes)
        if making > most:
            most, biggest = making, form
        live += _bytes(form, form.axes, sizes) - sum(_bytes(each, each.axes, sizes) for each in ended)
    if most > limit:
        size = _bytes(biggest, _axes_around(biggest), sizes)
        raise TooLarge(
            f"the reference interpreter would need {_shown(most)}, and its limit is {_shown(limit)}",
            at=biggest.span,
            label="the biggest value",
            notes=[f"biggest value: {describe_sizes(_axes_around(biggest), sizes)} ({_shown(size)})"],
            helps=["check the meaning at smaller sizes, or raise `memory_limit`"],
            facts={"needed": most, "limit": limit},
        )


def _axes_around(form: Form) -> tuple[Axis, ...]:
    below = (axis for operand in operands_of(form) for axis in operand.axes)
    return tuple(dict.fromkeys((*form.axes, *below)))


def _bytes(form: Form, axes: tuple[Axis, ...], sizes: Sizes) -> int:
    return prod(box(axes, sizes)) * (DTYPES[form.kind].itemsize + 1)


def _shown(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**20 else f"{size} bytes"


def half_of_memory() -> int:
    """Half of the machine's memory in bytes. Of all, not of what happens to be free: the same
    program gives the same answer twice."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def not_yet(form: Form) -> NotYet:
    name = form.op if isinstance(form, Library) else type(form).__name__.lower()
    return NotYet(
        f"the reference interpreter does not run `{name}` yet", at=form.span, label=f"this is `{name}`"
    )
