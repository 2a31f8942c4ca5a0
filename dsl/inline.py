"""One program put into another: its inputs become the caller's values, its axes the caller's axes.

Everything that the callee made for itself is renamed apart: fresh axes get copies, bound variables
get new names. What the caller hands in is taken as it is. Both spellings compose mixers with this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from . import build
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
    Indices,
    Item,
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


def reduces_batch(program: Program) -> bool:
    """Whether a value of the program depends on all of `...` at once."""
    return any(_takes_batch(form) for form in program.forms)


def _takes_batch(form: Form) -> bool:
    match form:
        case Size(axis=axis):
            return axis == BATCH
        case Reduce(pieces=pieces):
            return any(BATCH in piece.axes for piece in pieces)
        case Place(value=value, keep=keep):
            return BATCH in value.axes and BATCH not in keep
        case _:
            return False


@dataclass(slots=True)
class Inlining:
    """Renames one program into another.

    `axes` are the caller's axes for formal ones, `batch` those that stand for `...`; an axis of the
    header that is in neither keeps its name. `leaves` are the caller's forms for the callee's
    tensors, set before `form` is asked. `spelled` keeps the spelling of constants, which only makes
    sense where their names are the caller's.
    """

    axes: Mapping[Axis, Axis]
    batch: tuple[Axis, ...]
    bound_name: Callable[[str], str]
    spelled: bool = True
    leaves: dict[Form, Form] = field(default_factory=dict[Form, Form])
    _forms: dict[Form, Form] = field(default_factory=dict[Form, Form])
    _fresh: dict[Axis, Axis] = field(default_factory=dict[Axis, Axis])
    _bound: dict[Leaf, Leaf] = field(default_factory=dict[Leaf, Leaf])

    def declaration(self, declaration: Declaration, key: Callable[[str], str]) -> Declaration:
        """The caller's declaration for a tensor of the callee, under the key that `key` makes."""
        leaf = declaration.leaf
        items = self.items(declaration.items)
        over = tuple(axis for item in items for axis in item)
        return replace(
            declaration,
            leaf=replace(leaf, name=key(leaf.name), over=over),
            items=items,
            also=tuple(map(key, declaration.also)),
        )

    def items(self, items: Iterable[Item]) -> tuple[Item, ...]:
        return tuple(tuple(map(self.axis, item)) for item in items)

    def axis(self, axis: Axis) -> Axis:
        """The caller's axis for one of the callee's, other than `...`."""
        if axis in self.axes:
            return self.axes[axis]
        if axis == BATCH:
            raise CompilerFault("inline", "`...` stands where one axis must")
        if axis.size is None or axis.lo is None:
            return axis
        if axis not in self._fresh:
            low, size = self.form(axis.lo), self.form(axis.size)
            self._fresh[axis] = fresh_axis(axis.name, low, size, axis.how, axis.span)
        return self._fresh[axis]

    def spread(self, axes: Iterable[Axis]) -> tuple[Axis, ...]:
        """The caller's axes for several of the callee's, `...` among them."""
        return tuple(new for axis in axes for new in (self.batch if axis == BATCH else (self.axis(axis),)))

    def form(self, root: Form) -> Form:
        """The caller's form for one of the callee's, operands first."""
        for form in walk((root,)):
            if form not in self._forms:
                self._forms[form] = self._rebuilt(form)
        return self._forms[root]

    def _rebuilt(self, form: Form) -> Form:
        new = self._forms
        match form:
            case Const():
                return form if self.spelled or form.written is None else replace(form, written=None)
            case Size(axis=axis):
                return self._count(form) if axis == BATCH else build.size(self.axis(axis), form.span)
            case Coordinate(axis=axis):
                return self._place(form) if axis == BATCH else Coordinate(self.axis(axis), span=form.span)
            case Leaf():
                return self._variable(form) if form.role == "bound" else self._tensor(form)
            case Map(op=op, args=args):
                return build.apply(op, *(new[arg] for arg in args), span=form.span)
            case When(predicate=predicate, value=value):
                return replace(form, predicate=new[predicate], value=new[value])
            case Otherwise(value=value, fallback=fallback):
                return replace(form, value=new[value], fallback=new[fallback])
            case At(value=value, indices=indices):
                return build.at(new[value], dict(self._indices(indices)), form.span)
            case Place(value=value, indices=indices, keep=keep):
                kept = (
                    axis for axis in self.spread(keep) if axis not in self.batch or axis in new[value].axes
                )
                return replace(form, value=new[value], indices=self._indices(indices), keep=tuple(kept))
            case Reduce():
                return self._reduction(form)
            case _:
                return self._rebuilt_special(form)

    def _rebuilt_special(self, form: Form) -> Form:
        new = self._forms
        match form:
            case Scan(axis=axis, carries=carries, until=until):
                ended = None if until is None else new[until]
                return replace(
                    form, axis=self.axis(axis), carries=tuple(map(self._carry, carries)), until=ended
                )
            case Library(args=args, over=over, new=made):
                parts = tuple(new[arg] for arg in args)
                return replace(form, args=parts, over=self.spread(over), new=self.spread(made))
            case AsIf(value=value, surrogate=surrogate):
                return replace(form, value=new[value], surrogate=new[surrogate])
            case OnGradient(value=value, cotangent=cotangent, rule=rule):
                bound = self._variable(cotangent)
                return replace(form, value=new[value], cotangent=bound, rule=new[rule])
            case Jvp(value=value, at=at, tangents=tangents):
                places, moves = tuple(new[x] for x in at), tuple(new[t] for t in tangents)
                return replace(form, value=new[value], at=places, tangents=moves)
            case Vjp(value=value, at=at, cotangent=cotangent):
                return replace(form, value=new[value], at=new[at], cotangent=new[cotangent])
            case _:
                raise CompilerFault("inline", f"{type(form).__name__} is no form that it knows")

    def _tensor(self, leaf: Leaf) -> Form:
        if leaf not in self.leaves:
            raise CompilerFault("inline", f"{leaf.role} `{leaf.name}` has no form in the caller")
        return self.leaves[leaf]

    def _variable(self, leaf: Leaf) -> Leaf:
        if leaf not in self._bound:
            stem = leaf.name.rstrip("0123456789").rstrip("_") or leaf.name
            name, over = self.bound_name(stem), self.spread(leaf.over)
            self._bound[leaf] = replace(leaf, name=name, over=over)
        return self._bound[leaf]

    def _carry(self, carry: Carry) -> Carry:
        """A first value that is the same for some axes of the batch is spread over them."""
        leaf, init = self._variable(carry.previous), self._forms[carry.init]
        lacking = [axis for axis in leaf.over[1:] if axis not in init.axes]
        return Carry(leaf, spread_over(init, lacking), self._forms[carry.step])

    def _count(self, form: Size) -> Form:
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
        return tuple((self.axis(axis), self._forms[index]) for axis, index in indices)

    def _reduction(self, form: Reduce) -> Form:
        """The component of an argmax counts axes, so it moves with those before it."""
        listed = [axis for piece in form.pieces for axis in piece.axes]
        component = len(self.spread(listed[: form.component]))
        pieces = tuple(Piece(self._forms[piece.value], self.spread(piece.axes)) for piece in form.pieces)
        return replace(form, pieces=pieces, component=component)


def spread_over(value: Form, axes: Iterable[Axis]) -> Form:
    """The value, the same at every index of further axes: `when(0 * c >= 0, value)`, always present."""
    total: Form | None = None
    for axis in axes:
        own = build.apply("mul", Const(0), Coordinate(axis))
        total = own if total is None else build.apply("add", total, own)
    return value if total is None else build.when(build.apply("ge", total, Const(0)), value, value.span)
