"""A Python function run once with index objects: from its results to a `Program`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType, FrameType
from typing import cast

from ..constructors import build_special
from ..constructors.arguments import Arguments, Request, Static
from ..constructors.outputs import fitting
from ..constructors.static import static
from ..errors import CompilerFault, Label, PlaitError, counted, raise_all
from ..mistakes import AxisSizeMismatch, InvalidHeader
from ..program import Axis, Const, Coordinate, Form, Item, Leaf, Output, Program, Scalar, Size
from ..shapes.size_forms import program_axes
from ..text.signature import OutputPlace, Signature
from .trace import Trace, current, here, tracing
from .value import AxisValue, Value, form_of


@dataclass(frozen=True, slots=True)
class Traced:
    """A function with what its header and its own signature say."""

    name: str
    function: Callable[..., object]
    signature: Signature
    arguments: Arguments
    doc: str

    @property
    def code(self) -> CodeType | None:
        plain = inspect.unwrap(self.function)
        return plain.__code__ if inspect.isfunction(plain) else None


def run(traced: Traced, request: Request) -> Program:
    """The program of one call of the function with a value for each input.

    All mistakes of the function are raised together. What Python raises by itself is raised as it
    is, unless a mistake went before it.
    """
    trace = Trace(traced.name, traced.code, request.mode, _fixed(traced.signature, request))
    outer = current()
    with tracing(trace):
        program = _traced(traced, request, trace)
    trace.frame = None
    if outer is not None:
        outer.lacking += trace.lacking
        outer.asks_mode |= trace.asks_mode
    # Where Python lacked a size the others are told first: they stay whatever the size.
    raise_all([each for each in trace.mistakes if each not in trace.lacking])
    if program is None:
        raise_all(trace.mistakes)
        raise CompilerFault("trace", f"`{traced.name}` gave neither a program nor a mistake")
    _check_sizes(program, traced, request, trace)
    return program


def _fixed(header: Signature, request: Request) -> dict[Axis, int]:
    """The sizes known in this run: the header's and those given, which must agree."""
    fixed = dict(header.fixed)
    for name, size in request.sizes:
        known = fixed.setdefault(Axis(name), size)
        if known != size:
            raise AxisSizeMismatch(
                f"axis `{name}` has two sizes, {known} and {size}", at=here(), label=f"{size}, given here",
                labels=[Label(header.span, f"{known}, from the header")],
            )  # fmt: skip
    return fixed


def _traced(traced: Traced, request: Request, trace: Trace) -> Program | None:
    """The program, or None where the mistakes of the trace say why there is none."""
    try:
        result = traced.function(*_inputs(traced, request), **_statics(request))
    except PlaitError as error:
        if error not in trace.mistakes:
            trace.mistakes.append(error)
        return None
    except Exception:
        if trace.mistakes:
            return None
        raise
    try:
        values = _named(result, traced.signature)
    except PlaitError as error:
        trace.mistakes.append(error)
        return None
    outputs = list(_outputs(traced.signature, values, trace))
    if trace.mistakes:
        return None
    return _program(traced, request, trace, outputs)


def _inputs(traced: Traced, request: Request) -> list[Value | None]:
    return [None if d.leaf.name in request.without else Value(d.leaf) for d in traced.signature.inputs]


def _statics(request: Request) -> dict[str, Static]:
    def spelled(name: str, value: Static) -> Static:
        return static(value, name) if request.spelled and not isinstance(value, str) else value

    return {name: spelled(name, value) for name, value in request.statics}


def _program(traced: Traced, request: Request, trace: Trace, outputs: Sequence[Output]) -> Program | None:
    header = traced.signature
    # An optional input that this program is made with is one that it needs.
    inputs = tuple(replace(d, optional=False) for d in header.inputs if d.leaf.name not in request.without)
    program = Program(
        traced.name,
        inputs,
        tuple(outputs),
        statics=_plain(request),
        fixed=tuple(trace.fixed.items()),
        names=tuple(_names(trace.frame, header, request)),
        parameters=tuple(trace.parameters.values()),
        buffers=tuple(trace.buffers.values()),
        draws=tuple(trace.draws.values()),
        updates=tuple(trace.updates.values()),
        requires=tuple(trace.requires),
        mode=request.mode,
        doc=traced.doc,
        span=header.span,
    )
    if any(isinstance(form, Leaf) and form.role == "bound" for form in program.forms):
        trace.mistakes.extend(map(build_special.escaped, build_special.unbound(program.roots)))
    return None if trace.mistakes else program


def _plain(request: Request) -> tuple[tuple[str, Scalar | str], ...]:
    """The static arguments as plain numbers."""

    def plain(value: Static) -> Static:
        match value:
            case bool() | str() | complex():
                return value
            case int():
                return int(value)
            case float():
                return float(value)

    return tuple((name, plain(value)) for name, value in request.statics)


def _names(frame: FrameType | None, header: Signature, request: Request) -> Iterator[tuple[str, Form]]:
    """The function's local names for values, as they stood at its return. Cosmetic."""
    taken = {d.leaf.name for d in header.inputs} | {name for name, _ in request.statics}
    taken |= {axis.name for axis in header.axes} | {output.name for output in header.outputs}
    for name, value in (frame.f_locals if frame else {}).items():
        if not isinstance(value, Value) or isinstance(value, AxisValue) or value.poisoned or name in taken:
            continue
        if not isinstance(value.form, Leaf | Const | Size | Coordinate):
            yield name, value.form


def _check_sizes(program: Program, traced: Traced, request: Request, trace: Trace) -> None:
    """Every size that was given is the size of something."""
    if not request.sizes:
        return
    axes = {*program_axes(_without_fixed(program)), *trace.asked, *traced.signature.axes}
    for name, _ in request.sizes:
        if Axis(name) not in axes:
            raise traced.arguments.unknown(name, here())


def _without_fixed(program: Program) -> Program:
    return Program(
        program.name, program.inputs, program.outputs, parameters=program.parameters, buffers=program.buffers,
        draws=program.draws, updates=program.updates, requires=program.requires,
    )  # fmt: skip


# --- results


def _named(result: object, header: Signature) -> Mapping[str, object]:
    """The results by output name: one value, a tuple in the header's order, or a dict."""
    expected = [place.name for place in header.outputs]
    if isinstance(result, Mapping):
        found = cast("Mapping[str, object]", result)
        if set(found) != set(expected):
            given = ", ".join(map(str, found)) or "none"
            raise _misreturned(f"the function returns {given}", header)
        return found
    several = cast("Sequence[object]", result) if isinstance(result, tuple | list) else (result,)
    if result is None or len(several) != len(expected):
        said = "nothing" if result is None else counted(len(several), "value")
        raise _misreturned(f"the function returns {said}", header)
    return dict(zip(expected, several, strict=True))


def _misreturned(said: str, header: Signature) -> InvalidHeader:
    listed = ", ".join(place.name for place in header.outputs)
    plural = "s" if len(header.outputs) > 1 else ""
    return InvalidHeader(
        f"{said}, and the header names the output{plural} {listed}", at=header.span, label="declared here",
        helps=["return one value, a tuple in the order of the header, or a dict by name"],
    )  # fmt: skip


def _outputs(header: Signature, values: Mapping[str, object], trace: Trace) -> Iterator[Output]:
    for place in header.outputs:
        value = values[place.name]
        if isinstance(value, Value) and value.poisoned:
            continue
        try:
            form = form_of(value, place.span)
            items = _resolved(place, form)
            yield Output(place.name, fitting(place, items, form), items, form.span or place.span)
        except PlaitError as error:
            trace.mistakes.append(error)


def _resolved(place: OutputPlace, value: Form) -> tuple[Item, ...]:
    """The layout, a name that the value lacks standing for its own fresh axis of that name."""

    def axis(named: Axis) -> Axis:
        if named in value.axes:
            return named
        match [other for other in value.axes if other.name == named.name]:
            case [own]:
                return own
            case _:
                return named

    return tuple(tuple(map(axis, item)) for item in place.items)
