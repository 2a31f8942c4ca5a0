"""Values that are made of weights only, taken out of a program: they change when the weights do, not from
call to call (design section 2.3, hoisting).

In eval mode the program is brought into its deploy form before (`merge.py`): its stencils merged, scales and
batch-norms folded into weights, which are then made of weights only.

What is taken is as much as has weights only, if it is worth it: if it holds a reduction or a function, is
present everywhere, has the same size at every call, and takes not much more memory than what it is made of.
A read of a table at other indices is not: it costs nothing where it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from ...dsl.constructors.build import size
from ...dsl.mistakes import InvalidSize
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Output,
    Program,
    Reduce,
    Size,
    When,
    children,
    walk,
)
from ...dsl.shapes.size_forms import evaluate_size
from ..fusion.contraction import is_fixed
from ..rewrites.rewrite import substitute
from ..rewrites.simplify import rewrite_program
from ..rewrites.total import Totality
from ..rewrites.weights import made_of_weights, takes_time
from .merge import merge

MOST_GROWTH = 4
"""How many entries a value may have for each entry of the weights that it is made of."""

Computed = Map | When | Otherwise | At | Reduce | AsIf | OnGradient | Leaf | Const | Size | Coordinate
"""Forms that kernels compute."""


@dataclass(frozen=True, slots=True)
class Hoist:
    """`weights` computes the values, its outputs `names`, from the tensors `reads`; `rest` is the program
    with them as parameters of these names, after its own. `words` say how the program was rewritten for it."""

    weights: Program
    rest: Program
    names: tuple[str, ...]
    reads: tuple[str, ...]
    words: tuple[str, ...] = ()


def hoist(program: Program) -> Hoist | None:
    """The program in two, or None where nothing is worth it."""
    whole = program
    program, merged, words = _deployed(program)
    total = Totality(program)
    found = tuple(form for form in _candidates(program, merged) if total.of(form))
    if not found:
        return None
    names = tuple(f"hoisted.{i}" for i, _ in enumerate(found))
    leaves: dict[Form, Form] = {
        form: Leaf("parameter", name, form.axes) for name, form in zip(names, found, strict=True)
    }
    rest = rewrite_program(program, lambda form: substitute(form, leaves))
    made = tuple(
        Declaration(Leaf("parameter", name, form.axes), tuple((axis,) for axis in form.axes))
        for name, form in zip(names, found, strict=True)
    )
    read = {each for each in walk(found) if isinstance(each, Leaf)}
    weights = replace(
        whole,
        name=f"{program.name}_weights",
        inputs=(),
        outputs=tuple(
            Output(name, form, tuple((axis,) for axis in form.axes))
            for name, form in zip(names, found, strict=True)
        ),
        parameters=tuple(each for each in whole.parameters if each.leaf in read),
        buffers=tuple(each for each in whole.buffers if each.leaf in read),
        draws=(),
        updates=(),
        requires=(),
        names=tuple((name, form) for name, form in whole.names if form in set(walk(found))),
    )
    reads = tuple(each.leaf.name for each in weights.declarations)
    return Hoist(weights, replace(rest, parameters=(*rest.parameters, *made)), names, reads, words)


def _deployed(program: Program) -> tuple[Program, frozenset[Form], tuple[str, ...]]:
    """The deploy form, where all weights that it needs are worth being kept, and these."""
    if program.mode == "train" or program.updates:
        return program, frozenset(), ()
    merged = merge(program)
    if not all(_pays(each, program, frozenset(merged.weights)) for each in merged.weights):
        return program, frozenset(), ()
    return merged.program, frozenset(merged.weights), merged.words


def _candidates(program: Program, merged: frozenset[Form]) -> tuple[Form, ...]:
    """The largest values of weights only that are worth it, but for whether they are present."""
    still = made_of_weights(program)
    found: dict[Form, None] = {}
    stack, seen = list(program.roots), set[Form]()
    while stack:
        form = stack.pop()
        if form in seen:
            continue
        seen.add(form)
        if still.get(form) and form.kind == "real" and _pays(form, program, merged):
            found[form] = None
        else:
            stack += children(form)
    return tuple(form for form in program.forms if form in found)


def _pays(form: Form, program: Program, merged: frozenset[Form]) -> bool:
    below = tuple(walk((form,)))
    leaves = [each for each in below if isinstance(each, Leaf)]
    if not leaves or not all(isinstance(each, Computed) and each.kind != "complex" for each in below):
        return False
    if form not in merged and not any(map(takes_time, below)):
        return False
    sized = frozenset(axis for leaf in leaves for axis in leaf.over)
    known = dict(program.fixed)
    try:
        entries = [_entries(leaf.over, known) for leaf in leaves]
        own = _entries(form.axes, known)
    except InvalidSize:
        return False
    axes = {axis for each in below for axis in each.axes}
    return all(is_fixed(axis, sized) for axis in axes) and own <= MOST_GROWTH * sum(entries)


def _entries(axes: tuple[Axis, ...], known: Mapping[Axis, int]) -> int:
    """Raises InvalidSize where a size belongs to the call."""
    return prod(evaluate_size(size(axis), known) for axis in axes)
