"""Names: every name of a kernel made unique, and its identifier in the generated Python."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ...compiler.kernels.kernel import (
    Carry,
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
)

WORDS = frozenset(
    "tl triton INT EVEN DOT_BFLOAT16 DOT_FLOAT16 INTERPRETED NO_INTEGER tile first_tile".split()
)


@dataclass(slots=True)
class Identifiers:
    """Gives each wish an identifier of its own, none of Python's, Triton's or `taken`."""

    taken: set[str] = field(default_factory=lambda: {*WORDS, *keyword.kwlist, *dir(builtins)})

    def new(self, wish: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", wish)
        plain = plain if plain[:1].isalpha() else f"v_{plain}"
        name, count = plain, 1
        while name in self.taken:
            count += 1
            name = f"{plain}_{count}"
        self.taken.add(name)
        return name


def unique(kernel: Kernel) -> Kernel:
    """The same kernel, every value and every stream axis under a name that nothing else has.

    Two streams may run over axes of one name, and a body may reuse the names of an earlier one.
    """
    fixed = (*kernel.sizes, *(grid.name for grid in kernel.grid), *(local.name for local in kernel.locals))
    return replace(kernel, body=Renaming(set(fixed)).body(kernel.body, {}))


def entry_by_entry(
    before: tuple[Statement, ...], stream: Stream, used: set[str]
) -> tuple[tuple[Statement, ...], Stream]:
    """Statements, and a stream of chunks of one entry that reads what they give, all their names new."""
    axes = tuple(replace(axis, step=1) for axis in stream.axes)
    *again, made = Renaming(used).body((*before, replace(stream, axes=axes)), {})
    assert isinstance(made, Stream)
    return tuple(again), made


@dataclass(slots=True)
class Renaming:
    used: set[str]

    def body(self, statements: Iterable[Statement], names: dict[str, str]) -> tuple[Statement, ...]:
        """`names` maps what is in scope to what it is called now; new names are added to it."""
        return tuple(self._statement(statement, names) for statement in statements)

    def _fresh(self, name: str, names: dict[str, str]) -> str:
        new, count = name, 1
        while new in self.used:
            count += 1
            new = f"{name}_{count}"
        self.used.add(new)
        names[name] = new
        return new

    def _statement(self, statement: Statement, names: dict[str, str]) -> Statement:
        if isinstance(statement, Stream):
            return self._stream(statement, names)
        match statement:
            case Let(args=args):
                changed = replace(statement, args=tuple(read(x, names) for x in args))
            case Load(index=index, mask=mask):
                changed = replace(
                    statement, index=tuple(read(x, names) for x in index), mask=read(mask, names)
                )
            case Take(source=source, index=index):
                index = tuple(read(x, names) for x in index)
                changed = replace(statement, source=_name(source, names), index=index)
            case Dot(left=left, right=right, over=over, init=init, scale=scale, mask=mask, exposed=exposed):
                changed = replace(
                    statement,
                    left=_name(left, names),
                    right=_name(right, names),
                    over=tuple(_name(x, names) for x in over),
                    init=None if init is None else read(init, names),
                    scale=None if scale is None else read(scale, names),
                    mask=read(mask, names),
                    exposed=tuple(_name(x, names) for x in exposed),
                )
            case Fold(value=value, over=over, mask=mask):
                over = tuple(_name(x, names) for x in over)
                changed = replace(statement, value=read(value, names), over=over, mask=read(mask, names))
            case Store(index=index, value=value, mask=mask):
                index = tuple(read(x, names) for x in index)
                return replace(statement, index=index, value=read(value, names), mask=read(mask, names))
        axes = tuple(_name(x, names) for x in changed.axes)
        return replace(changed, name=self._fresh(changed.name, names), axes=axes)

    def _stream(self, stream: Stream, names: dict[str, str]) -> Stream:
        inside = dict(names)
        axes: list[StreamAxis] = []
        for axis in stream.axes:
            low, stop = read(axis.low, inside), read(axis.stop, inside)
            axes.append(StreamAxis(self._fresh(axis.name, inside), low, stop, axis.step))
        inits = [read(carry.init, names) for carry in stream.carries]
        for carry in stream.carries:
            inside[carry.name] = self._fresh(carry.name, names)
        body = self.body(stream.body, inside)
        carries = tuple(
            Carry(
                names[carry.name],
                init,
                read(carry.next, inside),
                tuple(_name(x, names) for x in carry.axes),
                carry.kind,
            )
            for carry, init in zip(stream.carries, inits, strict=True)
        )
        return Stream(tuple(axes), carries, body, read(stream.visible, inside))


def _name(name: str, names: dict[str, str]) -> str:
    return names.get(name, name)


def read(operand: Operand, names: dict[str, str]) -> Operand:
    """An operand under the names of now: `y.first` goes with `y`."""
    if not isinstance(operand, str):
        return operand
    if operand in names:
        return names[operand]
    stem, dot, part = operand.rpartition(".")
    return f"{names.get(stem, stem)}.{part}" if dot and part in ("first", "last", "valid") else operand
