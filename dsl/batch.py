"""`...` made explicit: a program for tensors with a known number of batch dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .build import apply
from .errors import CompilerFault
from .program import (
    BATCH,
    AsIf,
    At,
    Axis,
    Carry,
    Const,
    Coordinate,
    Declaration,
    Form,
    Jvp,
    Leaf,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Place,
    Program,
    Reduce,
    Scan,
    Size,
    Vjp,
    When,
    fresh_axis,
    walk,
)


def expand_batch(program: Program, n: int) -> Program:
    """The program with the axis `...` replaced by the `n` signature axes `..0`, `..1`, and so on.

    After it no `...` is left: `Size(BATCH)` is their product, a reduction over it is one over all.
    """
    return _Expansion(tuple(Axis(f"..{k}") for k in range(n))).program(program)


@dataclass(slots=True)
class _Expansion:
    batch: tuple[Axis, ...]
    forms: dict[Form, Form] = field(default_factory=dict[Form, Form])
    derived: dict[Axis, Axis] = field(default_factory=dict[Axis, Axis])

    def program(self, program: Program) -> Program:
        """`program` rebuilt; what `...` does not touch keeps its identity."""
        return replace(
            program,
            inputs=tuple(map(self.declaration, program.inputs)),
            outputs=tuple(
                replace(out, value=self.form(out.value), items=self.items(out.items))
                for out in program.outputs
            ),
            names=tuple((name, self.form(value)) for name, value in program.names),
            parameters=tuple(map(self.declaration, program.parameters)),
            buffers=tuple(map(self.declaration, program.buffers)),
            draws=tuple(map(self.declaration, program.draws)),
            updates=tuple(
                replace(update, buffer=self.leaf(update.buffer), value=self.form(update.value))
                for update in program.updates
            ),
            requires=tuple(replace(r, predicate=self.form(r.predicate)) for r in program.requires),
        )

    def declaration(self, declaration: Declaration) -> Declaration:
        return replace(declaration, leaf=self.leaf(declaration.leaf), items=self.items(declaration.items))

    def items(self, items: Iterable[tuple[Axis, ...]]) -> tuple[tuple[Axis, ...], ...]:
        """The dimensions; `...` becomes one each, and further factors inside a packed dimension."""
        made: list[tuple[Axis, ...]] = []
        for item in items:
            made += [(axis,) for axis in self.batch] if item == (BATCH,) else [self.axes(item)]
        return tuple(made)

    def axes(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        return tuple(new for axis in axes for new in (self.batch if axis == BATCH else (self.axis(axis),)))

    def axis(self, axis: Axis) -> Axis:
        """An axis whose size counts the batch is another axis afterwards."""
        if axis == BATCH:
            raise CompilerFault("expand_batch", "`...` stands where one axis must")
        if axis.size is None or axis.lo is None:
            return axis
        if axis not in self.derived:
            low, size = self.form(axis.lo), self.form(axis.size)
            same = low == axis.lo and size == axis.size
            self.derived[axis] = axis if same else fresh_axis(axis.name, low, size, axis.how, axis.span)
        return self.derived[axis]

    def leaf(self, leaf: Leaf) -> Leaf:
        over = self.axes(leaf.over)
        ranges_over = leaf.ranges_over and self.axis(leaf.ranges_over)
        return replace(leaf, over=over, ranges_over=ranges_over)

    def form(self, root: Form) -> Form:
        """The form rebuilt, operands first; an unchanged one is the same object."""
        for form in walk((root,)):
            if form not in self.forms:
                made = self.rebuilt(form)
                self.forms[form] = form if made == form else made
        return self.forms[root]

    def rebuilt(self, form: Form) -> Form:
        new = self.forms
        match form:
            case Const():
                return form
            case Size(axis=axis):
                return self.count(form) if axis == BATCH else Size(self.axis(axis), span=form.span)
            case Coordinate(axis=axis):
                return self.index(form) if axis == BATCH else Coordinate(self.axis(axis), span=form.span)
            case Leaf():
                return self.leaf(form)
            case Map(args=args):
                return replace(form, args=tuple(new[arg] for arg in args))
            case When(predicate=predicate, value=value):
                return replace(form, predicate=new[predicate], value=new[value])
            case Otherwise(value=value, fallback=fallback):
                return replace(form, value=new[value], fallback=new[fallback])
            case At(value=value, indices=indices):
                return replace(form, value=new[value], indices=self.indices(indices))
            case Place(value=value, indices=indices, keep=keep):
                return replace(form, value=new[value], indices=self.indices(indices), keep=self.axes(keep))
            case Reduce():
                return self.reduction(form)
            case _:
                return self.rebuilt_special(form)

    def rebuilt_special(self, form: Form) -> Form:
        new = self.forms
        match form:
            case Scan(axis=axis, carries=carries, until=until):
                carried = tuple(Carry(self.leaf(c.previous), new[c.init], new[c.step]) for c in carries)
                ended = None if until is None else new[until]
                return replace(form, axis=self.axis(axis), carries=carried, until=ended)
            case Library(args=args, over=over, new=made):
                parts = tuple(new[arg] for arg in args)
                return replace(form, args=parts, over=self.axes(over), new=self.axes(made))
            case AsIf(value=value, surrogate=surrogate):
                return replace(form, value=new[value], surrogate=new[surrogate])
            case OnGradient(value=value, cotangent=cotangent, rule=rule):
                return replace(form, value=new[value], cotangent=self.leaf(cotangent), rule=new[rule])
            case Jvp(value=value, at=at, tangents=tangents):
                at, tangents = tuple(new[x] for x in at), tuple(new[t] for t in tangents)
                return replace(form, value=new[value], at=at, tangents=tangents)
            case Vjp(value=value, at=at, cotangent=cotangent):
                return replace(form, value=new[value], at=new[at], cotangent=new[cotangent])
            case _:
                raise CompilerFault("expand_batch", f"{type(form).__name__} is no form that it knows")

    def count(self, form: Size) -> Form:
        """The number of batch entries: the product of the sizes, 1 where there is none."""
        total: Form = Const(1, span=form.span)
        for axis in self.batch:
            total = Size(axis) if total == Const(1) else apply("mul", total, Size(axis), span=form.span)
        return total

    def index(self, form: Coordinate) -> Form:
        """The place of a batch entry: its indices in row-major order, 0 where there is no batch axis."""
        total: Form = Const(0, span=form.span)
        for axis in self.batch:
            own = Coordinate(axis, span=form.span)
            rows = apply("mul", total, Size(axis), span=form.span)
            total = own if total == Const(0) else apply("add", rows, own, span=form.span)
        return total

    def indices(self, indices: Iterable[tuple[Axis, Form]]) -> tuple[tuple[Axis, Form], ...]:
        return tuple((self.axis(axis), self.forms[index]) for axis, index in indices)

    def reduction(self, form: Reduce) -> Form:
        """The component of an argmax counts axes, so it moves with those before it."""
        listed = [axis for piece in form.pieces for axis in piece.axes]
        if form.op == "argmax" and listed[form.component] == BATCH:
            raise CompilerFault("expand_batch", "an argmax answers for `...`, which is no one axis")
        component = len(self.axes(listed[: form.component]))
        pieces = tuple(Piece(self.forms[piece.value], self.axes(piece.axes)) for piece in form.pieces)
        return replace(form, pieces=pieces, component=component)
