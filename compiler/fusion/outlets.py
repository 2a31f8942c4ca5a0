"""Results that are values read under another name of their axes, as `dk[{s: t}]` of keys `k[{t: s}]`.

A name is not worth a kernel: the result is the value itself, laid out by its own axes, which have the same
ranges.
"""

from __future__ import annotations

from dataclasses import replace

from ...dsl.constructors.build import low, size
from ...dsl.program import At, Axis, Const, Coordinate, Form, Leaf, Otherwise, Output, Program


def under_own_names(program: Program) -> Program:
    """The program with results in the names of the values that they read."""
    outputs = tuple(_plain(each) for each in program.outputs)
    return program if outputs == program.outputs else replace(program, outputs=outputs)


def _plain(output: Output) -> Output:
    """x[{s: t}] -> x, also under `otherwise` a number."""
    form, outer = output.value, None
    match output.value:
        case Otherwise(value=inner, fallback=Const()) as outer:
            form = inner
        case _:
            pass
    if not isinstance(form, At) or isinstance(form.value, Leaf):
        return output
    names: dict[Axis, Axis] = {}
    for axis, index in form.indices:
        if not isinstance(index, Coordinate) or _range(index.axis) != _range(axis) or index.axis in names:
            return output
        names[index.axis] = axis
    own = [axis for axis in form.value.axes if axis not in names.values()]
    if set(own) & set(names):
        return output
    items = tuple(tuple(names.get(axis, axis) for axis in item) for item in output.items)
    value = form.value if outer is None else replace(outer, value=form.value)
    return replace(output, value=value, items=items)


def _range(axis: Axis) -> tuple[Form, Form]:
    return low(axis), size(axis)
