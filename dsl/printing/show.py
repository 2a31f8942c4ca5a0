"""A program as text: the canonical printer. `parse` and `elaborate` read it back to an equal program.

What the author named keeps its name and is a statement of its own; so are scans, values used twice,
and parts of what would nest too deeply. Without names from the author, reductions are statements
too. Iterative over the program; an expression is as deep as a statement allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..constructors.initialisers import read_initialiser
from ..mistakes import InvalidArgument
from ..program import Axis, Const, Declaration, Form, Item, Leaf, Program, Size, set_printer
from ..words import CONSTANTS, axis_name, is_name, quoted
from .show_forms import Spelling
from .show_plan import Plan, declared_axes, fresh, own_axes
from .written import Known


def show(program: Program) -> str:
    """The program in the text spelling."""
    return _Printer(program).text()


@dataclass(slots=True)
class _Printer:
    program: Program
    plan: Plan = field(init=False)
    spelling: Spelling = field(init=False)
    lines: list[str] = field(default_factory=list[str])
    made: set[Axis] = field(default_factory=set[Axis])
    done: int = 0
    """How many forms of the plan's order have their statements."""

    def __post_init__(self) -> None:
        program, plan = self.program, Plan(self.program)
        self.plan = plan
        self.spelling = Spelling(
            values={**plan.tensors, **plan.lets},
            axes=plan.axes,
            both=frozenset({*plan.tensors.values(), *plan.lets.values()} & {*plan.axes.values()}),
            sugar=plan.sugar,
            fixed=dict(program.fixed),
            inits={leaf: value for leaf, (_, value) in plan.variables.items() if value is not None},
            together=plan.together,
            words=_words(program),
        )

    def text(self) -> str:
        header, plan, program = self._header(), self.plan, self.program
        places = {form: place for place, form in enumerate(plan.order)}
        if program.mode != "eval":
            self.lines.append(f"mode {program.mode}")
        self._extra_axes()
        for predicate in dict.fromkeys(require.predicate for require in program.requires):
            self._until(places[predicate])
            if predicate != Const(True):
                self._line(f"require {self.spelling.text(predicate)}", (predicate,))
        for word, table in (
            ("param", program.parameters),
            ("buffer", program.buffers),
            ("draw", program.draws),
        ):
            for declaration in table:
                self._until(places[declaration.leaf])
                self._declared(word, declaration)
        self._until(len(plan.order) - 1)
        self._outputs()
        for update in program.updates:
            name = self.spelling.named(plan.tensors[update.buffer])
            self._line(f"update {name} = {self.spelling.text(update.value)}", (update.value,))
        return "\n".join((header, *(f"  {line}" for line in self.lines)))

    # --- the header

    def _header(self) -> str:
        program, sized = self.program, set[Axis]()
        inputs = ", ".join(self._input(each, sized) for each in program.inputs)
        outputs = ", ".join(
            self._tensor(each.name, each.items, each.value.kind, None, sized) for each in program.outputs
        )
        statics = ", ".join(f"{_bare(name)} = {_static(value)}" for name, value in program.statics)
        inner = f"{inputs}; {statics}" if statics else inputs
        return f"mixer {_bare(program.name)}({inner}) -> {outputs}:"

    def _input(self, declaration: Declaration, sized: set[Axis]) -> str:
        leaf = declaration.leaf
        return self._tensor(
            leaf.name, declaration.items, leaf.kind, leaf.ranges_over, sized, declaration.optional
        )

    def _tensor(
        self, name: str, items: Iterable[Item], kind: str, index_of: Axis | None, sized: set[Axis] | None = None,
        optional: bool = False,
    ) -> str:  # fmt: skip
        """`x[b, (h w), z=3]?: int`; a fixed size stands where its axis occurs first in the header."""
        shown = [self._item(item, sized) for item in items]
        layout = f"[{', '.join(shown)}]" if shown else ""
        if index_of is not None:
            said = f": index {self.spelling.axis(index_of)}"
        else:
            said = "" if kind == "real" else f": {kind}"
        return f"{_bare(name)}{layout}{'?' if optional else ''}{said}"

    def _item(self, item: Item, sized: set[Axis] | None) -> str:
        if not item:
            return "1"
        parts: list[str] = []
        for axis in item:
            size = None if sized is None or axis in sized else self.spelling.fixed.get(axis)
            parts.append(self.spelling.axis(axis) + ("" if size is None else f"={size}"))
            if sized is not None:
                sized.add(axis)
        return parts[0] if len(parts) == 1 else f"({' '.join(parts)})"

    def _extra_axes(self) -> None:
        """Axes of the signature that the header does not mention."""
        program = self.program
        said = {axis for each in (*program.inputs, *program.outputs) for axis in declared_axes(each.items)}
        said |= {each.leaf.ranges_over for each in program.inputs if each.leaf.ranges_over is not None}
        said.update(axis for axis in self.plan.axes if axis.name == "...")
        parts: list[str] = []
        for axis in self.plan.axes:
            size = self.spelling.fixed.get(axis)
            indexed = axis in said and not any(
                axis in declared_axes(e.items) for e in (*program.inputs, *program.outputs)
            )
            if not fresh(axis) and (axis not in said or (indexed and size is not None)):
                parts.append(_bare(axis.name) + ("" if size is None else f"={size}"))
        if parts:
            self.lines.append(f"axis {', '.join(parts)}")

    # --- statements

    def _until(self, place: int) -> None:
        """The statements for the forms up to this place in the plan's order."""
        for form in self.plan.order[self.done : place + 1]:
            if form in self.plan.others:
                continue
            if form in self.plan.lets:
                target = ", ".join(map(self.spelling.named, self.plan.targets(form)))
                self._line(f"{target} = {self.spelling.spelled(form)}", (form,))
            elif isinstance(form, Leaf) and form.role == "bound":
                self._variable(form)
        self.done = max(self.done, place + 1)

    def _variable(self, leaf: Leaf) -> None:
        axis, value = self.plan.variables.get(leaf, (None, None))
        name = self.spelling.named(self.plan.tensors[leaf])
        said = "" if value is None else f" = {self.spelling.text(value)}"
        usual = value is not None and leaf.kind == value.kind
        kind = "" if usual else f": {leaf.kind}"
        if axis is None:
            over = "" if value is not None else f"[{self.spelling.listed(leaf.over)}]"
            self._line(f"cotangent {name}{over}{kind}{said}", (leaf, *(() if value is None else (value,))))
            return
        lanes = [each for each in leaf.over if each != axis]
        usual = value is not None and set(lanes) == set(value.axes)
        over = self.spelling.listed((axis,) if usual else (axis, *lanes))
        self._line(f"previous {name}[{over}]{kind}{said}", (leaf, *(() if value is None else (value,))))

    def _declared(self, word: str, declaration: Declaration) -> None:
        leaf = declaration.leaf
        name = self.plan.tensors[leaf]
        parts = [word, self._tensor(name, declaration.items, leaf.kind, leaf.ranges_over)]
        if leaf.name != name:
            parts.append(f"= {quoted(leaf.name)}")
        if declaration.init is not None:
            parts.append(f"{'from' if word == 'draw' else 'init'} {_initial(declaration.init)}")
        if word == "param" and not declaration.trainable:
            parts.append("frozen")
        if declaration.also:
            parts.append(f"also {', '.join(map(quoted, declaration.also))}")
        self._line(" ".join(parts), (leaf,))

    def _outputs(self) -> None:
        """Outputs that are no statement yet: a value of another name, a static argument's name."""
        statics = {name for name, _ in self.program.statics}
        for output in self.program.outputs:
            if self.plan.lets.get(output.value) == output.name:
                continue
            word = "output " if output.name in statics else ""
            self._line(
                f"{word}{self.spelling.named(output.name)} = {self.spelling.text(output.value)}",
                (output.value,),
            )
        axes = [axis for output in self.program.outputs for axis in declared_axes(output.items)]
        axes += [axis for each in self.program.inputs for axis in own_axes(each.leaf)]
        self.lines += self._ranges(axes)

    def _line(self, line: str, forms: Iterable[Form]) -> None:
        """A statement, and before it those that make its axes."""
        self.lines += self._ranges(self._mentioned(forms))
        self.lines.append(line)

    def _mentioned(self, forms: Iterable[Form]) -> Iterator[Axis]:
        """The axes in the expressions of the forms, down to what has statements of its own."""
        stack = list(forms)[::-1]
        first = set(stack)
        while stack:
            form = stack.pop()
            yield from self.plan.mentioned(form)
            for part in reversed(self.plan.parts(form)):
                apart = part in self.plan.lets or (isinstance(part, Leaf) and part.role == "bound")
                if part not in first and not apart:
                    stack.append(part)

    # --- axes

    def _ranges(self, axes: Iterable[Axis]) -> list[str]:
        """The statements that make the axes which are not made yet, and before them those that their
        ranges need. Axes of one range, side by side, share a statement."""
        lines: list[tuple[str, list[str], str]] = []
        stack = [axis for axis in axes if fresh(axis)][::-1]
        while stack:
            axis = stack[-1]
            needed = [other for other in self._needed(axis) if fresh(other) and other not in self.made]
            if axis in self.made or not needed:
                stack.pop()
                if axis not in self.made:
                    self.made.add(axis)
                    self._add(lines, axis)
            else:
                stack += needed
        return [f"{word} {', '.join(names)}: {rest}" for word, names, rest in lines]

    def _needed(self, axis: Axis) -> Iterator[Axis]:
        made = self.plan.range(axis)
        if made.of is not None:
            yield made.of
        yield from self._mentioned(form for form in made.forms if form not in self.plan.lets)

    def _add(self, lines: list[tuple[str, list[str], str]], axis: Axis) -> None:
        made, name = self.plan.range(axis), self.spelling.axis(axis)
        if made.of is not None:
            rest = self.spelling.axis(made.of)
        else:
            between = ", " if made.how == "span" else " from "
            rest = between.join(map(self.spelling.text, made.forms))
        if lines and (lines[-1][0], lines[-1][2]) == (made.how, rest):
            lines[-1][1].append(name)
        else:
            lines.append((made.how, [name], rest))


def _words(program: Program) -> dict[str, Known]:
    """What a constant may have been written with: static arguments, known sizes, pi."""
    found: dict[str, Known] = {"pi": _known("pi", math.pi)}
    taken = {*CONSTANTS, *(axis.name for axis, _ in program.fixed)}
    for name, value in program.statics:
        if not isinstance(value, str) and name not in taken:
            found[name] = _known(name, value)
    for axis, size in program.fixed:
        found[f"size({axis.name})"] = Known(Size(axis), Const(size))
    return found


def _known(name: str, value: bool | int | float | complex) -> Known:
    return Known(Const(value, written=name), Const(value))


def _bare(name: str) -> str:
    """A name where nothing but a name can stand."""
    return name if is_name(name) or axis_name(name) == name else quoted(name)


def _static(value: bool | int | float | complex | str) -> str:
    if isinstance(value, str):
        return quoted(value)
    empty = Spelling({}, {}, frozenset(), {}, {}, {}, (), {})
    return empty.spelled(Const(value))


def _initial(init: str) -> str:
    """An initial value as a module reads it; anything else in quotes."""
    try:
        read_initialiser(init)
    except InvalidArgument:
        return quoted(init)
    return init


set_printer(show)
