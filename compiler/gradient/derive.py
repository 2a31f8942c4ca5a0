"""The gradient of a Program, as a Program: reverse mode with the adjoints of language.md section 3.

The sweep puts off T(v) = v.otherwise(0), and leaves out masks that nothing sees. What it keeps of the
cotangent g of a form y is: *on P(y), T(g) is the cotangent*; off P(y) nobody looks. A pullback keeps that
for its operand x when what it adds is right on P(x), so it is masked by those conditions of P(y) that
follow neither from P(x) nor from where it is present itself. T is taken where it is seen: before
contributions that are present at different places of P(x) are added, before the author's own rule of
`on_gradient`, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...dsl.constructors.build import apply, like_axis, size
from ...dsl.constructors.build_special import zeros
from ...dsl.errors import raise_all
from ...dsl.mistakes import KindMismatch, NotYet, ShadowedName, UnknownName
from ...dsl.ops import SMOOTH
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    Library,
    Map,
    OnGradient,
    Otherwise,
    Output,
    Piece,
    Place,
    Program,
    Reduce,
    When,
    children,
    walk,
)
from ...dsl.proofs.presence import conjunction
from ..algorithms.linear import stream_linear_maps
from ..rewrites.conditions import Conditions, optional_leaves
from ..rewrites.rewrite import border, guarded, spread, substitute
from ..rewrites.simplify import simplify
from .derive_rules import PULLBACKS, REDUCTIONS, clamped
from .gather import gather

Contribution = tuple[Form, Form]
"""A form, and what is added to its cotangent."""


def gradient(program: Program, wrt: Sequence[str] | None = None) -> Program:
    """The program that computes `grad.NAME` for each tensor of `wrt`, in the layout of its declaration.

    Its inputs are those of `program`, then one cotangent `cot.NAME` for each real or complex output, in
    the layout of that output; parameters, buffers and draws stay declared, updates go. Without `wrt` the
    tensors are the real and complex inputs and the trainable parameters. One that no output depends on
    has gradient 0. The result can be differentiated again.

    Raises UnknownName and KindMismatch for what `wrt` cannot mean, NotYet for a scan, a library function
    and jvp or vjp between an output and a tensor of `wrt`.
    """
    program = stream_linear_maps(program)
    wanted = _wanted(program, wrt)
    cotangents = {out: _cotangent(program, out) for out in program.outputs if out.value.kind in SMOOTH}
    reverse = Reverse(program, frozenset(each.leaf for each in wanted))
    seeds = [(out.value, declared.leaf) for out, declared in cotangents.items()]
    found = reverse.run(seeds)
    outputs = tuple(
        Output(f"grad.{each.leaf.name}", reverse.whole(each.leaf, found), each.items, each.span)
        for each in wanted
    )
    names = tuple((f"d_{name}", found[form]) for name, form in program.names if form in found)
    made = replace(
        program,
        name=f"{program.name}_gradient",
        inputs=(*program.inputs, *cotangents.values()),
        outputs=outputs,
        updates=(),
        names=(*program.names, *names),
    )
    there = set(made.forms)
    made = replace(made, names=tuple((name, form) for name, form in made.names if form in there))
    return simplify(gather(simplify(made)))


def _wanted(program: Program, wrt: Sequence[str] | None) -> tuple[Declaration, ...]:
    if wrt is None:
        trained = (each for each in program.parameters if each.trainable)
        return tuple(each for each in (*program.inputs, *trained) if each.leaf.kind in SMOOTH)
    declared = {each.leaf.name: each for each in program.declarations}
    unknown = [
        UnknownName(f"`{program.name}` has no tensor `{name}`", notes=[f"tensors: {', '.join(declared)}"])
        for name in wrt
        if name not in declared
    ]
    raise_all(unknown)
    wanted = tuple(declared[name] for name in wrt)
    raise_all([
        KindMismatch(
            f"`{each.leaf.name}` is {each.leaf.kind}, and has no gradient", at=each.span, label="declared here"
        )
        for each in wanted
        if each.leaf.kind not in SMOOTH
    ])  # fmt: skip
    return wanted


def _cotangent(program: Program, output: Output) -> Declaration:
    name = f"cot.{output.name}"
    if any(each.leaf.name == name for each in program.declarations):
        raise ShadowedName(
            f"`{program.name}` has a tensor `{name}`, which is the name of a cotangent", at=output.span
        )
    over = tuple(axis for item in output.items for axis in item)
    return Declaration(Leaf("input", name, over, output.value.kind), output.items, span=output.span)


class Reverse:
    """One reverse sweep. `sources` are the forms whose cotangents are wanted."""

    def __init__(self, program: Program, sources: frozenset[Form]) -> None:
        self.sources = sources
        self.conditions = Conditions(optional_leaves(program))
        self.needed: set[Form] = set()

    def run(self, seeds: Sequence[Contribution]) -> dict[Form, Form]:
        """The cotangents of all forms between the seeds and the sources, not totalled."""
        order = tuple(walk(form for form, _ in seeds))
        for form in order:
            if form.kind in SMOOTH and (form in self.sources or not self.needed.isdisjoint(_paths(form))):
                self.needed.add(form)
        waiting: dict[Form, list[Form]] = {}
        for form, g in seeds:
            waiting.setdefault(form, []).append(g)
        found: dict[Form, Form] = {}
        for form in reversed(order):
            if form not in self.needed or form not in waiting:
                continue
            found[form] = g = self.added(form, waiting.pop(form))
            for operand, more in self.pull(form, g):
                waiting.setdefault(operand, []).append(more)
        return found

    def whole(self, leaf: Leaf, found: dict[Form, Form]) -> Form:
        """The gradient of a leaf: total, over all of its axes."""
        g = found.get(leaf)
        if g is None:
            nothing = zeros(leaf.over, leaf.span)
            return apply("add", nothing, Const(0j)) if leaf.kind == "complex" else nothing
        return spread(self.total(g, leaf), leaf.over)

    # --- T, masks, and sums of contributions

    def total(self, g: Form, form: Form) -> Form:
        """T(g) for the cotangent g of a form: 0 where g or the form is absent."""
        g = self.conditions.masked(g, self.conditions.of(form))
        return g if self.conditions.total(g) else Otherwise(g, Const(0.0), span=g.span)

    def added(self, form: Form, contributions: Sequence[Form]) -> Form:
        """The cotangent of a form. Contributions that are present at the same places of it are added as
        they are, others after T."""
        groups: dict[frozenset[Form], Form] = {}
        for each in contributions:
            where = frozenset(self.conditions.missing(self.conditions.of(form), self.conditions.of(each)))
            groups[where] = apply("add", groups[where], each) if where in groups else each
        if len(groups) == 1:
            return next(iter(groups.values()))
        result: Form | None = None
        for where, each in groups.items():
            whole = Otherwise(each, Const(0.0), span=each.span) if where else each
            result = whole if result is None else apply("add", result, whole)
        return result or Const(0.0)

    def given(self, form: Form, operand: Form, g: Form, over: Iterable[Axis] = ()) -> Contribution:
        """What `form` adds to the cotangent of an operand: g, over the axes of the form, `over` and the
        operand, masked, summed to the operand's axes, and brought to its kind. Along axes that g lacks
        it is constant."""
        here = (*self.conditions.of(operand), *self.conditions.of(g))
        g = guarded(g, self.conditions.missing(here, self.conditions.of(form)))
        if g.kind == "complex" and operand.kind != "complex":
            g = apply("real", g)
        extra = [axis for axis in dict.fromkeys((*form.axes, *over)) if axis not in operand.axes]
        here = tuple(axis for axis in extra if axis in g.axes)
        if here:
            g = Reduce("sum", (Piece(g, here),), span=form.span)
        for axis in extra:
            if axis not in here:
                g = apply("mul", g, apply("to_real", size(axis)))
        return operand, g

    # --- one form

    def pull(self, form: Form, g: Form) -> Iterator[Contribution]:
        """What the cotangent of a form adds to those of its operands."""
        match form:
            case Leaf():
                pass
            case Map(op="minimum", args=(Map(op="maximum", args=(x, lo)), hi)) if x in self.needed:
                for arg, made in zip((x, lo, hi), clamped(g, x, lo, hi), strict=True):
                    if arg in self.needed:
                        yield self.given(form, arg, made)
            case Map():
                for arg, pullback in zip(form.args, PULLBACKS.get(form.op, ()), strict=False):
                    made = pullback(g, form) if pullback and arg in self.needed else None
                    if made is not None:
                        yield self.given(form, arg, made)
            case When(value=x):
                yield self.given(form, x, g)
            case Otherwise(value=x, fallback=z):
                here = self.conditions.of(x)
                if x in self.needed:
                    yield self.given(form, x, g)
                if z in self.needed and here:
                    elsewhere = When(apply("not", conjunction(here)), g, span=form.span)
                    yield self.given(form, z, elsewhere)
            case At():
                yield form.value, self.pull_at(form, g)
            case Place():
                yield self.pull_place(form, g)
            case Reduce():
                yield from self.pull_reduce(form, g)
            case AsIf(surrogate=s):
                yield self.given(form, s, g)
            case OnGradient(value=x):
                given = spread(self.total(g, form), form.cotangent.over)
                made = substitute(form.rule, {form.cotangent: given})
                yield self.given(form, x, made, made.axes)
            case _:
                raise _not_yet(form)

    def pull_at(self, form: At, g: Form) -> Form:
        """g placed where the read took it from. What a read of an absent entry would place lands where
        nobody looks."""
        if g.kind == "complex" and form.value.kind != "complex":
            g = apply("real", g)
        replaced = [axis for axis, _ in form.indices]
        around = {axis for each in (g, *(index for _, index in form.indices)) for axis in each.axes}
        keep = tuple(axis for axis in form.value.axes if axis not in replaced and axis in around)
        return Place(g, form.indices, keep, span=form.span)

    def pull_place(self, form: Place, g: Form) -> Contribution:
        """g read where the place put it."""
        there = tuple((axis, index) for axis, index in form.indices if axis in g.axes)
        gone = [each for a, e in form.indices if a not in g.axes for each in border(e, a)]
        read = guarded(At(g, there, span=form.span) if there else g, gone)
        inside = dict.fromkeys(axis for each in children(form) for axis in each.axes)
        return self.given(form.value, form.value, read, inside)

    def pull_reduce(self, form: Reduce, g: Form) -> Iterator[Contribution]:
        pullback = REDUCTIONS[form.op]
        for place, piece in enumerate(form.pieces):
            if piece.value in self.needed:
                own, back = _apart(form, place)
                value = own.pieces[place].value
                _, made = self.given(own, value, pullback(g, own, place), value.axes)
                yield piece.value, _renamed(made, back)


def _apart(form: Reduce, place: int) -> tuple[Reduce, dict[Axis, Axis]]:
    """The reduction with one piece over copies of those of its axes that another piece leaves in the
    result, and the way back."""
    piece = form.pieces[place]
    copies = {axis: like_axis(axis) for axis in piece.axes if axis in form.axes}
    if not copies:
        return form, {}
    axes = tuple(copies.get(axis, axis) for axis in piece.axes)
    indices = tuple((axis, Coordinate(copy)) for axis, copy in copies.items())
    pieces = (*form.pieces[:place], Piece(At(piece.value, indices), axes), *form.pieces[place + 1 :])
    return replace(form, pieces=pieces), {copy: axis for axis, copy in copies.items()}


def _renamed(form: Form, axes: Mapping[Axis, Axis]) -> Form:
    """The form over other axes of the same range, as a read of it: it stays one value."""
    indices = tuple((old, Coordinate(new)) for old, new in axes.items() if old in form.axes)
    return At(form, indices, span=form.span) if indices else form


def _paths(form: Form) -> tuple[Form, ...]:
    """The operands that a cotangent goes on to."""
    match form:
        case Map(op=op, args=args):
            return tuple(arg for arg, cell in zip(args, PULLBACKS.get(op, ()), strict=False) if cell)
        case When(value=x) | At(value=x) | Place(value=x) | OnGradient(value=x):
            return (x,)
        case Reduce(op=op):
            return children(form) if op in REDUCTIONS else ()
        case AsIf(surrogate=s):
            return (s,)
        case _:
            return children(form)


def _not_yet(form: Form) -> NotYet:
    name = form.op if isinstance(form, Library) else type(form).__name__.lower()
    return NotYet(f"the gradient of `{name}` is not derived yet", at=form.span, label=f"this is `{name}`")
