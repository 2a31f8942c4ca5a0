"""Which parts of a program become statements, in which order, under which names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..errors import PlaitError
from ..program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Item,
    Leaf,
    Library,
    Map,
    OnGradient,
    Place,
    Program,
    Reduce,
    Scan,
    Size,
    children,
    walk,
)
from ..proofs.requirements import filled
from ..words import CONSTANTS, RESERVED, is_name
from .show_ranges import Range, range_of
from .sugar import Cat, Fold, Plain, Sugar, Zeros, sugar

MOST_NESTED, MOST_PARTS = 10, 40
"""An expression that is deeper, or has more parts, is broken into statements."""

MOST_NESTED_BY_AUTHOR, MOST_PARTS_BY_AUTHOR = 30, 150
"""The same where the author gave names: what was written as one expression stays one."""

MOST_INDEX_PARTS = 8
"""Arithmetic on indices up to this size is repeated rather than named."""


ATOMS = (Leaf, Const, Size, Coordinate)
"""What has no statement of its own."""


def fresh(axis: Axis) -> bool:
    """Whether a statement must make the axis."""
    return axis.serial != 0


def declared_axes(items: Iterable[Item]) -> Iterator[Axis]:
    for item in items:
        yield from item


@dataclass(slots=True)
class Plan:
    """The facts by which a program is written down.

    `order` holds every form that is printed, operands before users; `lets` those that get a
    statement of their own, with their names; `axes` the names of axes. `together` are scans whose
    statement names other carries too (None where nothing needs one), and `others` leads from these
    to it.
    """

    program: Program
    sugar: dict[Form, Sugar] = field(default_factory=dict[Form, Sugar])
    ranges: dict[Axis, Range] = field(default_factory=dict[Axis, Range])
    variables: dict[Leaf, tuple[Axis | None, Form | None]] = field(
        default_factory=dict[Leaf, "tuple[Axis | None, Form | None]"]
    )
    order: list[Form] = field(default_factory=list[Form])
    lets: dict[Form, str] = field(default_factory=dict[Form, str])
    tensors: dict[Leaf, str] = field(default_factory=dict[Leaf, str])
    axes: dict[Axis, str] = field(default_factory=dict[Axis, str])
    used: set[str] = field(default_factory=set[str])
    together: dict[Form, tuple[Form | None, ...]] = field(
        default_factory=dict[Form, "tuple[Form | None, ...]"]
    )
    others: dict[Form, Form] = field(default_factory=dict[Form, Form])
    finals: dict[Form, Sugar] = field(default_factory=dict[Form, Sugar])
    _author: dict[Form, str] = field(default_factory=dict[Form, str])
    _kept: set[Form] = field(default_factory=set[Form])
    _looked: set[Form] = field(default_factory=set[Form])

    def __post_init__(self) -> None:
        program = self.program
        for form in program.forms:
            self._variables(form)
        every = list(walk(self.roots(), self._all_operands))
        self._scans(every)
        reachable = set(every)
        for name, form in program.names:
            if form in reachable and not isinstance(form, ATOMS):
                self._author.setdefault(form, name)
        self._kept = {*self._author, *program.roots}
        self._decide()
        while clash := {form for each in self.sugar.values() for form in each.hidden if form in self.lets}:
            self._kept |= clash
            self._decide()

    def _decide(self) -> None:
        """Order and names. A form that got a statement is not hidden by sugar elsewhere: where that
        turns out, all is decided again with the form kept."""
        for table in (self.sugar, self.lets, self.tensors, self.axes, self.used, self._looked):
            table.clear()
        self.order = list(walk(self.roots(), self._operands))
        self._name_header()
        self._name_axes()
        self._name_tensors()
        self._name_values()

    def roots(self) -> list[Form]:
        """What the text must compute, in the order in which it says it."""
        program = self.program
        stored = (d.leaf for d in (*program.parameters, *program.buffers, *program.draws))
        return [
            *(require.predicate for require in program.requires),
            *stored,
            *(form for _, form in program.names if form in self._author or form in self.variables),
            *program.roots,
            *(declaration.leaf for declaration in program.inputs),
            *(Size(axis) for output in program.outputs for axis in declared_axes(output.items)),
        ]

    def _variables(self, form: Form) -> None:
        """Where a bound variable comes from: the scanned axis and the first value, or what it is the
        cotangent of."""
        match form:
            case Scan(axis=axis, carries=carries):
                for carry in carries:
                    self.variables.setdefault(carry.previous, (axis, carry.init))
            case OnGradient(value=value, cotangent=cotangent):
                same = set(cotangent.over) == set(value.axes) and cotangent.kind == value.kind
                self.variables.setdefault(cotangent, (None, value if same else None))
            case _:
                pass

    def _scans(self, every: Iterable[Form]) -> None:
        """Carries of one scan that are all needed get their names from one statement; a final carry is
        the `last` of the whole one where there is that too."""
        whole: dict[Form, list[Scan]] = {}
        for form in every:
            if isinstance(form, Scan):
                whole.setdefault(replace(form, component=0, last=False), []).append(form)
        for found in whole.values():
            by_place = {scan.component: scan for scan in found if not scan.last}
            for scan in found:
                if scan.last and scan.component in by_place:
                    self.finals[scan] = Plain("last", (by_place[scan.component],))
            if len(by_place) > 1:
                first, *rest = by_place.values()
                self.together[first] = tuple(by_place.get(n) for n in range(len(first.carries)))
                self.others.update((scan, first) for scan in rest)

    def targets(self, form: Form) -> list[str]:
        """The names that the statement of a form gives."""
        scans = self.together.get(form, (form,))
        return ["_" if scan is None else self.lets[scan] for scan in scans]

    # --- what a form prints

    def found(self, form: Form) -> Sugar | None:
        """The sugar of a form; each form is looked at once."""
        if form not in self._looked:
            self._looked.add(form)
            made = self.finals.get(form) or sugar(form, self._kept.__contains__)
            if made is not None and not (isinstance(made, Cat) and self._says_more(made)):
                self.sugar[form] = made
        return self.sugar.get(form)

    def _says_more(self, cat: Cat) -> bool:
        """Whether `cat` would say of sizes what the program does not: that the parts fill the axis."""
        requires = self.program.requires
        try:
            more = filled(cat.new, cat.over, dict(self.program.fixed), requires, None)
        except PlaitError:
            return True
        return more is not None and all(more.predicate != known.predicate for known in requires)

    def parts(self, form: Form) -> tuple[Form, ...]:
        """The forms that stand in its expression."""
        match self.found(form):
            case Fold(domains=domains, args=args):
                return (*(d.where for d in domains if d.where is not None), *args)
            case Plain(args=args) | Cat(args=args):
                return args
            case Zeros():
                return ()
            case None:
                pass
        match form:
            case Leaf() if form in self.variables:
                _, value = self.variables[form]
                return () if value is None else (value,)
            case Scan() if form in self.others:
                return (self.others[form],)
            case Scan(carries=carries, until=until):
                found: list[Form] = []
                for carry in carries:
                    found += [carry.previous, carry.step]
                    if self.variables[carry.previous][1] != carry.init:
                        found.append(carry.init)
                return (*found, *(() if until is None else (until,)))
            case _:
                return children(form)

    def mentioned(self, form: Form) -> tuple[Axis, ...]:
        """The axes that its expression names."""
        match self.found(form):
            case Fold(domains=domains):
                return tuple(axis for domain in domains for axis in domain.axes)
            case Cat(over=over, new=new):
                return (*over, new)
            case Zeros(axes=axes):
                return axes
            case Plain():
                return ()
            case None:
                return own_axes(form)

    def range(self, axis: Axis) -> Range:
        if axis not in self.ranges:
            self.ranges[axis] = range_of(axis)
        return self.ranges[axis]

    def _operands(self, form: Form) -> tuple[Form, ...]:
        """What must be said before: the ranges of its axes, and its parts."""
        return (*self._ranges(self.mentioned(form)), *self.parts(form))

    def _all_operands(self, form: Form) -> tuple[Form, ...]:
        """The same where nothing is sugar."""
        return (*self._ranges(own_axes(form)), *children(form))

    def _ranges(self, axes: Iterable[Axis]) -> list[Form]:
        found: list[Form] = []
        for axis in filter(fresh, axes):
            made = self.range(axis)
            found += made.forms
            if made.of is not None:
                found.append(Coordinate(made.of))
        return found

    # --- names

    def unused(self, stem: str) -> str:
        """The name, with a number behind it where it is taken."""
        name, number = stem, 0
        while name in self.used or name in RESERVED or name in CONSTANTS:
            number += 1
            name = f"{stem}_{number}"
        self.used.add(name)
        return name

    def _name_header(self) -> None:
        program = self.program
        self.used |= {declaration.leaf.name for declaration in program.inputs}
        self.used |= {output.name for output in program.outputs}
        self.used |= {name for name, _ in program.statics}

    def _name_axes(self) -> None:
        """Signature axes are their names; fresh ones get names that nothing else has."""
        signature = dict.fromkeys((BATCH, *(axis for axis, _ in self.program.fixed)))
        every: dict[Axis, None] = {}
        for form in self.order:
            for axis in self.mentioned(form):
                (every if fresh(axis) else signature)[axis] = None
        for axis in signature:
            self.axes[axis] = axis.name
        self.used |= {axis.name for axis in signature}
        for axis in every:
            self.axes[axis] = self.unused(_identifier(axis.name))

    def _name_tensors(self) -> None:
        program = self.program
        for declaration in program.inputs:
            self.tensors[declaration.leaf] = declaration.leaf.name
        written = {form: name for name, form in reversed(program.names) if isinstance(form, Leaf)}
        for declaration in (*program.parameters, *program.buffers, *program.draws):
            leaf = declaration.leaf
            self.tensors[leaf] = self.unused(_identifier(written.get(leaf, leaf.name), dots=True))
        for form in self.order:
            if isinstance(form, Leaf) and form not in self.tensors:
                bound = form.role == "bound"
                self.tensors[form] = self.unused(_identifier(form.name)) if bound else form.name

    def _name_values(self) -> None:
        """Which forms are statements of their own: outputs, what the author named, and the rest by size
        and use."""
        statics = {name for name, _ in self.program.statics}
        for output in reversed(self.program.outputs):
            if output.name not in statics and not isinstance(output.value, ATOMS):
                self.lets[output.value] = output.name
        for form in self.order:
            if form in self._author and form not in self.lets:
                self.lets[form] = self.unused(_identifier(self._author[form]))
        uses, most = self._uses(), (MOST_NESTED, MOST_PARTS)
        if self._author:
            most = (MOST_NESTED_BY_AUTHOR, MOST_PARTS_BY_AUTHOR)
        deep: dict[Form, int] = {}
        wide: dict[Form, int] = {}
        on_indices: set[Form] = set()
        number = 0
        for form in self.order:
            every = self.parts(form)
            inner = [part for part in every if part not in self.lets]
            atom = isinstance(form, ATOMS)
            deep[form] = 1 if atom else 1 + max((deep[part] for part in inner), default=0)
            wide[form] = 1 if atom else 1 + sum(wide[part] for part in inner)
            if isinstance(form, Const | Size | Coordinate) or (
                isinstance(form, Map) and on_indices.issuperset(every)
            ):
                on_indices.add(form)
            index = form in on_indices and wide[form] <= MOST_INDEX_PARTS
            large = deep[form] > most[0] or wide[form] > most[1]
            if not atom and form not in self.lets and (large or self._apart(form, uses[form], index)):
                number = self._free(number + 1)
                self.lets[form] = f"v{number}"

    def _free(self, number: int) -> int:
        while f"v{number}" in self.used:
            number += 1
        self.used.add(f"v{number}")
        return number

    def _apart(self, form: Form, uses: int, index: bool) -> bool:
        """Whether the form is a statement by what it is, or by how often it is used."""
        if isinstance(form, Scan) and form not in self.finals:
            return True
        if uses > 1:
            return not index
        return not self._author and (isinstance(self.found(form), Fold) or isinstance(form, Library))

    def _uses(self) -> Counter[Form]:
        uses: Counter[Form] = Counter()
        axes: dict[Axis, None] = {}
        for form in self.order:
            uses.update(self.parts(form))
            axes.update(dict.fromkeys(self.mentioned(form)))
        for axis in filter(fresh, axes):
            uses.update(self.range(axis).forms)
        program = self.program
        uses.update(require.predicate for require in program.requires)
        uses.update(program.roots)
        return uses


def own_axes(form: Form) -> tuple[Axis, ...]:
    """The axes that a form names by itself."""
    match form:
        case Size(axis=axis) | Coordinate(axis=axis) | Scan(axis=axis):
            return (axis,)
        case Leaf(over=over, ranges_over=ranges_over):
            return over if ranges_over is None else (*over, ranges_over)
        case Reduce(pieces=pieces):
            return tuple(axis for piece in pieces for axis in piece.axes)
        case At(indices=indices):
            return tuple(axis for axis, _ in indices)
        case Place(indices=indices, keep=keep):
            return (*(axis for axis, _ in indices), *keep)
        case Library(over=over, new=new):
            return (*over, *new)
        case _:
            return ()


def _identifier(name: str, dots: bool = False) -> str:
    """A name as near to this one as a statement may give; a tensor may have the dots of its key."""
    if is_name(name) and (dots or "." not in name):
        return name
    made = re.sub(r"\W+", "_", name).strip("_")
    return made if made and not made[0].isdigit() else f"t_{made}".rstrip("_")
