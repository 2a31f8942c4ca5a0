"""How much a launch has to do: what is too little to call other threads for runs on one (`launch.py`).

    extern "C" double NAME_effort(const long *numbers)

A count of scalar operations at the sizes of the launch, too large rather than too small: loads by scalars count as if
they were by lanes. Where the bounds of a stream follow the tile there is no count, and all threads are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod

from ...compiler.kernels.kernel import Dot, Fold, Kernel, Let, Operand, Statement, Stream

QUICK = frozenset(
    "add sub mul neg abs maximum minimum select eq ne lt le gt ge and or not xor real int bool".split()
)
"""Operations that take a vector about one instruction."""

SLOW = 16
"""What any other operation counts for."""

Term = tuple[int, tuple[str, ...]]
"""A number times run-time sizes."""


def effort(name: str, kernels: Sequence[tuple[Kernel, Callable[[str], str]]]) -> str:
    """The function that gives the operations of a launch of `kernels`, each with what its sizes are in C++."""
    terms: list[str] = []
    for kernel, size in kernels:
        found = operations(kernel)
        terms += ["FAR"] if found is None else [_product(count, map(size, names)) for count, names in found]
    head = f'extern "C" double {name}_effort(const long *numbers) {{'
    return "\n".join([head, "  (void)numbers;", f"  return {' + '.join(terms) or '0.0'};", "}", ""])


def _product(count: int, sizes: Iterable[str]) -> str:
    return " * ".join([f"{count}.0", *sizes])


def operations(kernel: Kernel) -> tuple[Term, ...] | None:
    """The operations of one kernel, those of like sizes together; None where a stream follows its tile."""
    found: dict[tuple[str, ...], int] = {}
    extents: dict[str, Operand] = {axis.name: axis.size for axis in kernel.grid}
    extents |= {axis.name: axis.size for axis in kernel.locals}
    for statement, streams in _statements(kernel.body, ()):
        for stream in streams:
            for axis in stream.axes:
                known = isinstance(axis.stop, int) or axis.stop in kernel.sizes
                if axis.low != 0 or not known:
                    return None
                extents[axis.name] = axis.stop
        loops = dict.fromkeys(axis.name for axis in kernel.grid)
        loops |= dict.fromkeys(axis.name for stream in streams for axis in stream.axes)
        loops |= dict.fromkeys(axis for axis in _axes(statement) if axis in extents)
        sizes = [extents[axis] for axis in loops]
        names = tuple(sorted(str(each) for each in sizes if not isinstance(each, int)))
        count = prod(each for each in sizes if isinstance(each, int))
        found[names] = found.get(names, 0) + count * _weight(statement)
    return tuple((count, names) for names, count in found.items())


def _axes(statement: Statement) -> tuple[str, ...]:
    match statement:
        case Dot(axes=axes, over=over) | Fold(axes=axes, over=over):
            return (*axes, *over)
        case Stream():
            return ()
        case _:
            return getattr(statement, "axes", ())


def _weight(statement: Statement) -> int:
    return SLOW if isinstance(statement, Let) and statement.op not in QUICK else 1


def _statements(
    body: tuple[Statement, ...], streams: tuple[Stream, ...]
) -> Iterator[tuple[Statement, tuple[Stream, ...]]]:
    """Every statement with the streams around it."""
    for statement in body:
        yield statement, streams
        if isinstance(statement, Stream):
            yield from _statements(statement.body, (*streams, statement))
