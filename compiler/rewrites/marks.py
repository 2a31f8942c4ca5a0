"""Programs without marks on the derivative, for those who compute values: what a mark says of gradients would be
planned, stored and counted, and a cotangent has no value in a call."""

from __future__ import annotations

from ...dsl.program import AsIf, OnGradient, Program
from .simplify import replaced


def without_marks(program: Program) -> Program:
    """The program with the value of every mark in its place; the same object where there is none."""
    marks = (form for form in program.forms if isinstance(form, AsIf | OnGradient))
    return replaced(program, {form: form.value for form in marks})
