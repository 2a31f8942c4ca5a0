"""What a traced body declares beside its values: parameters, buffers, draws, updates, requirements.

Keys are official state-dict keys; within a layer they are prefixed with its name. Every function
here needs a trace and raises InvalidArgument outside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..constructors import build, build_special
from ..constructors.initialisers import DISTRIBUTIONS, Initialiser, constant
from ..errors import Label, PlaitError
from ..mistakes import InvalidArgument, KindMismatch, ShadowedName, UndeclaredAxis
from ..ops import Kind
from ..program import BATCH, Axis, Coordinate, Declaration, Form, Item, Leaf, Role, Update
from ..python.refusals import names
from ..python.trace import Table, Trace, here, needed, report
from ..python.value import POISON, AxisValue, Value, axes_in, form_of
from ..source import Span

Stored = AxisValue | Literal[1] | tuple[AxisValue, ...]
"""One dimension of a stored tensor: an axis, a literal 1, or the row-major product of a tuple."""

Init = Initialiser | float | None


def param(
    key: str, *items: Stored, init: Init = None, grad: bool = True, also: Sequence[str] = (), kind: Kind = "real"
) -> Value:  # fmt: skip
    """A parameter under its official key, stored in the layout of `items`.

    `also` are further keys of the same tensor; `grad=False` freezes it; without `init` the module
    decides. Raises DuplicateParameter where the full key is taken.
    """
    return _declared("parameters", "param", key, items, kind, grad, init, also)


def buffer(key: str, *items: Stored, init: Init = 0, kind: Kind = "real") -> Value:
    """A buffer under its official key: its value before the call, whatever `update` says."""
    return _declared("buffers", "buffer", key, items, kind, False, init, ())


def draw(name: str, *axes: AxisValue, dist: Initialiser) -> Value:
    """Random numbers: a named input over the axes, which the module fills where it is not passed.

    The axes are named ones, since a draw over `...` would differ with what the batch happens to be.
    """
    if any(axis is ... for axis in axes):
        error = InvalidArgument(
            f"the draw `{name}` is over `...`, whose axes have no names", at=here(), label="here",
            helps=["give the batch axis a name in the header: `x[b, c] -> o[b, c]`"],
        )  # fmt: skip
        report(error)
        return POISON
    if not isinstance(dist, Initialiser) or dist.name not in DISTRIBUTIONS:  # pyright: ignore[reportUnnecessaryIsInstance]
        report(InvalidArgument(f"`{name}` cannot be drawn from {dist}", at=here(), label="here",
                               notes=[f"distributions: {', '.join(DISTRIBUTIONS)}"]))  # fmt: skip
        return POISON
    return _declared("draws", "draw", name, axes, "real", False, dist, ())


ROLES: dict[Table, Role] = {"parameters": "parameter", "buffers": "buffer", "draws": "draw"}


def _declared(
    table: Table, who: str, key: str, items: Sequence[object], kind: Kind, grad: bool, init: Init,
    also: Sequence[str],
) -> Value:  # fmt: skip
    trace, where = needed(who), here()
    stored = _stored(items, key, where)
    if stored is None:
        return POISON
    over = tuple(axis for item in stored for axis in item)
    full = trace.key(key)
    leaf = Leaf(ROLES[table], full, over, kind, span=where)
    keys = tuple(map(trace.key, also))
    try:
        declaration = Declaration(leaf, stored, False, grad, _init(init, key), keys, where)
        return Value(declared(trace, table, declaration, where))
    except PlaitError as error:
        report(error)
        return POISON


def declared(trace: Trace, table: Table, declaration: Declaration, where: Span | None) -> Form:
    """The form of a tensor that is declared under its full key, here or by an earlier call of the
    same `once`. Raises DuplicateParameter or InvalidArgument."""
    shared = _shared(trace, declaration.leaf.name, declaration.items, where)
    if shared is not None:
        return shared
    trace.declare(table, declaration)
    return declaration.leaf


def _init(init: object, key: str) -> str | None:
    if init is None or isinstance(init, Initialiser):
        return None if init is None else str(init)
    if not isinstance(init, int | float):
        raise InvalidArgument(
            f"`init` of `{key}` is a number or an initialiser, and this is {init!r}", at=here(), label="here",
            helps=["initialisers are called: `init=trunc_normal(0.02)`"],
        )  # fmt: skip
    return str(constant(init))


def _stored(items: Sequence[object], key: str, where: Span | None) -> tuple[Item, ...] | None:
    """The dimensions in core terms; None after a mistake, which is reported."""
    found: list[Item] = []
    for item in items:
        if isinstance(item, int) and item == 1:
            found.append(())
            continue
        if isinstance(item, int | float | str):
            report(InvalidArgument(
                f"a dimension of `{key}` is an axis, `1`, or a tuple of axes, and this is {item!r}", at=where,
                label="here", helps=[f'make an axis: `k = axis("k", {item})`'] if isinstance(item, int) else [],
            ))  # fmt: skip
            return None
        axes = axes_in((item,))
        if axes is None:
            return None
        found.append(axes)
    over = [axis for item in found for axis in item]
    try:
        _check_axes(over, key, where)
    except PlaitError as error:
        report(error)
        return None
    return tuple(found)


def _check_axes(over: list[Axis], key: str, where: Span | None) -> None:
    if BATCH in over:
        raise InvalidArgument(f"`{key}` is over `...`: a stored tensor has no batch", at=where, label="here")
    twice = next((axis for axis in over if over.count(axis) > 1), None)
    if twice is not None:
        raise InvalidArgument(
            f"`{key}` has axis `{twice.name}` twice", at=where, label="here",
            helps=[f"make the contracted one a copy: `j = {twice.name}.like()`"],
        )  # fmt: skip


def _shared(trace: Trace, full: str, items: tuple[Item, ...], where: Span | None) -> Form | None:
    """The tensor that an earlier call of the same `once` declared, over the axes of this call."""
    known = trace.known(full)
    if known is None or trace.sharing is None or trace.owners.get(full) is not trace.sharing:
        return None
    old = [axis for item in known.items for axis in item]
    new = [axis for item in items for axis in item]
    same = [len(item) for item in known.items] == [len(item) for item in items]
    if not same or any(_range(a) != _range(b) for a, b in zip(old, new, strict=True)):
        raise InvalidArgument(
            f"`{full}` is shared by calls over different axes", at=where, label="here",
            labels=[Label(known.span, f"first over {names(tuple(old))}")] if known.span else [],
            notes=[f"this call is over {names(tuple(new))}"],
        )  # fmt: skip
    return build.at(known.leaf, {a: Coordinate(b) for a, b in zip(old, new, strict=True)}, where)


def _range(axis: Axis) -> tuple[Form, Form]:
    return build.low(axis), build.size(axis)


# --- state, modes, requirements


def update(buffer: Value, value: object) -> None:
    """Give the buffer its value for after the call; reads in this call see the one before.

    Raises ShadowedName for a second update of one buffer, UndeclaredAxis or KindMismatch for a
    value that does not fit it, KindMismatch for something that is no buffer.
    """
    trace, where = needed("update"), here()
    if buffer.poisoned or (isinstance(value, Value) and value.poisoned):
        return
    try:
        updated(trace, buffer.form, form_of(value, where), where)
    except PlaitError as error:
        report(error)


def updated(trace: Trace, leaf: Form, value: Form, where: Span | None) -> None:
    """Note the update of a buffer in core terms."""
    if not isinstance(leaf, Leaf) or leaf.role != "buffer":
        raise KindMismatch("`update` takes a buffer, as `buffer(...)` gave it", at=where, label="here")
    if leaf.name in trace.updates:
        raise _updated_twice(leaf, trace.updates[leaf.name], where)
    trace.updates[leaf.name] = Update(leaf, _fitting(leaf, value, where), where)


def _updated_twice(leaf: Leaf, earlier: Update, where: Span | None) -> PlaitError:
    return ShadowedName(
        f"buffer `{leaf.name}` is updated twice", at=where, label="updated again here",
        labels=[Label(earlier.span, "first updated here")] if earlier.span else [],
        helps=["put the condition into the value: `update(b, select(p, x, y))`"],
    )  # fmt: skip


def _fitting(leaf: Leaf, value: Form, where: Span | None) -> Form:
    if set(value.axes) != set(leaf.over):
        raise UndeclaredAxis(
            f"buffer `{leaf.name}` is over {names(leaf.over)}, and its new value over {names(value.axes)}",
            at=where, label="here",
        )  # fmt: skip
    if value.kind == "int" and leaf.kind == "real":
        return build.apply("to_real", value, span=where)
    if value.kind != leaf.kind:
        raise KindMismatch(
            f"buffer `{leaf.name}` is {leaf.kind}, and its new value {value.kind}", at=where, label="here"
        )
    return value


def mode() -> str:
    """The mode that the program is made for: "eval" or "train"."""
    trace = needed("mode")
    trace.asks_mode = True
    return trace.mode


def require(*predicates: object) -> None:
    """Conditions on sizes that a call must meet: `require(h.size % 2 == 0)`.

    One that is known to fail raises RequirementFailed where it stands.
    """
    trace, where = needed("require"), here()
    for predicate in predicates:
        if isinstance(predicate, Value) and predicate.poisoned:
            continue
        try:
            required(trace, form_of(predicate, where), where)
        except PlaitError as error:
            report(error)


def required(trace: Trace, predicate: Form, where: Span | None) -> None:
    """Note a requirement in core terms."""
    trace.require(build_special.requirement(predicate, where))
