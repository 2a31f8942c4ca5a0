"""The canonical text of a program: what decides equality, and what caches are keyed by.

Every form is one numbered line, operands before users; fresh axes and bound variables are numbered
where they first occur. Names that carry meaning stay: of the program, its tensors, its signature
axes. Names of statements and fresh axes, spans, the spelling of constants and of ranges, docs,
initial values and the order of parameters leave no trace.

    plait 1
    program "f"
    ...
    @0 = -8 17                      a fresh axis: its lowest index and its size
    %4 = map mul %2 %3
    output "o" [...,h,w,d] = %9
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from .errors import CompilerFault
from .program import (
    AsIf,
    At,
    Axis,
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
    Place,
    Program,
    Reduce,
    Scan,
    Size,
    Vjp,
    When,
    set_canonical,
)

VERSION = "plait 1"

Visit = Generator[Form, None, str]
"""The numbering of one form: gives the forms that must be numbered before, returns its line."""


def canonical(program: Program) -> str:
    """The canonical text. Two programs are equal exactly where their texts are."""
    return "\n".join(_Numbering(program).lines)


@dataclass(slots=True)
class _Numbering:
    program: Program
    lines: list[str] = field(default_factory=list[str])
    forms: dict[Form, str] = field(default_factory=dict[Form, str])
    axes: dict[Axis, str] = field(default_factory=dict[Axis, str])
    numbered: int = 0

    def __post_init__(self) -> None:
        program = self.program
        self.lines += [VERSION, f"program {json.dumps(program.name)}"]
        self.lines += [f"size {json.dumps(axis.name)} {size}" for axis, size in _sorted(program.fixed)]
        for declaration in program.inputs:
            self._declaration("input", declaration)
        for role, table in (
            ("parameter", program.parameters),
            ("buffer", program.buffers),
            ("draw", program.draws),
        ):
            for declaration in sorted(table, key=lambda each: each.leaf.name):
                self._declaration(role, declaration)
        for predicate in dict.fromkeys(require.predicate for require in program.requires):
            if predicate != Const(True):
                self.lines.append(f"require {self._number(predicate)}")
        for output in program.outputs:
            value = self._number(output.value)
            self.lines.append(f"output {json.dumps(output.name)} {self._items(output.items)} = {value}")
        for update in sorted(program.updates, key=lambda each: each.buffer.name):
            self.lines.append(f"update {json.dumps(update.buffer.name)} = {self._number(update.value)}")

    def _declaration(self, role: str, declaration: Declaration) -> None:
        items, leaf = self._items(declaration.items), self._number(declaration.leaf)
        flags = "?" if declaration.optional else ""
        if role == "parameter":
            flags += " trainable" if declaration.trainable else " frozen"
            flags += "".join(f" also {json.dumps(key)}" for key in sorted(declaration.also))
        self.lines.append(f"{role} {leaf} {items}{flags}")

    def _items(self, items: Iterable[Item]) -> str:
        parts: list[str] = []
        for item in items:
            names = [self._known_axis(axis) for axis in item]
            parts.append("1" if not names else names[0] if len(names) == 1 else f"({' '.join(names)})")
        return f"[{','.join(parts)}]"

    # --- numbering

    def _number(self, root: Form) -> str:
        """The form's number; it and everything below it get lines. Iterative: depth is no limit."""
        stack = [(root, self._visit(root))]
        while stack:
            form, visit = stack[-1]
            if form in self.forms:
                stack.pop()
                continue
            try:
                below = next(visit)
            except StopIteration as done:
                self._named(form, done.value)
                stack.pop()
                continue
            if below not in self.forms:
                stack.append((below, self._visit(below)))
        return self.forms[root]

    def _named(self, form: Form, line: str) -> None:
        """Constants and sizes are written where they stand; every other form has a line."""
        if isinstance(form, Const | Size | Coordinate):
            self.forms[form] = line
            return
        self.forms[form] = f"%{self.numbered}"
        self.numbered += 1
        self.lines.append(f"{self.forms[form]} = {line}")

    def _axis(self, axis: Axis) -> Visit:
        """The name of an axis: that of the signature, or `@` and a number."""
        if axis not in self.axes:
            if axis.serial == 0:
                self.axes[axis] = _signature_name(axis)
            elif axis.size is None:
                raise CompilerFault("canonical", f"the fresh axis `{axis.name}` has no size")
            else:
                low = axis.lo if axis.lo is not None else Const(0)
                yield low
                yield axis.size
                self.axes[axis] = f"@{len(self.axes)}"
                self.lines.append(f"{self.axes[axis]} = {self.forms[low]} {self.forms[axis.size]}")
        return self.axes[axis]

    def _known_axis(self, axis: Axis) -> str:
        """The same outside a visit."""
        visit = self._axis(axis)
        while True:
            try:
                self._number(next(visit))
            except StopIteration as done:
                return done.value

    def _axis_list(self, axes: Iterable[Axis]) -> Visit:
        names: list[str] = []
        for axis in axes:
            names.append((yield from self._axis(axis)))
        return f"[{','.join(names)}]"

    # --- the line of each form

    def _visit(self, form: Form) -> Visit:
        match form:
            case Const(value=value):
                return f"{form.kind}:{value!r}" if form.kind != "int" else repr(value)
            case Size(axis=axis):
                return f"size({(yield from self._axis(axis))})"
            case Coordinate(axis=axis):
                return f"index({(yield from self._axis(axis))})"
            case Leaf():
                return (yield from self._leaf(form))
            case Map(op=op, args=args):
                return (yield from self._all(f"map {op}", args))
            case When(predicate=p, value=x):
                return (yield from self._all("when", (p, x)))
            case Otherwise(value=x, fallback=y):
                return (yield from self._all("otherwise", (x, y)))
            case AsIf(value=x, surrogate=y):
                return (yield from self._all("as_if", (x, y)))
            case At(value=value, indices=indices):
                return (yield from self._at(value, indices))
            case Place(value=value, indices=indices, keep=keep):
                return (yield from self._place(value, indices, keep))
            case Reduce():
                return (yield from self._reduce(form))
            case _:
                return (yield from self._visit_special(form))

    def _visit_special(self, form: Form) -> Visit:
        match form:
            case Scan():
                return (yield from self._scan(form))
            case Library(op=op, args=args, over=over, new=new, result=result):
                head = yield from self._all(f"library {op} {result}", args)
                return f"{head} {(yield from self._axis_list(over))} -> {(yield from self._axis_list(new))}"
            case OnGradient(value=x, cotangent=g, rule=rule):
                return (yield from self._all("on_gradient", (x, g, rule)))
            case Jvp(value=y, at=xs, tangents=ts):
                pairs = (part for pair in zip(xs, ts, strict=True) for part in pair)
                return (yield from self._all("jvp", (y, *pairs)))
            case Vjp(value=y, at=x, cotangent=u):
                return (yield from self._all("vjp", (y, x, u)))
            case _:
                raise CompilerFault("canonical", f"{type(form).__name__} is no form that it knows")

    def _all(self, head: str, args: Iterable[Form]) -> Visit:
        forms = tuple(args)
        yield from forms
        return " ".join((head, *(self.forms[arg] for arg in forms)))

    def _leaf(self, leaf: Leaf) -> Visit:
        """A bound variable has no order of storage and no name of its own."""
        if leaf.role != "bound":
            over = yield from self._axis_list(leaf.over)
            among = f" of {(yield from self._axis(leaf.ranges_over))}" if leaf.ranges_over is not None else ""
            return f"{leaf.role} {json.dumps(leaf.name)} {over} {leaf.declared}{among}"
        names: list[str] = []
        for axis in leaf.over:
            names.append((yield from self._axis(axis)))
        return f"bound {{{','.join(sorted(names))}}} {leaf.declared}"

    def _at(self, value: Form, indices: Indices) -> Visit:
        yield value
        pairs = yield from self._indices(indices)
        return f"at {self.forms[value]} {pairs}"

    def _indices(self, indices: Indices) -> Visit:
        """The pairs in the order of their axes' names; axes that occur here first, as they come."""

        def place(pair: tuple[Axis, Form]) -> str:
            axis, _ = pair
            return self.axes.get(axis, "~") if axis.serial else _signature_name(axis)

        parts: list[str] = []
        for axis, index in sorted(indices, key=place):
            name = yield from self._axis(axis)
            yield index
            parts.append(f"{name}:{self.forms[index]}")
        return f"{{{','.join(parts)}}}"

    def _place(self, value: Form, indices: Indices, keep: tuple[Axis, ...]) -> Visit:
        yield value
        pairs = yield from self._indices(indices)
        kept: list[str] = []
        for axis in keep:
            kept.append((yield from self._axis(axis)))
        return f"place {self.forms[value]} {pairs} keep {{{','.join(sorted(kept))}}}"

    def _reduce(self, form: Reduce) -> Visit:
        parts: list[str] = []
        for piece in form.pieces:
            yield piece.value
            parts.append(f"{self.forms[piece.value]}{(yield from self._axis_list(piece.axes))}")
        return f"reduce {form.op} {' '.join(parts)} {form.component}"

    def _scan(self, form: Scan) -> Visit:
        axis = yield from self._axis(form.axis)
        parts: list[str] = []
        for carry in form.carries:
            yield from (carry.previous, carry.init, carry.step)
            parts.append(" ".join(self.forms[x] for x in (carry.previous, carry.init, carry.step)))
        until = ""
        if form.until is not None:
            yield form.until
            until = f" until {self.forms[form.until]}"
        flags = ("reverse " if form.reverse else "") + ("last " if form.last else "")
        return f"scan {flags}{axis} {form.component} ({'; '.join(parts)}){until}"


def _signature_name(axis: Axis) -> str:
    return axis.name if axis.name.isidentifier() or axis.name == "..." else json.dumps(axis.name)


def _sorted(fixed: Iterable[tuple[Axis, int]]) -> list[tuple[Axis, int]]:
    return sorted(fixed, key=lambda pair: pair[0].key)


set_canonical(canonical)
