"""Which values of a program are made of weights only. Light: a module asks it whenever it is made."""

from __future__ import annotations

from collections.abc import Mapping

from ...dsl.program import (
    AsIf,
    At,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Program,
    Reduce,
    Size,
    When,
    children,
    walk,
)

FUNCTIONS = frozenset(("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "erf", "sigmoid", "pow"))


def made_of_weights(program: Program) -> Mapping[Form, bool]:
    """Of each form, whether it is made of parameters and of buffers that no call updates, and of numbers."""
    updated = {each.buffer for each in program.updates}
    still: dict[Form, bool] = {}
    for form in program.forms:
        match form:
            case Leaf(role=role):
                still[form] = role == "parameter" or (role == "buffer" and form not in updated)
            case Map() | When() | Otherwise() | At() | Reduce() | AsIf() | OnGradient():
                still[form] = all(still.get(each, False) for each in children(form))
            case _:
                still[form] = isinstance(form, Const | Size | Coordinate)
    return still


def takes_time(form: Form) -> bool:
    """Whether a value is a reduction, or a function of weights: of sizes and numbers it costs nothing."""
    if isinstance(form, Reduce):
        return True
    called = isinstance(form, Map) and form.op in FUNCTIONS
    return called and any(isinstance(each, Leaf) for each in walk((form,)))


def promising(program: Program) -> bool:
    """Whether there may be something that is worth being computed once a weight update: or that would be, once
    sums of products are merged and what scales them is folded into their weights."""
    still = made_of_weights(program)
    if any(still[form] and form.kind == "real" and takes_time(form) for form in program.forms):
        return True
    linear = _linear(program, still)
    return any(
        isinstance(form, Map)
        and not still[form]
        and (
            (form.op in ("add", "sub") and all(linear.get(each, 0) for each in form.args))
            or (form.op in ("mul", "div") and any(linear.get(each, 0) > 1 for each in form.args))
        )
        and any(linear.get(each, 0) > 1 for each in form.args)
        for form in program.forms
    )


def _linear(program: Program, still: Mapping[Form, bool]) -> dict[Form, int]:
    """2 of sums with weights, and of what adds or scales them; 1 of other values that are no weights."""
    found: dict[Form, int] = {}
    for form in program.forms:
        if still[form] or form.kind != "real":
            continue
        match form:
            case Reduce(op="sum", pieces=(piece,)):
                found[form] = 2 if any(still.get(each) for each in children(piece.value)) else 1
            case Map(op="add" | "sub" | "mul" | "div" | "neg") | Otherwise():
                found[form] = max(found.get(each, 1) for each in children(form))
            case _:
                found[form] = 1
    return found
