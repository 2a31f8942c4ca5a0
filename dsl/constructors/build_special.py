"""Constructors that check, for the forms that both spellings write as calls: scans, gradient
marks, derivatives of values, libraries; and sugar over sizes and presence.

Like `dsl.constructors.build`, each raises the fitting `PlaitError` with the span it was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Label
from ..mistakes import (
    InvalidArgument,
    InvalidSize,
    KindMismatch,
    RequirementFailed,
    ShadowedName,
    UndeclaredAxis,
    UnknownName,
)
from ..ops import Kind
from ..program import (
    AsIf,
    Axis,
    Carry,
    Const,
    Coordinate,
    Form,
    Jvp,
    Leaf,
    Library,
    Map,
    OnGradient,
    Require,
    Scan,
    Size,
    Vjp,
    children,
    walk,
)
from ..source import Span
from .build import apply, blamed, clamp, low, select, size, unknown_axis, when


def axis_names(axes: Sequence[Axis]) -> str:
    """`b, h, w`, or `none`."""
    return ", ".join(axis.name for axis in axes) or "none"


def _within(value: Form, axes: Sequence[Axis], what: str, of: str, span: Span | None) -> None:
    """Raise UndeclaredAxis unless every axis of `value` is one of `axes`."""
    extra = [axis for axis in value.axes if axis not in axes]
    if extra:
        raise UndeclaredAxis(
            f"{what} has axis `{extra[0].name}`, which {of} lacks", at=span, label="here",
            labels=_elsewhere(value, span, f"has axes {axis_names(value.axes)}"),
            notes=[f"axes of {of}: {axis_names(axes)}"],
        )  # fmt: skip


def _elsewhere(form: Form, span: Span | None, text: str) -> list[Label]:
    return [Label(form.span, text)] if form.span is not None and form.span != span else []


def _numeric(value: Form, who: str, span: Span | None) -> None:
    if value.kind == "bool":
        raise KindMismatch(
            f"`{who}` takes numbers, and found bool", labels=blamed(value, span, "this is bool")
        )


# --- sizes and presence


def cdiv(value: Form, by: Form, span: Span | None = None) -> Form:
    """`value / by` rounded up, for `by` of at least 1."""
    below = apply("sub", by, Const(1), span=span)
    return apply("floordiv", apply("add", value, below, span=span), by, span=span)


def zeros(axes: Sequence[Axis], span: Span | None = None) -> Form:
    """0.0 over the axes: `0.0 * (b + c)`, which is total since coordinates are."""
    total: Form | None = None
    for axis in dict.fromkeys(axes):
        here = Coordinate(axis, span=span)
        total = here if total is None else apply("add", total, here, span=span)
    return Const(0.0, span=span) if total is None else apply("mul", Const(0.0), total, span=span)


def trust(index: Form, axis: Axis, span: Span | None = None) -> Form:
    """The index as one of `axis`; one that lies outside after all is taken to the nearer end."""
    lowest = low(axis)
    end = size(axis, span) if lowest == Const(0) else apply("add", lowest, size(axis), span=span)
    return clamp(index, lowest, apply("sub", end, Const(1), span=span), span)


def cases(pairs: Sequence[tuple[Form, Form]], span: Span | None = None) -> Form:
    """The value of the first condition that holds; absent where none does.

    A condition that is the constant true ends the list.
    """
    if not pairs:
        raise InvalidArgument("`cases` needs at least one case", at=span, label="here")
    predicate, value = pairs[-1]
    result = value if predicate == Const(True) else when(predicate, value, span)
    for predicate, value in reversed(pairs[:-1]):
        result = select(predicate, value, result, span)
    return result


def requirement(predicate: Form, span: Span | None = None) -> Require | None:
    """A condition on sizes that a call must meet; None where it always holds.

    Raises RequirementFailed where it never does, KindMismatch where it is no condition on sizes.
    """
    if predicate.kind != "bool" or predicate.axes:
        found = f"a predicate over {axis_names(predicate.axes)}" if predicate.axes else predicate.kind
        raise KindMismatch(
            f"`require` takes a condition on sizes, and found {found}",
            labels=blamed(predicate, span, f"this is {found}"),
            helps=["compare sizes: `require(h.size % 2 == 0)`"],
        )  # fmt: skip
    if isinstance(predicate, Const):
        if predicate.value:
            return None
        raise RequirementFailed(
            "this requirement never holds", at=span, label="false for the sizes known here"
        )
    return Require(predicate, span)


# --- scans


def previous(axis: Axis, init: Form, name: str, span: Span | None = None) -> Leaf:
    """The carry of a scan before each step: a bound variable over `axis` and the axes of `init`."""
    if axis in init.axes:
        raise ShadowedName(
            f"the first value of a scan over `{axis.name}` has that axis itself", at=span, label="here",
            helps=[f"read one index of it: `x[{{{axis.name}: 0}}]`"],
        )  # fmt: skip
    return Leaf("bound", name, (axis, *init.axes), init.kind, span=span)


def carry(leaf: Leaf, init: Form, step: Form, span: Span | None = None) -> Carry:
    """One carried value. The step may lack axes of the carry and has no others; whole numbers
    become real where the carry is real."""
    _within(step, leaf.over, "the step", "the carry", span)
    if step.kind == "int" and leaf.kind == "real":
        step = apply("to_real", step, span=span)
    if step.kind != leaf.kind:
        raise KindMismatch(
            f"the carry begins as {leaf.kind} and the step makes it {step.kind}", at=span, label="this step",
            labels=_elsewhere(init, span, f"begins as {leaf.kind}"),
            helps=["begin with `0.0` or `zeros(...)` for a real carry"] if leaf.kind == "int" else [],
        )  # fmt: skip
    return Carry(leaf, init, step)


def scan(
    axis: Axis,
    carries: Sequence[Carry],
    *,
    reverse: bool = False,
    until: Form | None = None,
    span: Span | None = None,
) -> Scan:
    """Carry number 0 at every index of `axis`; `component` and `last` of the result pick others.

    `until` is a predicate over axes of the carries: a lane where it holds keeps its carry.
    """
    if until is not None:
        if until.kind != "bool":
            raise KindMismatch(
                f"`until` needs a predicate, and found {until.kind}",
                labels=blamed(until, span, f"this is {until.kind}"),
            )
        shared = [a for a in carries[0].previous.over if all(a in c.previous.over for c in carries)]
        _within(until, shared, "`until`", "the carry", span)
    return Scan(axis, tuple(carries), reverse, until, span=span)


def steps(whole: Scan, name: str, span: Span | None = None) -> Form:
    """How many steps each lane of a scan took before `until` held for it."""
    lanes = tuple(a for a in whole.until.axes if a != whole.axis) if whole.until is not None else ()
    start = apply("to_int", zeros(lanes, span), span=span)
    leaf = previous(whole.axis, start, name, span)
    counter = Carry(leaf, start, apply("add", leaf, Const(1), span=span))
    carries = (*whole.carries, counter)
    return Scan(whole.axis, carries, whole.reverse, whole.until, len(carries) - 1, last=True, span=span)


def unbound(roots: Sequence[Form]) -> list[Leaf]:
    """The bound variables used outside the scan or the rule that binds them."""
    free: dict[Form, frozenset[Leaf]] = {}
    for form in walk(roots):
        below = frozenset[Leaf]().union(*(free[child] for child in children(form)))
        match form:
            case Leaf(role="bound"):
                below = frozenset((form,))
            case Scan(carries=carries):
                outside = frozenset[Leaf]().union(*(free[c.init] for c in carries))
                below = outside | (below - {c.previous for c in carries})
            case OnGradient(value=value, cotangent=cotangent):
                below = free[value] | (below - {cotangent})
            case _:
                pass
        free[form] = below
    return sorted({leaf for root in roots for leaf in free[root]}, key=lambda leaf: leaf.name)


def escaped(leaf: Leaf) -> UnknownName:
    """The mistake of using the previous value of a scan outside that scan."""
    return UnknownName(
        "the previous value of a scan is used outside that scan", at=leaf.span, label="made here",
        helps=["use it in the step that `scan` is given, and nowhere else; the scan's result has every index"],
    )  # fmt: skip


# --- gradient marks and derivatives


def as_if(value: Form, surrogate: Form, span: Span | None = None) -> Form:
    """The value of one, the derivative of the other. A whole value with a real surrogate becomes real,
    since whole numbers have no derivative: `as_if(round(x), x)`."""
    _numeric(value, "as_if", span)
    _numeric(surrogate, "as_if", span)
    _within(surrogate, value.axes, "the surrogate", "the value", span)
    if value.kind == "int" and surrogate.kind == "real":
        value = apply("to_real", value, span=span)
    return AsIf(value, surrogate, span=span)


def stop(value: Form, span: Span | None = None) -> Form:
    """The value, with no derivative: `as_if` of a constant, of the kind of the value."""
    _numeric(value, "stop", span)
    return AsIf(value, Const(0.0), span=span)


def cotangent(value: Form, name: str, span: Span | None = None) -> Leaf:
    """The bound variable of an `on_gradient` rule."""
    _numeric(value, "on_gradient", span)
    return Leaf("bound", name, value.axes, value.kind, span=span)


def on_gradient(value: Form, variable: Leaf, rule: Form, span: Span | None = None) -> Form:
    """The value; its cotangent g becomes `rule`, a form in which `variable` stands for g."""
    _numeric(rule, "on_gradient", span)
    _within(rule, value.axes, "the rule's result", "the value", span)
    return OnGradient(value, variable, rule, span=span)


def _depends(value: Form, at: Form, who: str, span: Span | None) -> None:
    if not any(form == at for form in walk((value,))):
        raise InvalidArgument(
            f"`{who}` asks for the derivative along a value that the result is not computed from", at=span,
            label="here", labels=_elsewhere(at, span, "this value"),
            helps=["name the very value that the result was made of; a copy computed again is another value"],
        )  # fmt: skip


def jvp(value: Form, at: Sequence[Form], tangents: Sequence[Form], span: Span | None = None) -> Form:
    """The derivative of `value` along `tangents`, one for each of the earlier values `at`."""
    if not at:
        raise InvalidArgument("`jvp` needs at least one direction", at=span, label="here")
    _numeric(value, "jvp", span)
    for where, tangent in zip(at, tangents, strict=True):
        _numeric(tangent, "jvp", span)
        _within(tangent, where.axes, "the direction", "the value that it moves", span)
        _depends(value, where, "jvp", span)
    return Jvp(value, tuple(at), tuple(tangents), span=span)


def vjp(value: Form, at: Form, pulled: Form, span: Span | None = None) -> Form:
    """The pullback of the cotangent `pulled` through `value` to the earlier value `at`."""
    for form in (value, at, pulled):
        _numeric(form, "vjp", span)
    _within(pulled, value.axes, "the cotangent", "the value", span)
    _depends(value, at, "vjp", span)
    return Vjp(value, at, pulled, span=span)


# --- libraries


def _extent(form: Form) -> Form:
    """A size in terms of the axes that are given, those made from others put in."""

    def operands(each: Form) -> tuple[Form, ...]:
        return (each.axis.size,) if isinstance(each, Size) and each.axis.size is not None else children(each)

    known: dict[Form, Form] = {}
    for each in walk((form,), operands):
        match each:
            case Size(axis=Axis(size=Form() as extent)):
                known[each] = known[extent]
            case Map(op=op, args=args):
                known[each] = apply(op, *(known[arg] for arg in args))
            case _:
                known[each] = each
    return known[form]


def _same_size(one: Axis, other: Axis, expected: Form, found: Form, who: str, span: Span | None) -> None:
    if _extent(expected) != _extent(found):
        raise InvalidSize(
            f"`{who}` needs axes `{one.name}` and `{other.name}` whose sizes fit", at=span, label="here",
            helps=[f"make the new axis from the old one: `{other.name} = {one.name}.like()`"]
            if expected == size(one)
            else [f'make the new axis as `axis("{other.name}", {one.name}.size // 2 + 1)`'],
        )  # fmt: skip


def _has(value: Form, axis: Axis, who: str, span: Span | None) -> None:
    if axis not in value.axes:
        raise unknown_axis(axis, value, span, f"is given to `{who}`, but the value has no such axis")


def fourier(
    op: str, value: Form, over: Sequence[Axis], new: Sequence[Axis], span: Span | None = None
) -> Form:
    """`fft`, `ifft` (complex to complex), `rfft` (real to complex, the last new axis of size
    n//2 + 1), `irfft` (its inverse). The forward sums are plain, the inverse ones divided by n."""
    _numeric(value, op, span)
    if op == "rfft" and value.kind == "complex":
        raise KindMismatch("`rfft` takes real numbers, and found complex", at=span, label="use `fft`")
    for number, (old, made) in enumerate(zip(over, new, strict=True)):
        _has(value, old, op, span)
        halved = number == len(over) - 1 and op in ("rfft", "irfft")
        long, short = (made, old) if op == "irfft" else (old, made)
        expected = _half(long) if halved else size(long)
        _same_size(long, short, expected, size(short), op, span)
    kind: Kind = "real" if op == "irfft" else "complex"
    return Library(op, (value,), tuple(over), tuple(new), kind, span=span)


def _half(axis: Axis) -> Form:
    return apply("add", apply("floordiv", size(axis), Const(2)), Const(1))


SOLVERS = {"general": "solve", "spd": "solve_spd", "lower": "solve_lower", "upper": "solve_upper"}
"""What is known of the matrix, and the operation that uses it (a triangle's other half is not read)."""


def solve(
    matrix: Form, right: Form, row: Axis, column: Axis, structure: str, span: Span | None = None
) -> Form:
    """x over `column` with `sum(matrix * x, column) = right` for every index of `row`."""
    if structure not in SOLVERS:
        raise InvalidArgument(
            f"`solve` knows no structure {structure!r}", at=span, label="here",
            notes=[f"structures: {', '.join(SOLVERS)}"],
        )  # fmt: skip
    for value, axis in ((matrix, row), (matrix, column), (right, row)):
        _has(value, axis, "solve", span)
        _numeric(value, "solve", span)
    if column in right.axes:
        raise ShadowedName(
            f"the right side of `solve` has the solution's axis `{column.name}`", at=span, label="here"
        )
    _same_size(row, column, size(row), size(column), "solve", span)
    kind: Kind = "complex" if "complex" in (matrix.kind, right.kind) else "real"
    return Library(SOLVERS[structure], (matrix, right), (row, column), (column,), kind, span=span)


def ranked(op: str, value: Form, over: Axis, rank: Axis, span: Span | None = None) -> Form:
    """`sort_indices`: the index of `over` that comes at each place in ascending order.
    `topk_indices`: the indices of the largest entries, largest first. Ties keep their order."""
    _has(value, over, op, span)
    if value.kind not in ("int", "real"):
        raise KindMismatch(f"`{op}` takes real numbers, and found {value.kind}", at=span, label="here")
    if op == "sort_indices":
        _same_size(over, rank, size(over), size(rank), op, span)
    return Library(op, (value,), (over,), (rank,), "int", span=span)
