"""What is wrong with the shapes of a call, said with both sizes, both origins, and the place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from ..constructors.layouts import item_span, item_text, unpack, written
from ..errors import Label, PlaitError, raise_all
from ..mistakes import AxisSizeMismatch, InvalidSize, RequirementFailed, UnknownArgument, WrongRank
from ..ops import OPS
from ..program import BATCH, Axis, Const, Declaration, Form, Item, Map, Program, Require, Size
from ..source import Span
from .size_forms import (
    Extent,
    at_sizes,
    axes_within,
    closed,
    evaluate_size,
    is_batch,
    program_axes,
    spell,
    used_axes,
)

Shapes = Mapping[str, tuple[int, ...]]

ROLES = {"input": "argument", "parameter": "parameter", "buffer": "buffer", "draw": "draw"}


def explain(program: Program, shapes: Shapes, where: str) -> None:
    """Raise every mistake of the first step that finds one; return where there is none.

    The steps: names, ranks, one size an axis, packed dimensions, sizes that nothing gives, derived
    axes, requirements.
    """
    call = _Call(program, shapes, where)
    for step in (names, ranks, agreement, packs, missing, derived, required):
        raise_all(list(step(call)))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a size was read: its value, the place in the user's text, and words for it."""

    size: Extent
    span: Span | None
    said: str


@dataclass(slots=True)
class _Call:
    program: Program
    shapes: Shapes
    where: str
    found: dict[Axis, _Source] = field(default_factory=dict[Axis, _Source])

    @property
    def sizes(self) -> dict[Axis, Extent]:
        """What is known so far."""
        return {axis: source.size for axis, source in self.found.items()}

    @property
    def given(self) -> list[tuple[Declaration, tuple[int, ...]]]:
        """The tensors of the call with their shapes, in order of declaration."""
        every = self.program.declarations
        return [(d, tuple(self.shapes[d.leaf.name])) for d in every if d.leaf.name in self.shapes]

    def dimensions(self) -> Iterator[tuple[Declaration, int, Item, Extent]]:
        """(tensor, place among its items, item, size); `...` has a tuple."""
        for declaration, shape in self.given:
            extra = len(shape) - (len(declaration.items) - ((BATCH,) in declaration.items))
            at = 0
            for place, item in enumerate(declaration.items):
                wide = extra if item == (BATCH,) else 1
                yield declaration, place, item, shape[at : at + wide] if item == (BATCH,) else shape[at]
                at += wide

    def notes(self) -> list[str]:
        """The table of the call: each tensor with its shape and what its dimensions say."""
        place = f" at {self.where}" if self.where else ""
        rows = [(f"{d.leaf.name}:", _shape(shape), _said(d, shape)) for d, shape in self.given]
        wide = max((len(name) for name, _, _ in rows), default=0)
        long = max((len(shape) for _, shape, _ in rows), default=0)
        lines = [f"  {name:<{wide}} {shape:<{long}}   {said}".rstrip() for name, shape, said in rows]
        return [f"called{place} with", *lines]


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _said(declaration: Declaration, shape: tuple[int, ...]) -> str:
    """`b=8 h=12 (h w)=144 ...=(2, 3)`; nothing where the rank does not fit."""
    extra = len(shape) - (len(declaration.items) - ((BATCH,) in declaration.items))
    if extra < 0 or (extra and (BATCH,) not in declaration.items):
        return ""
    parts: list[str] = []
    at = 0
    for item in declaration.items:
        wide = extra if item == (BATCH,) else 1
        size = shape[at : at + extra] if item == (BATCH,) else shape[at]
        parts += [f"{item_text(item)}={size}"] if item else []
        at += wide
    return " ".join(parts)


def shown(axis: Axis) -> str:
    """The axis as the user knows it."""
    if is_batch(axis) and axis != BATCH:
        return f"dimension {axis.name[2:]} of `...`"
    return f"axis `{axis.name}`"


# --- the steps: each finds the mistakes of one kind


def names(call: _Call) -> Iterator[PlaitError]:
    """Every tensor of the call is one of the program."""
    known = [declaration.leaf.name for declaration in call.program.declarations]
    for name in call.shapes:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            yield UnknownArgument(
                f"`{call.program.name}` has no tensor `{name}`", at=call.program.span, label="declared here",
                notes=[f"its tensors: {', '.join(known) or 'none'}"],
                helps=[f"did you mean `{near[0]}`?"] if near else [],
            )  # fmt: skip


def ranks(call: _Call) -> Iterator[PlaitError]:
    """Every tensor has as many dimensions as its declaration."""
    for declaration, shape in call.given:
        least = sum(item != (BATCH,) for item in declaration.items)
        any_more = (BATCH,) in declaration.items
        if len(shape) == least or (any_more and len(shape) > least):
            continue
        wanted = f"at least {least}" if any_more else str(least)
        kind = ROLES[declaration.leaf.role]
        yield WrongRank(
            f"{kind} `{declaration.leaf.name}` of `{call.program.name}` has {wanted} dimension"
            f"{'' if least == 1 else 's'}, and a tensor with {len(shape)} was given",
            at=declaration.span, label=f"given {_shape(shape)}", notes=call.notes(),
            helps=["add a dimension of size 1 with `unsqueeze`, or write `...` for any leading dimensions"]
            if len(shape) < least or not any_more else [],
            facts={"name": declaration.leaf.name, "shape": shape},
        )  # fmt: skip


def agreement(call: _Call) -> Iterator[PlaitError]:
    """One axis has one size, `1` is one, and only `...` may be empty."""
    for axis, size in call.program.fixed:
        call.found[axis] = _Source(size, axis.span, f"{size}, fixed by the program")
    for declaration, place, item, size in call.dimensions():
        if len(item) > 1 or (len(item) == 1 and item[0].size is not None):
            continue
        here = _here(declaration, place, size)
        if not item and size != 1:
            yield _not_one(call, declaration, here)
        elif item and item[0] not in call.found:
            call.found[item[0]] = here
            if isinstance(size, int) and size < 1 and not is_batch(item[0]):
                yield _empty(call, item[0], here)
        elif item and call.found[item[0]].size != size:
            yield _two_sizes(call, item[0], call.found[item[0]], here)


def _here(declaration: Declaration, place: int, size: Extent) -> _Source:
    who = f"{ROLES[declaration.leaf.role]} `{declaration.leaf.name}`"
    return _Source(size, item_span(declaration, place), f"{size}, from {who}")


def _not_one(call: _Call, declaration: Declaration, here: _Source) -> PlaitError:
    return AxisSizeMismatch(
        f"a dimension of `{declaration.leaf.name}` is declared `1` and has size {here.size}",
        at=here.span, label=here.said, notes=call.notes(),
        helps=["sizes never broadcast: give the dimension an axis, or a tensor of size 1"],
        facts={"axis": "1", "sizes": (1, here.size)},
    )  # fmt: skip


def _empty(call: _Call, axis: Axis, here: _Source) -> PlaitError:
    return InvalidSize(
        f"{shown(axis)} has size {here.size} in one call of `{call.program.name}`",
        at=here.span, label=here.said, notes=call.notes(),
        helps=["only `...` may be empty; every other axis has at least one index"],
        facts={"axis": axis.name, "size": here.size},
    )  # fmt: skip


def _two_sizes(call: _Call, axis: Axis, first: _Source, second: _Source) -> PlaitError:
    both = f"two {'shapes' if axis == BATCH else 'sizes'}, {first.size} and {second.size}"
    more = [Label(first.span, first.said)] if first.span is not None and first.span != second.span else []
    name = "`...`" if axis == BATCH else shown(axis)
    return AxisSizeMismatch(
        f"{name} has {both}, in one call of `{call.program.name}`",
        at=second.span, label=second.said, labels=more, notes=call.notes(), helps=[_one_size(axis)],
        facts={"axis": axis.name, "sizes": (first.size, second.size)},
    )  # fmt: skip


def _one_size(axis: Axis) -> str:
    if is_batch(axis):
        return "`...` is one tuple of axes, the same for all tensors; size 1 never broadcasts"
    return (
        "one name is one size: if these two axes are meant to be independent, give one of them another name"
    )


def packs(call: _Call) -> Iterator[PlaitError]:
    """A packed dimension is the product of its axes; all but one must be known."""
    waiting = [(d, place, item, size) for d, place, item, size in call.dimensions() if len(item) > 1]
    solved = True
    while waiting and solved:
        solved = False
        for entry in list(waiting):
            declaration, place, item, size = entry
            unknown = [axis for axis in item if axis.size is None and axis not in call.found]
            if len(unknown) > 1 or not isinstance(size, int):
                continue
            waiting.remove(entry)
            solved = True
            known = math.prod(_extent(axis, call) for axis in item if axis not in unknown)
            here = _here(declaration, place, size)
            if unknown and size % known == 0 and size // known:
                said = f"{size // known}, from `{item_text(item)}` of {here.said.partition('from ')[2]}"
                call.found[unknown[0]] = _Source(size // known, here.span, said)
            elif unknown or size != known:
                yield _does_not_fit(call, item, unknown, known, here)


def _extent(axis: Axis, call: _Call) -> int:
    if axis.size is not None:
        return evaluate_size(axis.size, call.sizes)
    size = call.found[axis].size
    return size if isinstance(size, int) else math.prod(size)


def _does_not_fit(call: _Call, item: Item, unknown: list[Axis], known: int, here: _Source) -> PlaitError:
    others = [axis for axis in item if axis not in unknown]
    said = " and ".join(f"{axis.name} = {_extent(axis, call)}" for axis in others)
    if unknown:
        message = f"packed dimension `{item_text(item)}` has size {here.size}, which {said} does not divide"
        help_ = f"`{item_text(item)}` is a product: its size must be a multiple of {known}"
    else:
        message = f"packed dimension `{item_text(item)}` has size {here.size}, and {said} make {known}"
        help_ = f"`{item_text(item)}` is the product of its axes"
    sources = [call.found[axis] for axis in others if axis in call.found]
    return InvalidSize(
        message, at=here.span, label=here.said,
        labels=[Label(s.span, s.said) for s in sources if s.span is not None and s.span != here.span],
        notes=call.notes(), helps=[help_], facts={"axes": [axis.name for axis in item], "size": here.size},
    )  # fmt: skip


def missing(call: _Call) -> Iterator[PlaitError]:
    """Every axis that the program uses has a size. Of those that only a product is known of, the first."""
    known = set(call.found)
    for axis in closed((*used_axes(call.program), *program_axes(call.program))):
        unpack((item for _, _, item, _ in call.dimensions()), known)
        if axis.size is not None or axis == BATCH or axis in known or not _needed(axis, call.program):
            continue
        known.add(axis)
        yield _without_size(call, axis)


def _without_size(call: _Call, axis: Axis) -> PlaitError:
    packed = [(d, item, size) for d, _, item, size in call.dimensions() if axis in item]
    places = [
        item_span(d, at) for d in call.program.declarations for at, i in enumerate(d.items) if axis in i
    ]
    notes = [
        f"`{written(d)}` gives only the product of {' and '.join(f'`{a.name}`' for a in item)}, {size}"
        for d, item, size in packed
    ]
    return InvalidSize(
        f"{shown(axis)} has no size in this call of `{call.program.name}`",
        at=axis.span or next(iter(places), None), label="of unknown size", notes=[*notes, *call.notes()],
        helps=[f"say it where the program is made: `.program({axis.name}=...)`, `.module({axis.name}=...)`"],
        facts={"axis": axis.name},
    )  # fmt: skip


def _needed(axis: Axis, program: Program) -> bool:
    derived = [other for other in program_axes(program) if other.size is not None]
    return axis in closed((*used_axes(program), *derived))


def derived(call: _Call) -> Iterator[PlaitError]:
    """Every derived axis has a value, at least 1, and the tensors over it have that size."""
    for axis in program_axes(call.program):
        if axis.size is None:
            continue
        value = _attempt(axis.size, call, [])
        if isinstance(value, PlaitError):
            yield value
        elif value < 1:
            yield _too_small(call, axis, axis.size, value)
    for declaration, place, item, size in call.dimensions():
        if len(item) == 1 and item[0].size is not None:
            value = _attempt(item[0].size, call, [])
            if not isinstance(value, PlaitError) and 1 <= value != size:
                formula = _Source(value, item[0].span, f"{value}, from `{spell(item[0].size)}`")
                yield _two_sizes(call, item[0], formula, _here(declaration, place, size))


def _attempt(form: Form, call: _Call, labels: list[Label]) -> int | PlaitError:
    try:
        return evaluate_size(form, call.sizes)
    except InvalidSize as problem:
        problem.notes = (*problem.notes, *call.notes())
        problem.labels = (*problem.labels, *labels)
        return problem


def _too_small(call: _Call, axis: Axis, formula: Form, value: int) -> PlaitError:
    decided = axes_within((formula,))
    sources = [call.found[a] for a in decided if a in call.found]
    names = " or ".join(f"`{a.name}`" for a in decided)
    return InvalidSize(
        f"axis `{axis.name}` would have size {value}: `{spell(formula)}`{at_sizes((formula,), call.sizes)}",
        at=axis.span or formula.span, label="a size is at least 1",
        labels=[Label(s.span, s.said) for s in sources if s.span is not None and s.span != axis.span],
        notes=call.notes(), helps=[f"give another {names}, or change the formula"] if names else [],
        facts={"axis": axis.name, "size": value},
    )  # fmt: skip


def required(call: _Call) -> Iterator[PlaitError]:
    """Every `require` holds."""
    for require in call.program.requires:
        value = _attempt(require.predicate, call, [])
        if isinstance(value, PlaitError):
            yield value
        elif value is not True:
            yield _unmet(call, require)


def _unmet(call: _Call, require: Require) -> PlaitError:
    predicate = require.predicate
    compared = isinstance(predicate, Map) and OPS[predicate.op].symbol and len(predicate.args) == 2
    sides = ""
    if isinstance(predicate, Map) and compared and predicate.args[0].kind != "bool":
        left, right = (evaluate_size(arg, call.sizes) for arg in predicate.args)
        sides = f": {left} {OPS[predicate.op].symbol} {right}"
    sources = [call.found[a] for a in axes_within((predicate,)) if a in call.found]
    span = predicate.span or require.span
    return RequirementFailed(
        f"`{call.program.name}` requires `{spell(predicate)}`, which does not hold{at_sizes((predicate,), call.sizes)}",
        at=span, label=f"here{sides}" if sides else "false here",
        labels=[Label(s.span, s.said) for s in sources if s.span is not None and s.span != span],
        notes=call.notes(), helps=_nearest(predicate, call),
        facts={"sizes": {a.name: call.sizes[a] for a in axes_within((predicate,))}},
    )  # fmt: skip


def _nearest(predicate: Form, call: _Call) -> list[str]:
    """For a size that must be a multiple: the multiples next to it."""
    match predicate:
        case Map(op="eq", args=(Map(op="mod", args=(Size(axis=axis), divisor)), Const(value=0))):
            step, size = evaluate_size(divisor, call.sizes), evaluate_size(Size(axis), call.sizes)
            below = f"{size // step * step} or " if size > step else ""
            return [f"crop or pad to {axis.name} = {below}{(size // step + 1) * step}"] if step > 0 else []
        case _:
            return []
