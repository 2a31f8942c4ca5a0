"""Runs of lane statements as nests of row loops: what stands in one loop, and what is read from where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ...compiler.kernels.kernel import Statement

Rows = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A statement of the run: the row axes that it repeats over, outermost first; how many of them its
    result has (a fold's result has fewer); what it reads, deferred values followed to their ends."""

    statement: Statement
    name: str
    loops: Rows
    kept: int
    reads: frozenset[str]

    @property
    def folds(self) -> bool:
        return self.kept < len(self.loops)


@dataclass(slots=True, eq=False)
class Nest:
    """A loop over `axis` (the run as a whole has none). `folds` are the folds that end with it: they
    start before it and are values after it."""

    axis: str | None
    parent: Nest | None
    items: list[Member | Nest] = field(default_factory=list["Member | Nest"])
    folds: list[Member] = field(default_factory=list[Member])

    def path(self) -> list[Nest]:
        """The loops around the inside of this one, outermost (the run) first."""
        return [*self.parent.path(), self] if self.parent is not None else [self]

    def members(self) -> Iterator[Member]:
        for item in self.items:
            if isinstance(item, Member):
                yield item
            else:
                yield from item.members()

    def run_of(self, member: Member) -> list[Member]:
        """The statements side by side with one of this loop's own, without a loop between."""
        run: list[Member] = []
        for item in self.items:
            if isinstance(item, Member):
                run.append(item)
            elif member in run:
                break
            else:
                run = []
        return run


def nest(members: Sequence[Member]) -> Nest:
    """The statements in their order, each in the loops that are open as far as they are its own and
    do not compute what it reads."""
    root = here = Nest(None, None)
    folding: dict[str, Nest] = {}
    for member in members:
        path, depth = here.path(), 1
        while (
            depth < len(path)
            and depth <= len(member.loops)
            and path[depth].axis == member.loops[depth - 1]
            and not any(folding.get(name) is path[depth] for name in member.reads)
        ):
            depth += 1
        here = path[depth - 1]
        for axis in member.loops[depth - 1 :]:
            inner = Nest(axis, here)
            here.items.append(inner)
            here = inner
        if member.folds:
            first = here.path()[member.kept + 1]
            first.folds.append(member)
            folding[member.name] = first
        here.items.append(member)
    return root


def homes(root: Nest) -> dict[str, Nest]:
    """The loop in which each name of the run has its value."""
    found: dict[str, Nest] = {}

    def visit(here: Nest) -> None:
        for item in here.items:
            if isinstance(item, Nest):
                for fold in item.folds:
                    found[fold.name] = here
                visit(item)
            elif not item.folds:
                found[item.name] = here

    visit(root)
    return found


def ordered(
    members: Sequence[Member], rows_of: Callable[[str], Rows], follow: Callable[[str], Sequence[str]]
) -> list[Member]:
    """The same statements, those that compute entry by entry with their loops in the order of their
    last reader's, so that both can stand in one nest. `follow` gives what reading a name reads."""
    wish: dict[str, Rows] = {}
    result: list[Member] = []
    for member in reversed(members):
        loops = member.loops
        if loops and not member.folds and set(wish.get(member.name, ())) == set(loops):
            loops = wish[member.name]
            member = Member(member.statement, member.name, loops, member.kept, member.reads)
        for name in member.reads:
            for each in (name, *follow(name)):
                wish.setdefault(each, tuple(axis for axis in loops if axis in rows_of(each)))
        result.append(member)
    return result[::-1]
