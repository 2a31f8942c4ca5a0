"""Programs drawn as text: a `Draft` is a mixer under construction, and layers add statements to it.

Every choice lists the simpler alternatives first, which is where hypothesis shrinks to. Values stay of
the size of one, so that a tolerance of float32 is a tolerance of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from hypothesis import strategies as st

from plait.dsl.elaboration.elaborate import elaborate
from plait.dsl.mistakes import AbsentOutput
from plait.dsl.program import BATCH, Axis, Program
from plait.dsl.proofs.check import check, check_sizes
from plait.dsl.shapes.size_forms import Sizes
from plait.dsl.text.parse import parse_text
from strategies import Draw, Example, with_tensors

T = TypeVar("T")

SMALL = (2, 1, 3, 4, 5, 7)
LONG = (2, 5, 1, 9, 17, 33, 65, 130)
"""Sizes of an axis; those of LONG are one more than a vector or a tile of common widths."""


@dataclass(frozen=True)
class Term:
    """A value by the name that its statement gives it."""

    name: str
    axes: tuple[str, ...]

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.axes if axis != "...")


class Draft:
    """A text of one mixer that grows: its axes with their sizes, its inputs, its statements."""

    def __init__(self, draw: Draw, room: int = 3000) -> None:
        self._draw = draw
        self.room = room
        """The most entries that a value may have."""
        self.sizes: dict[str, int] = {}
        self.batch: tuple[int, ...] | None = None
        self.signature: list[str] = []
        self.inputs: list[str] = []
        self.lines: list[str] = []
        self.outputs: dict[str, Term] = {}
        self._numbers: dict[str, int] = {}

    # --- drawing

    def pick(self, choices: Sequence[T]) -> T:
        return self._draw(st.sampled_from(choices))

    def chance(self, percent: int) -> bool:
        return self._draw(st.integers(0, 99)) >= 100 - percent

    def some(self, choices: Sequence[T], least: int = 1) -> tuple[T, ...]:
        if not choices or len(choices) < least:
            return tuple(choices)
        chosen = self._draw(st.sets(st.sampled_from(range(len(choices))), min_size=least))
        return tuple(choices[place] for place in sorted(chosen))

    def shuffled(self, choices: Iterable[T]) -> tuple[T, ...]:
        return tuple(self._draw(st.permutations(list(choices))))

    def fresh(self, stem: str) -> str:
        self._numbers[stem] = self._numbers.get(stem, 0) + 1
        return f"{stem}{self._numbers[stem]}"

    # --- axes

    def entries(self, axes: Iterable[str]) -> int:
        return prod(max(1, prod(self.batch or ())) if axis == "..." else self.sizes[axis] for axis in axes)

    def size(self, others: Iterable[str], choices: Sequence[int]) -> int:
        """One of the choices that leaves the box with the other axes small enough."""
        held = self.entries(others)
        return self.pick([each for each in choices if each * held <= self.room] or [1])

    def axis_of_signature(self, name: str, others: Iterable[str], choices: Sequence[int] = SMALL) -> str:
        self.sizes[name] = self.size(others, choices)
        self.signature.append(name)
        return name

    def begin(self, names: Sequence[str]) -> tuple[str, ...]:
        """Axes of the signature, one of them perhaps long, and perhaps `...`."""
        made: list[str] = []
        if self.chance(25):
            self.batch = tuple(self.pick([(2,), (), (1, 3), (3, 2), (0,)]))
            made.append("...")
        long = self.pick(names) if names else ""
        for name in names:
            made.append(self.axis_of_signature(name, made, LONG if name == long else SMALL))
        return tuple(made)

    def ranged(self, stem: str, text: str, size: int, how: str = "axis") -> str:
        """A fresh axis of a known size, declared."""
        name = self.fresh(stem)
        self.lines.append(f"{how} {name}: {text}")
        self.sizes[name] = size
        return name

    def like(self, axis: str) -> str:
        name = self.fresh(f"{axis}_")
        self.lines.append(f"like {name}: {axis}")
        self.sizes[name] = self.sizes[axis]
        return name

    # --- statements

    def input(self, axes: Sequence[str]) -> Term:
        name = self.fresh("x")
        self.inputs.append(f"{name}[{', '.join(self.shuffled(axes))}]")
        return Term(name, tuple(axes))

    def param(self, axes: Sequence[str]) -> Term:
        name = self.fresh("w")
        self.lines.append(f"param {name}[{', '.join(self.shuffled(axes))}]")
        return Term(name, tuple(axes))

    def let(self, text: str, axes: Iterable[str]) -> Term:
        name = self.fresh("v")
        self.lines.append(f"{name} = {text}")
        return Term(name, tuple(dict.fromkeys(axes)))

    # --- the end

    def text(self, outputs: Sequence[Term], layouts: Sequence[Sequence[str]], filled: bool) -> str:
        header = ", ".join(f"o{place}[{', '.join(layout)}]" for place, layout in enumerate(layouts))
        lines = [*self.lines]
        for place, output in enumerate(outputs):
            lines.append(f"o{place} = {output.name}{' otherwise 0' if filled else ''}")
        return f"mixer drawn({', '.join(self.inputs)}) -> {header}:\n" + "".join(
            f"  {each}\n" for each in lines
        )

    def known_sizes(self) -> Sizes:
        sizes: Sizes = {Axis(name): self.sizes[name] for name in self.signature}
        return sizes if self.batch is None else {**sizes, BATCH: self.batch}

    def example(self, *outputs: Term) -> Example:
        """The program of these outputs, filled with 0 where it would otherwise not be total."""
        layouts = [self.shuffled(each.axes) for each in outputs]
        program = read(self.text(outputs, layouts, filled=False))
        sizes = self.known_sizes()
        try:
            check(program)
            check_sizes(program, sizes)
        except AbsentOutput:
            program = read(self.text(outputs, layouts, filled=True))
        return self._draw(with_tensors(program, sizes))


def read(text: str) -> Program:
    (mixer,) = parse_text(text)
    return elaborate(mixer, {}, {})


Layer = Callable[[Draft, Term], Term]
