"""What a tile kernel computes itself, and what it must read: the walk of one group from its root.

A reduction below the root stays inside if it is computed once: if every grid axis of the kernel is one
of its own axes, read where it is (`x[h+1]` would compute it again for a neighbour), and nobody else
reads it. Resident axes and outputs are no grid axes: over the former a value is whole in every tile, and
what does not depend on the latter stands before their stream. Slices of a value along such an axis
(`g[s: c + 16]`) are computed where they are read if together they have no more entries than it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ...dsl.constructors.build import apply, low, size
from ...dsl.program import At, Axis, Const, Coordinate, Form, Map, Otherwise, Reduce, Size, When, children
from ..rewrites.affine import affine, polynomial
from .contraction import contraction, epilogue, is_fixed, is_product, is_window, reduced_axes

Place = object
"""Where an axis of a form is in the kernel: two equal places are one tile axis. None: at a computed index."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A place: one coordinate of the tile for each entry of `along`, which lies at `place`, from `first` on."""

    along: Axis
    place: Place
    first: Form


Places = Mapping[Axis, Place]


@dataclass(slots=True)
class TileGroup:
    """`why_stored` gives the reason for which a form is stored whoever reads it, or "". `shared` says
    whether something outside the group reads a form. `trivial` forms are never stored. `fixed` are sizes that
    the program gives. `outputs`: the outputs of a contraction run past the tile, so that what it reads is not
    made anew for them; on a machine where they do not, windows have kernels of their own (`windows.py`)."""

    root: Form
    parameters: frozenset[Axis]
    outputs: bool
    why_stored: Callable[[Form], str]
    trivial: Callable[[Form], bool]
    shared: Callable[[Form, Form], bool]
    fixed: Mapping[Axis, int] = field(default_factory=dict[Axis, int])
    found: dict[Form, str] = field(default_factory=dict[Form, str])
    seen: set[object] = field(default_factory=set[object])
    grid: frozenset[Axis] = frozenset()
    read_at: dict[tuple[Form, Axis], set[Place]] = field(default_factory=dict[tuple[Form, Axis], set[Place]])
    """The places along each axis at which reductions are read."""
    windowed: set[Form] = field(default_factory=set[Form])
    """What is read at sums of coordinates, as by a window."""

    def reads(self) -> dict[Form, str]:
        """The values that the group reads, each with the reason that it is stored. What is stored may
        leave fewer axes resident, so the walk is repeated until it settles."""
        while True:
            before = set(self.found)
            self.seen.clear()
            self.read_at.clear()
            self.grid = self._grid()
            stack = list(self._below(self.root, {axis: (axis,) for axis in self.root.axes}))
            while stack:
                stack += self._visit(*stack.pop())
            if set(self.found) == before:
                return self.found

    def _visit(self, form: Form, places: Places) -> list[tuple[Form, Places]]:
        key = (form, tuple(places[axis] for axis in form.axes))
        if key in self.seen or form in self.found or self.trivial(form):
            return []
        self.seen.add(key)
        reason = self.why_stored(form)
        if not reason and isinstance(form, Reduce):
            reason = self._apart(form) or self._again(form, places) or self._streamed(form, places)
            reason = reason or self._overlapping(form, places)
        elif not reason and isinstance(form, Map):
            reason = self._made_of_again(form, places)
        if reason:
            self.found[form] = reason
            return []
        return self._below(form, places)

    def _apart(self, form: Reduce) -> str:
        """Why a reduction has a kernel of its own though it would be computed once."""
        if self.outputs or not is_window(form):
            return ""
        alone = all(is_window(each) for each in self._inside() if isinstance(each, Reduce))
        if alone and form in epilogue(self.root):
            return ""
        return f"a {form.op} over a window has its kernel, in which rows of the result share what they read"

    def _again(self, form: Reduce, places: Places) -> str:
        """Why a reduction would be computed more than once."""
        if self.shared(form, self.root):
            return f"a {form.op} that others read is computed once"
        own = [places[axis] for axis in form.axes]
        if None in own:
            return f"a {form.op} read at an index that is computed would be computed again at every reader"
        lost = sorted(axis.name for axis in self.grid if (axis,) not in own)
        if lost and not self._small(form):
            return f"a {form.op} would be computed again for every {', '.join(lost)}"
        return ""

    def _small(self, form: Reduce) -> bool:
        """Whether a reduction that is made once a tile takes no more entries than another one takes at each of
        its lanes: the mean of a vector beside a product with it."""
        taken = [*reduced_axes(form), *(axis for axis in form.axes if axis not in self.grid)]
        others = (each for each in self._inside() if isinstance(each, Reduce) and each != form)
        return any(
            self.grid <= set(each.axes) and _ranges(taken) <= _ranges(reduced_axes(each))
            for each in others
            if all(is_fixed(axis, self.parameters) for axis in reduced_axes(each))
        )

    def _streamed(self, form: Reduce, places: Places) -> str:
        """Why a reduction over a stream is stored though it would be computed once. Where an axis of its own is
        resident, few tiles share its work, and its lanes lie along what is left: the means of an image by channel
        inside the linear map that mixes the channels. It is small beside what it reads."""
        if is_product(form, self.found) or all(
            is_fixed(each, self.parameters) for each in reduced_axes(form)
        ):
            return ""
        held = sorted(axis.name for axis in form.axes if places[axis] == (low(axis), size(axis)))
        return f"a {form.op} over a stream would keep {', '.join(held)} in one tile" if held else ""

    def _overlapping(self, form: Reduce, places: Places) -> str:
        """Why the slices of a reduction that are read may have entries in common."""
        for axis in form.axes:
            at = self.read_at.setdefault((form, axis), set())
            at.add(places[axis])
            if not any(isinstance(each, Slice) for each in at):
                continue
            left = size(axis)
            for each in at:
                left = apply("sub", left, size(each.along if isinstance(each, Slice) else axis))
            if not self._is_count(left):
                return f"slices of a {form.op} along {axis.name} may overlap, which would compute it again"
        return ""

    def _is_count(self, form: Form) -> bool:
        """Whether a difference of sizes is known, and not negative."""
        total = 0
        for monomial, factor in polynomial(form, True).items():
            for atom in monomial:
                count = self.fixed.get(atom.axis) if isinstance(atom, Size) else None
                if count is None:
                    return False
                factor *= count
            total += factor
        return total >= 0

    def _made_of_again(self, form: Map, places: Places) -> str:
        """Why a value is stored in place of the reductions that it is made of: each would be stored, it has no
        more entries than they, and what it makes of them would be made again at every reader, or at every tap of a
        window."""
        if None in (places[axis] for axis in form.axes) and form not in self.windowed:
            return ""
        why = ""
        for below in pointwise_in(form):
            if isinstance(below, When | Otherwise | Reduce) and set(below.axes) != set(form.axes):
                return ""
            if isinstance(below, When) or self.why_stored(below) or below in self.found:
                return ""
            if isinstance(below, Reduce):
                again = "" if self.shared(below, form) else self._again(below, places)
                if not again:
                    return ""
                why = again.replace(f"a {below.op} ", f"a {below.op} and what is made of it ")
        return why

    def _below(self, form: Form, places: Places) -> list[tuple[Form, Places]]:
        """The operands of a form, and where their axes are."""
        match form:
            case At(value=value, indices=indices):
                if any(len(index.axes) > 1 for _, index in indices):
                    self.windowed.add(value)
                moved = {axis: places.get(axis) for axis in value.axes}
                for axis, index in indices:
                    moved[axis] = self._moved(axis, index, places)
                return [(value, moved), *((index, self._kept(index, places)) for _, index in indices)]
            case Reduce(pieces=pieces):
                return [
                    (
                        piece.value,
                        self._kept(piece.value, places) | {axis: self._place(axis) for axis in piece.axes},
                    )
                    for piece in pieces
                ]
            case _:
                return [(each, self._kept(each, places)) for each in children(form)]

    def _moved(self, axis: Axis, index: Form, places: Places) -> Place:
        """Where an axis is that is read at an index: at a coordinate, or at a slice outside the grid."""
        found = affine(index)
        if found is None or found.rest.axes or list(found.coefficients.values()) != [Const(1)]:
            return None
        (along,) = found.coefficients
        place = places.get(along)
        if isinstance(index, Coordinate) and (low(along), size(along)) == (low(axis), size(axis)):
            return place
        if place in {(each,) for each in self.grid}:
            return place if isinstance(index, Coordinate) else None
        return None if place is None else Slice(along, place, found.rest)

    def _kept(self, form: Form, places: Places) -> dict[Axis, Place]:
        return {axis: places.get(axis) for axis in form.axes}

    def _place(self, axis: Axis) -> Place:
        """A reduced axis: one place for all of one range if it is resident, else its own."""
        return (low(axis), size(axis)) if is_fixed(axis, self.parameters) else ("stream", axis)

    def _grid(self) -> frozenset[Axis]:
        """The axes of the result that are in the grid: those that are neither resident nor outputs."""
        kept = {
            axis
            for form in self._inside()
            if isinstance(form, Reduce) and (self.outputs or not is_product(form, self.found))
            for axis in reduced_axes(form)
            if is_fixed(axis, self.parameters)
        }
        order = tuple(axis for axis in self.root.axes if axis not in kept)
        outputs: set[Axis] = set()
        for form in epilogue(self.root) if self.outputs else ():
            found = contraction(form, self.found) if form not in self.found else None
            if found is not None and all(is_fixed(axis, self.parameters) for axis in found.over):
                outputs |= set(found.rows(order, written))
        return frozenset(axis for axis in order if axis not in outputs)

    def _inside(self) -> list[Form]:
        stack, inside = [self.root], dict[Form, None]()
        while stack:
            form = stack.pop()
            if form in inside or (form != self.root and (form in self.found or self.why_stored(form))):
                continue
            inside[form] = None
            stack += children(form)
        return list(inside)


def _ranges(axes: Iterable[Axis]) -> Counter[tuple[Form, Form]]:
    """How many axes run over each range."""
    return Counter((low(axis), size(axis)) for axis in axes)


def pointwise_in(form: Form) -> Iterator[Form]:
    """The values that a form is made of entry by entry, down to reductions, reads and leaves."""
    stack: list[Form] = [form]
    seen = set[Form]()
    while stack:
        each = stack.pop()
        if each not in seen:
            seen.add(each)
            yield each
            if isinstance(each, Map | When | Otherwise):
                stack += children(each)


def written(form: Form) -> int | None:
    """An integer that stands in the program as such."""
    return form.value if isinstance(form, Const) and isinstance(form.value, int) else None
