"""The forward derivative of a Program, as a Program: the transpose of its gradient.

The gradient x, c -> J(x)^T c is linear in c, so its own gradient in c, pulled back from t, is J(x) t.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ...dsl.mistakes import NotYet
from ...dsl.program import Declaration, Form, Leaf, Output, Program, walk
from ..rewrites.rewrite import substitute
from .derive import gradient


def tangent(program: Program, wrt: Sequence[str]) -> Program:
    """The program that computes `tangent.NAME` for each real or complex output, in its layout.

    Its inputs are those of `program`, then `tan.NAME` for each tensor of `wrt`, in the layout of its
    declaration. Raises what `gradient` raises, and NotYet where the program has an `on_gradient` whose
    rule is not linear in the cotangent, so that no forward derivative belongs to it.
    """
    reverse = gradient(apart(program), wrt)
    cotangents = added(program, reverse)
    forward = gradient(apart(reverse), tuple(each.leaf.name for each in cotangents))
    _check_linear(program, cotangents, forward)
    taken = {each.leaf.name for each in program.declarations}
    tangents = {
        old.leaf: replace(old, leaf=replace(old.leaf, name=free(f"tan.{name}", taken)))
        for name, old in zip(wrt, added(reverse, forward), strict=True)
    }
    leaves: dict[Form, Form] = {old: new.leaf for old, new in tangents.items()}
    outputs = tuple(
        Output(f"tangent.{each.name.removeprefix('grad.cot.')}", substitute(each.value, leaves), each.items)
        for each in forward.outputs
    )
    return replace(
        program,
        name=f"{program.name}_tangent",
        inputs=(*program.inputs, *tangents.values()),
        outputs=outputs,
        updates=(),
        names=(),
    )


def apart(program: Program) -> Program:
    """The program with outputs named so that their cotangents (`cot.NAME`) are new names: the gradient
    of a gradient has both a cotangent of its output `grad.x` and an input of that name."""
    taken = {each.leaf.name for each in program.declarations}
    outputs = (
        replace(each, name=free(f"cot.{each.name}", taken).removeprefix("cot.")) for each in program.outputs
    )
    return replace(program, outputs=tuple(outputs))


def free(name: str, taken: Collection[str]) -> str:
    """The name, or one like it that is not taken."""
    while name in taken:
        name += "'"
    return name


def added(before: Program, after: Program) -> tuple[Declaration, ...]:
    """The inputs that only `after` has."""
    names = {declaration.leaf.name for declaration in before.inputs}
    return tuple(each for each in after.inputs if each.leaf.name not in names)


def _check_linear(program: Program, cotangents: Sequence[Declaration], forward: Program) -> None:
    """No derivative in a cotangent may depend on that cotangent, or on another."""
    used = {form for form in walk(output.value for output in forward.outputs) if isinstance(form, Leaf)}
    if any(each.leaf in used for each in cotangents):
        raise NotYet(
            f"`{program.name}` has no forward derivative: a rule of its `on_gradient` is not linear",
            at=program.span,
        )
