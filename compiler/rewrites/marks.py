"""Programs without marks on the derivative, for those who compute values: what a mark says of gradients would be
planned, stored and counted, and a cotangent has no value in a call."""

from __future__ import annotations

from collections.abc import Callable

from ...dsl.program import AsIf, Form, OnGradient, Program, children, walk
from .rewrite import rebuild
from .simplify import rewrite_program


def without_marks(program: Program) -> Program:
    """The program with the value of every mark in its place; the same object where there is none."""
    if not any(isinstance(form, AsIf | OnGradient) for form in program.forms):
        return program
    return rewrite_program(program, _bare())


def _bare() -> Callable[[Form], Form]:
    done: dict[Form, Form] = {}

    def rewritten(root: Form) -> Form:
        for form in walk((root,), _operands):
            if form not in done:
                made = [done[each] for each in _operands(form)]
                done[form] = made[0] if isinstance(form, AsIf | OnGradient) else rebuild(form, made)
        return done[root]

    return rewritten


def _operands(form: Form) -> tuple[Form, ...]:
    return (form.value,) if isinstance(form, AsIf | OnGradient) else children(form)
