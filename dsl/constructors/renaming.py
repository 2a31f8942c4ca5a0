"""One walk that puts a form into other axes and other leaves, `...` among them.

A subclass says which axis and which leaf stand for which (`axis`, `leaf`, `variable`); what every form
does with that is here, once. Composing mixers (`inline.py`) and making the batch explicit (`batch.py`)
are the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..errors import CompilerFault
from ..mistakes import NotYet
from ..program import (
    BATCH,
    AsIf,
    At,
    Axis,
    Carry,
    Const,
    Coordinate,
    Form,
    Indices,
    Jvp,
    Leaf,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Place,
    Reduce,
    Scan,
    Size,
    Vjp,
    When,
    fresh_axis,
    walk,
)
from . import build


@dataclass(slots=True)
class Renaming:
    """`batch` are the axes that stand for `...`. Forms are rebuilt operands first, each once."""

    batch: tuple[Axis, ...]
    forms: dict[Form, Form] = field(default_factory=dict[Form, Form], kw_only=True)
    derived: dict[Axis, Axis] = field(default_factory=dict[Axis, Axis], kw_only=True)

    # --- what a subclass says

    def leaf(self, leaf: Leaf) -> Form:
        """What stands for a tensor."""
        raise NotImplementedError

    def variable(self, leaf: Leaf) -> Leaf:
        """What stands for a bound variable."""
        raise NotImplementedError

    def axis(self, axis: Axis) -> Axis:
        """What stands for an axis other than `...`; a fresh one follows its range."""
        if axis == BATCH:
            raise CompilerFault("renaming", "`...` stands where one axis must")
        if axis.size is None or axis.lo is None:
            return axis
        if axis not in self.derived:
            self.derived[axis] = self.copied(axis, self.form(axis.lo), self.form(axis.size))
        return self.derived[axis]

    def copied(self, axis: Axis, low: Form, size: Form) -> Axis:
        return fresh_axis(axis.name, low, size, axis.how, axis.span)

    def constant(self, form: Const) -> Form:
        return form

    def kept(self, keep: Iterable[Axis], value: Form) -> tuple[Axis, ...]:
        """The axes that a `place` keeps."""
        return self.spread(keep)

    def carry(self, carry: Carry) -> Carry:
        return Carry(self.variable(carry.previous), self.forms[carry.init], self.forms[carry.step])

    # --- the walk

    def spread(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        """What stands for several axes, `...` among them."""
        return tuple(new for axis in axes for new in (self.batch if axis == BATCH else (self.axis(axis),)))

    def form(self, root: Form) -> Form:
        """What stands for a form; an unchanged one is the same object."""
        for form in walk((root,)):
            if form not in self.forms:
                made = self._rebuilt(form)
                self.forms[form] = form if made == form and not isinstance(form, Const) else made
        return self.forms[root]

    def _rebuilt(self, form: Form) -> Form:
        new = self.forms
        match form:
            case Const():
                return self.constant(form)
            case Size(axis=axis):
                return self._count(form) if axis == BATCH else build.size(self.axis(axis), form.span)
            case Coordinate(axis=axis):
                return self._place(form) if axis == BATCH else Coordinate(self.axis(axis), span=form.span)
            case Leaf():
                return self.variable(form) if form.role == "bound" else self.leaf(form)
            case Map(op=op, args=args):
                return build.apply(op, *(new[arg] for arg in args), span=form.span)
            case When(predicate=predicate, value=value):
                return replace(form, predicate=new[predicate], value=new[value])
            case Otherwise(value=value, fallback=fallback):
                return replace(form, value=new[value], fallback=new[fallback])
            case At(value=value, indices=indices):
                return build.at(new[value], dict(self._indices(indices)), form.span)
            case Place(value=value, indices=indices, keep=keep):
                kept = self.kept(keep, new[value])
                return replace(form, value=new[value], indices=self._indices(indices), keep=kept)
            case Reduce():
                return self._reduction(form)
            case _:
                return self._rebuilt_special(form)

    def _rebuilt_special(self, form: Form) -> Form:
        new = self.forms
        match form:
            case Scan(axis=axis, carries=carries, until=until):
                ended = None if until is None else new[until]
                return replace(
                    form, axis=self.axis(axis), carries=tuple(map(self.carry, carries)), until=ended
                )
            case Library(args=args, over=over, new=made):
                parts = tuple(new[arg] for arg in args)
                return replace(form, args=parts, over=self.spread(over), new=self.spread(made))
            case AsIf(value=value, surrogate=surrogate):
                return replace(form, value=new[value], surrogate=new[surrogate])
            case OnGradient(value=value, cotangent=cotangent, rule=rule):
                bound = self.variable(cotangent)
                return replace(form, value=new[value], cotangent=bound, rule=new[rule])
            case Jvp(value=value, at=at, tangents=tangents):
                places, moves = tuple(new[x] for x in at), tuple(new[t] for t in tangents)
                return replace(form, value=new[value], at=places, tangents=moves)
            case Vjp(value=value, at=at, cotangent=cotangent):
                return replace(form, value=new[value], at=new[at], cotangent=new[cotangent])
            case _:
                raise CompilerFault("renaming", f"{type(form).__name__} is no form that it knows")

    def _count(self, form: Size) -> Form:
        """The number of batch entries: the product of the sizes, 1 where there is none."""
        total: Form = Const(1, span=form.span)
        for axis in self.batch:
            one = build.size(axis, form.span)
            total = one if total == Const(1) else build.apply("mul", total, one, span=form.span)
        return total

    def _place(self, form: Coordinate) -> Form:
        """The place of a batch entry: its indices in row-major order, 0 where there is no batch axis."""
        total: Form = Const(0, span=form.span)
        for axis in self.batch:
            own = Coordinate(axis, span=form.span)
            rows = build.apply("mul", total, build.size(axis), span=form.span)
            total = own if total == Const(0) else build.apply("add", rows, own, span=form.span)
        return total

    def _indices(self, indices: Indices) -> Indices:
        return tuple((self.axis(axis), self.forms[index]) for axis, index in indices)

    def _reduction(self, form: Reduce) -> Form:
        """The component of an argmax counts axes, so it moves with those before it."""
        listed = [axis for piece in form.pieces for axis in piece.axes]
        component = len(self.spread(listed[: form.component]))
        pieces = tuple(Piece(self.forms[piece.value], self.spread(piece.axes)) for piece in form.pieces)
        made = replace(form, pieces=pieces, component=component)
        if form.op == "argmax" and listed[form.component] == BATCH:
            return self._winner(made)
        return made

    def _winner(self, form: Reduce) -> Form:
        """The place of the batch entry that an argmax gives, from the component of the first batch axis on:
        in row-major order, as `_place`."""
        total: Form | None = None
        for number, axis in enumerate(self.batch):
            own = replace(form, component=form.component + number)
            if total is None:
                total = own
            else:
                rows = build.apply("mul", total, build.size(axis))
                total = build.apply("add", rows, own, span=form.span)
        if total is not None:
            return total
        if len(form.pieces) != 1:
            raise NotYet(
                "the argmax of a union answers for `...`, and a call has no batch axis", at=form.span
            )
        return build.when(build.present(form.pieces[0].value), Const(0, span=form.span))
