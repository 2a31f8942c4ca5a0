"""The trace: what a Python function says while it is run once with index objects.

A trace collects the declarations, requirements and updates of the program, and every mistake: an
operation that fails is noted here and gives a poisoned value, so that one run of the function
shows all of its mistakes together. Outside a trace a mistake is raised where it is made.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from types import CodeType, FrameType
from typing import Literal

from ..errors import Label, PlaitError, raise_all
from ..mistakes import DuplicateParameter, InvalidArgument
from ..position import span_of, user_frame
from ..program import Axis, Declaration, Require, Update
from ..source import Span

Table = Literal["parameters", "buffers", "draws"]


class Sharing:
    """The identity of one `layer.once(...)`: its later calls get the tensors of its first."""


@dataclass(slots=True)
class Trace:
    """One run of one function. `fixed` are the axes whose sizes are known numbers in this run."""

    name: str
    code: CodeType | None = None
    mode: str = "eval"
    fixed: dict[Axis, int] = field(default_factory=dict[Axis, int])
    asks_mode: bool = False
    """Whether the body depends on the mode, itself or in a mixer that it calls."""
    asked: set[Axis] = field(default_factory=set[Axis])
    """The axes of `fixed` whose number Python has used."""
    parameters: dict[str, Declaration] = field(default_factory=dict[str, Declaration])
    buffers: dict[str, Declaration] = field(default_factory=dict[str, Declaration])
    draws: dict[str, Declaration] = field(default_factory=dict[str, Declaration])
    updates: dict[str, Update] = field(default_factory=dict[str, Update])
    requires: list[Require] = field(default_factory=list[Require])
    mistakes: list[PlaitError] = field(default_factory=list[PlaitError])
    lacking: list[PlaitError] = field(default_factory=list[PlaitError])
    """Where Python asked for a number that only the call knows (`if h.size < 3`)."""
    prefix: str = ""
    sharing: Sharing | None = None
    owners: dict[str, Sharing] = field(default_factory=dict[str, Sharing])
    frame: FrameType | None = None
    bound: dict[str, int] = field(default_factory=dict[str, int])

    def bound_name(self, name: str) -> str:
        """A name for a bound variable that no other of this trace has."""
        used = self.bound[name] = self.bound.get(name, -1) + 1
        return f"{name}_{used}" if used else name

    def key(self, key: str) -> str:
        """The full key of a parameter that the current layer calls `key`."""
        return self.prefix + key

    def known(self, key: str) -> Declaration | None:
        """The declaration of a full key, if there is one."""
        return self.parameters.get(key) or self.buffers.get(key) or self.draws.get(key)

    def require(self, made: Require | None) -> None:
        """Note a requirement once; None is one that always holds."""
        if made is not None and all(made.predicate != known.predicate for known in self.requires):
            self.requires.append(made)

    def declare(self, table: Table, declaration: Declaration) -> None:
        """Add a tensor under its full key and its other keys, which nothing else may have."""
        for key in (declaration.leaf.name, *declaration.also):
            earlier = self.known(key) or self._alias(key)
            if earlier is not None:
                raise _declared_twice(key, declaration, earlier)
        if self.sharing is not None:
            self.owners[declaration.leaf.name] = self.sharing
        self._table(table)[declaration.leaf.name] = declaration

    def _alias(self, key: str) -> Declaration | None:
        every = (*self.parameters.values(), *self.buffers.values())
        return next((declaration for declaration in every if key in declaration.also), None)

    def _table(self, table: Table) -> dict[str, Declaration]:
        match table:
            case "parameters":
                return self.parameters
            case "buffers":
                return self.buffers
            case "draws":
                return self.draws


def _declared_twice(key: str, later: Declaration, earlier: Declaration) -> DuplicateParameter:
    return DuplicateParameter(
        f"`{key}` is declared twice", at=later.span, label="declared again here",
        labels=[Label(earlier.span, "first declared here")] if earlier.span and earlier.span != later.span else [],
        helps=["give each layer another `name=`, or share one with `f = layer.once(name=...)`"],
    )  # fmt: skip


_current: ContextVar[Trace | None] = ContextVar("plait_trace", default=None)
_loose = count()


def current() -> Trace | None:
    """The trace under way, or None outside a mixer's body."""
    return _current.get()


def needed(who: str) -> Trace:
    """The trace under way; `who` has no meaning without one.

    Raises InvalidArgument outside a mixer's body.
    """
    trace = _current.get()
    if trace is None:
        raise InvalidArgument(
            f"`{who}` belongs in the body of a mixer, and none is being traced", at=here(), label="here",
            helps=["call it in a function under `@mixer(...)`, or in a layer that such a function calls"],
        )  # fmt: skip
    return trace


def here() -> Span | None:
    """The user's expression that is being evaluated now."""
    frame = user_frame()
    trace = _current.get()
    if trace is not None and trace.frame is None and trace.code is not None:
        trace.frame = _frame_of(trace.code, frame)
    return span_of(frame)


def _frame_of(code: CodeType, frame: FrameType | None) -> FrameType | None:
    """The frame that runs `code`. Held until the function has returned, it still has its locals."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame


def report(error: PlaitError) -> None:
    """Note the mistake in the trace under way; outside one, raise it."""
    trace = _current.get()
    if trace is None:
        raise error
    trace.mistakes.append(error)


def stop_tracing() -> None:
    """A poisoned value was used where Python needs an answer: say what poisoned it."""
    trace = _current.get()
    if trace is not None:
        raise_all(trace.mistakes)


def bound_name(name: str) -> str:
    """A name for a bound variable, unlike all others of the program."""
    trace = _current.get()
    return trace.bound_name(name) if trace else f"{name}_{next(_loose)}"


@contextmanager
def tracing(trace: Trace) -> Generator[Trace]:
    """Make `trace` the current one."""
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


@contextmanager
def scope(trace: Trace, name: str, sharing: Sharing | None = None) -> Generator[None]:
    """Within it, keys are prefixed with `name.`; the empty name adds nothing."""
    before = trace.prefix, trace.sharing
    trace.prefix = f"{trace.prefix}{name}." if name else trace.prefix
    trace.sharing = sharing or trace.sharing
    try:
        yield
    finally:
        trace.prefix, trace.sharing = before
