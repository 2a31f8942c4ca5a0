"""The expressions of a text that have brackets of their own: reductions, scans, places, algorithms
over whole axes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from ..constructors import build, build_special
from ..constructors.static import static
from ..mistakes import InvalidArgument, KindMismatch, UnknownArgument, UnknownAxis
from ..program import Axis, Carry, Const, Form, Leaf, Scan
from ..proofs.requirements import filled
from ..source import Span
from ..text.syntax import Argument, Domain, Expression, Fold, Made, Name, Number, Placed, Scanned
from ..words import FOURIER, RANKED, SOLVE
from .elaborate_values import ManySteps, Result, Results, Values, indices

Pieces = list[tuple[Form, tuple[Axis, ...]]]


# --- reductions


def folded(values: Values, node: Fold) -> ManySteps:
    """`sum[d](x)`, one list of axes for each value; several results for softmax and argmax."""
    forms = yield from values.plain(node.args, node.op)
    if len(forms) != len(node.domains):
        raise UnknownArgument(
            f"`{node.op}` has {_counted(len(node.domains), 'list of axes', 'lists of axes')} and "
            f"{_counted(len(forms), 'value', 'values')}", at=node.span, label="one of each is needed",
            helps=[f"write `{node.op}[h, w](x)`; several domains: `{node.op}[h, w; t](x, y)`"],
        )  # fmt: skip
    pieces: Pieces = []
    for form, domain in zip(forms, node.domains, strict=True):
        piece = yield from _piece(values, form, domain, node.span)
        pieces.extend(() if piece is None else (piece,))
    return _reduced(values, node, pieces) if len(pieces) == len(forms) else (None,) * _results(node)


def _piece(
    values: Values, form: Result, domain: Domain, span: Span
) -> Generator[Expression, Result, tuple[Form, tuple[Axis, ...]] | None]:
    axes = values.axes(domain.axes)
    if domain.where is not None:
        mask = yield domain.where
        form = None if mask is None or form is None else build.when(mask, form, span)
    return None if form is None or axes is None else (form, axes)


def _results(node: Fold) -> int:
    if node.op == "softmax":
        return len(node.domains)
    wide = sum(len(domain.axes) for domain in node.domains)
    return max(1, wide) if node.op == "argmax" and node.which is None else 1


def _reduced(values: Values, node: Fold, pieces: Pieces) -> Results:
    if node.which is not None and node.op != "argmax":
        raise UnknownArgument(
            f"`{node.op}` gives one value, and only `argmax` has several to pick from",
            at=node.span,
            label="here",
        )
    match node.op:
        case "softmax":
            return build.softmax(pieces, span=node.span)
        case "mean":
            return (build.mean(pieces, span=node.span),)
        case "argmax":
            chosen = _components(values, node, pieces)
            return [build.reduce("argmax", pieces, None, number, node.span) for number in chosen]
        case op:
            return (build.reduce(op, pieces, span=node.span),)


def _components(values: Values, node: Fold, pieces: Pieces) -> Sequence[int]:
    listed = [axis for _, axes in pieces for axis in axes]
    which = node.which
    match which:
        case None:
            return range(max(1, len(listed)))
        case Number(value=int(number)) if 0 <= number < len(listed):
            return (number,)
        case Name(text=text) if (axis := values.scope.axes.get(text)) is not None and axis in listed:
            return (listed.index(axis),)
        case _:
            raise UnknownAxis(
                f"`argmax` does not go over `{which.span.text}`", at=which.span, label="not among its axes"
            )


# --- algorithms over whole axes


def made(values: Values, node: Made) -> ManySteps:
    """`fft[h -> u](x)`, `solve[n, m -> m](S, g)`, `sort_indices[n -> r](x)`, `cat[a, b -> n](x, y)`."""
    forms = yield from values.plain(node.args, node.op)
    over, new = values.axes(node.over), values.axes(node.new)
    if not _fits(node.op, (len(forms), len(node.over), len(node.new))):
        raise UnknownArgument(
            f"`{node.op}` is written otherwise",
            at=node.span,
            label="here",
            helps=[f"write `{_usual(node.op)}`"],
        )
    found = [form for form in forms if form is not None]
    if over is None or new is None or len(found) < len(forms):
        return (None,)
    if node.op == "cat":
        trace = values.trace
        trace.require(filled(new[0], over, trace.fixed, trace.requires, node.span))
    return (_algorithm(node, found, over, new),)


def _algorithm(node: Made, args: Sequence[Form], over: Sequence[Axis], new: Sequence[Axis]) -> Form:
    if node.op == "cat":
        return build.cat(new[0], list(zip(args, over, strict=True)), node.span)
    if node.op in FOURIER:
        return build_special.fourier(node.op, args[0], over, new, node.span)
    if node.op in RANKED:
        return build_special.ranked(node.op, args[0], over[0], new[0], node.span)
    row, column = over
    if column != new[0]:
        raise UnknownAxis(
            f"`{node.op}` gives a value over `{column.name}`, the axis that it sums over", at=node.new[0].span,
            label="another axis", helps=[f"write `{node.op}[{row.name}, {column.name} -> {column.name}](...)`"],
        )  # fmt: skip
    structure = next(key for key, op in build_special.SOLVERS.items() if op == node.op)
    return build_special.solve(args[0], args[1], row, column, structure, node.span)


def _fits(op: str, counts: tuple[int, int, int]) -> bool:
    values, over, new = counts
    if op == "cat":
        return values == over and over > 0 and new == 1
    if op in SOLVE:
        return counts == (2, 2, 1)
    if op in FOURIER:
        return values == 1 and over == new and over > 0
    return counts == (1, 1, 1)


def _usual(op: str) -> str:
    if op == "cat":
        return "cat[a, b -> n](x, y)"
    if op in SOLVE:
        return f"{op}[n, m -> m](matrix, right)"
    return f"{op}[h, w -> u, v](x)" if op in FOURIER else f"{op}[n -> r](x)"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


# --- places


def placed(values: Values, node: Placed) -> ManySteps:
    """`place(y, h: e)`, `place[b, c](y, h: e)`."""
    if not node.args or node.args[0].key is not None:
        raise UnknownArgument(
            "`place` needs a value first", at=node.span, label="here",
            helps=["write `place(y, h: e)`: the sum of the y whose index e is h"],
        )  # fmt: skip
    value = yield node.args[0].value
    forms: list[Form] = []
    for item in node.args[1:]:
        form = yield item.value
        forms.extend(() if form is None else (form,))
    names = values.keys(node.args[1:])
    axes = None if names is None else values.axes(names)
    keep = None if node.keep is None else values.axes(node.keep)
    lost = keep is None and node.keep is not None
    if value is None or axes is None or len(forms) < len(axes) or lost:
        return (None,)
    return (build.place(value, indices(node.args[1:], axes, forms), keep, node.span),)


# --- scans


def scanned(values: Values, node: Scanned) -> ManySteps:
    """`scan[t](p: step)`; one result for each carry where none is picked."""
    if not node.args:
        raise UnknownArgument(
            "`scan` needs a carry", at=node.span, label="none here",
            helps=["write `previous p[t] = init`, then `scan[t](p: step)`"],
        )  # fmt: skip
    axis = values.axes((node.axis,))
    names = values.keys(node.args)
    until = None
    if node.until is not None:
        until = yield node.until
    carries: list[Carry] = []
    for name, argument in zip(names or (), node.args, strict=False):
        carry = yield from _carry(values, name, argument, axis)
        carries.extend(() if carry is None else (carry,))
    several = node.which is None and len(node.args) > 1
    lost = until is None and node.until is not None
    if axis is None or names is None or len(carries) < len(node.args) or lost:
        return (None,) * (len(node.args) if several else 1)
    first = build_special.scan(axis[0], carries, reverse=node.reverse, until=until, span=node.span)
    chosen = range(len(carries)) if several else (_carried(node, names),)
    return [replace(first, component=number, last=node.last) for number in chosen]


def _carried(node: Scanned, names: Sequence[Name]) -> int:
    if node.which is None:
        return 0
    for number, name in enumerate(names):
        if name.text == node.which.text:
            return number
    raise UnknownArgument(
        f"`{node.which.text}` is no carry of this scan", at=node.which.span, label="not carried",
        notes=[f"carries: {', '.join(name.text for name in names)}"],
    )  # fmt: skip


def _carry(
    values: Values, name: Name, argument: Argument, axis: tuple[Axis, ...] | None
) -> Generator[Expression, Result, Carry | None]:
    step = yield argument.value
    leaf = yield name
    init: Result = None
    if argument.init is not None:
        init = yield argument.init
    if leaf is None or step is None:
        return None
    if not isinstance(leaf, Leaf) or leaf.role != "bound" or (axis and axis[0] not in leaf.over):
        along = axis[0].name if axis else "t"
        raise KindMismatch(
            f"`{name.text}` is no previous value along `{along}`", at=name.span, label="here",
            helps=[f"write `previous {name.text}[{along}] = init` before the scan"],
        )  # fmt: skip
    if argument.init is None:
        init = values.inits.get(leaf)
        if leaf not in values.inits:
            raise UnknownArgument(
                f"`{name.text}` has no first value", at=name.span, label="here",
                helps=[f"write `previous {name.text}[...] = init`, or `{name.text}: step from init`"],
            )  # fmt: skip
    return None if init is None else build_special.carry(leaf, init, step, argument.value.span)


# --- what other calls need of a form


def last_of(value: Form, span: Span) -> Scan:
    """The final carry of a scan; raises KindMismatch for another value."""
    if not isinstance(value, Scan) or value.last:
        raise KindMismatch("this takes the result of a scan", at=span, label="here")
    return replace(value, last=True, span=span)


def number_of(form: Form, what: str, span: Span) -> bool | int | float | complex:
    """The number of a constant, with its spelling; raises InvalidArgument for another value."""
    if not isinstance(form, Const):
        raise InvalidArgument(
            f"{what} is a number known here, and this is a value", at=span, label="here",
            helps=["sizes that are not given are known only at the call"],
        )  # fmt: skip
    return static(form.value, form.written)
