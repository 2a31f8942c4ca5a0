"""Mixers: programs with names. The decorator makes one of a function, `Mixer.parse` of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from types import EllipsisType
from typing import Any, Self, cast, overload

from .. import canonical  # noqa: F401  # pyright: ignore[reportUnusedImport]  (how programs compare and print)
from ..constructors.arguments import Request
from ..errors import PlaitError, counted
from ..mistakes import InvalidArgument, UnknownArgument
from ..printing import show  # noqa: F401  # pyright: ignore[reportUnusedImport]  (how programs compare and print)
from ..program import BATCH, Axis, Form, Program
from ..proofs.check import check
from ..python.definitions import Definition, python_definition
from ..python.trace import Trace, current, here, needed, report, tracing
from ..python.value import POISON, AxisValue, Over, Value, axes_in, form_of, known_size
from ..text.header import Header
from .compose import bind, compose

Function = Callable[..., object]
MOST_PROGRAMS = 256
"""How many programs of one mixer are kept."""


class Mixer:
    """A program that is still to be told its static arguments and sizes.

    Called on values it becomes part of the program that is being traced. A subclass of the face
    overrides `on_tensors` and so runs; the class that decorates is the class that is made.
    """

    __name__: str
    __wrapped__: Function

    def __init__(self, definition: Definition, properties: Sequence[object] = ()) -> None:
        self.definition = definition
        self._programs: dict[tuple[object, ...], Program] = {}
        self._asks_mode = False
        self.properties = tuple(properties)
        self.siblings: Mapping[str, Mixer] = {}
        self.deployed: Function | None = None
        self.__doc__ = definition.doc

    # --- making

    @overload
    @classmethod
    def decorate(
        cls, header: str | None = None, *, properties: Sequence[object] = ()
    ) -> Callable[[Function], Self]: ...
    @overload
    @classmethod
    def decorate(cls, header: Function) -> Self: ...
    @classmethod
    def decorate(
        cls, header: str | Function | None = None, *, properties: Sequence[object] = ()
    ) -> Self | Callable[[Function], Self]:
        """`@mixer("x[..., c] -> o[..., c]")`, or `@mixer` on a function with annotated layouts.

        Where every static argument has a default the function is traced at once, so that its
        mistakes show at its definition. Raises whatever is wrong with it, all together.
        """
        span = here()

        def made(function: Function) -> Self:
            text = header if isinstance(header, str) else None
            mixer = cls(python_definition(function, text, span), properties)
            update_wrapper(cast("Function", mixer), function)
            mixer.check_defaults()
            return mixer

        return made(header) if callable(header) else made

    def check_defaults(self) -> None:
        """Make the program if its static arguments have defaults, and raise what is wrong with it:
        in both modes if it asks for the mode, with and without its optional inputs.

        A function that asks Python for a number which only the call knows is left until then.
        """
        arguments = self.definition.arguments
        if any(static.required for static in arguments.statics):
            return
        self._check("eval", ())
        if self._asks_mode:
            self._check("train", ())
        if arguments.optional:
            self._check("eval", arguments.optional)

    def _check(self, mode: str, without: Sequence[str]) -> None:
        probe = Trace(self.name)
        with tracing(probe):
            try:
                self.program(mode=mode, without=without)
            except PlaitError as error:
                if error not in probe.lacking:
                    raise

    def deploy(self, function: Function) -> Function:
        """Register the deploy form: a function from parameters and buffers to the deployed mixer's."""
        self.deployed = function
        return function

    # --- facts

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def header(self) -> Header:
        return self.definition.header

    @property
    def doc(self) -> str:
        return self.definition.doc

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(declaration.leaf.name for declaration in self.definition.signature.inputs)

    def __repr__(self) -> str:
        statics = ", ".join(static.shown for static in self.definition.arguments.statics)
        inner = ", ".join(self.inputs) + (f"; {statics}" if statics else "")
        outputs = ", ".join(place.name for place in self.definition.signature.outputs)
        return f"<mixer {self.name}({inner}) -> {outputs}>"

    # --- the program

    def program(
        self, *, mode: str = "eval", without: Sequence[str] = (), **statics_and_sizes: object
    ) -> Program:
        """The program for static arguments, for sizes that are to be numbers, and for a mode.

        `without` are optional inputs that are left out. Raises UnknownArgument, InvalidArgument,
        InvalidSize, and every mistake of the definition, as `dsl.proofs.check` finds them.
        """
        arguments = self.definition.arguments
        return self._made(arguments.request(statics_and_sizes, mode, without, here()))

    def _made(self, request: Request) -> Program:
        known = self._programs.get(request.key)
        if known is None:
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.clear()
            known = self._traced(request)
            if request.spelled:
                check(known, sized=False)
            self._programs[request.key] = known
        return known

    def _traced(self, request: Request) -> Program:
        outer, probe = current(), Trace(self.name)
        try:
            with tracing(probe):
                return self.definition.make(request)
        finally:
            self._asks_mode |= probe.asks_mode
            if outer is not None:
                outer.lacking += probe.lacking

    # --- calls

    def __call__(
        self, *inputs: object, name: str = "",
        axes: Mapping[AxisValue | EllipsisType, Over] | None = None, **given: object,
    ) -> Any:  # fmt: skip
        """On values: the result as values, one or a tuple in the header's order (hence `Any`)."""
        named = self._named(inputs, given)
        if not any(isinstance(value, Value) for value in named.values()):
            return self.on_tensors(named, given)
        trace = needed(self.name)
        count = len(self.definition.signature.outputs)
        results: Sequence[Value] = [POISON] * count
        if not any(isinstance(value, Value) and value.poisoned for value in named.values()):
            try:
                results = [Value(form) for form in self._composed(named, name, axes or {}, given, trace)]
            except PlaitError as error:
                report(error)
        return results[0] if count == 1 else tuple(results)

    def on_tensors(self, inputs: Mapping[str, object], given: Mapping[str, object]) -> object:
        """A call without values. The language alone runs nothing; the face overrides this."""
        found = ", ".join(type(value).__name__ for value in inputs.values()) or "no inputs"
        raise InvalidArgument(
            f"`{self.name}` is called on {found}, and this class of mixers takes values only",
            at=here(),
            label="here",
        )

    def _named(self, inputs: Sequence[object], given: dict[str, object]) -> dict[str, object]:
        """The inputs by name, taken out of `given` where they are there; None stands for left out."""
        span = here()
        if len(inputs) > len(self.inputs):
            raise UnknownArgument(
                f"`{self.name}` takes {counted(len(self.inputs), 'input')}, and found {len(inputs)}",
                at=span, label="here", notes=[f"inputs: {', '.join(self.inputs) or 'none'}"],
            )  # fmt: skip
        named = dict(zip(self.inputs, inputs, strict=False))
        for name in [name for name in given if name in self.inputs]:
            if name in named:
                raise UnknownArgument(f"`{self.name}` is given `{name}` twice", at=span, label="here")
            named[name] = given.pop(name)
        found = {name: value for name, value in named.items() if value is not None}
        optional = self.definition.arguments.optional
        missing = [name for name in self.inputs if name not in found and name not in optional]
        if missing:
            raise UnknownArgument(
                f"`{self.name}` needs the input `{missing[0]}`", at=span, label="not given",
                notes=[f"inputs: {', '.join(self.inputs)}"],
            )  # fmt: skip
        return found

    def _composed(
        self, named: Mapping[str, object], name: str, axes: Mapping[AxisValue | EllipsisType, Over],
        given: Mapping[str, object], trace: Trace,
    ) -> tuple[Form, ...]:  # fmt: skip
        span, header = here(), self.definition.signature
        forms = {key: form_of(value, span) for key, value in named.items()}
        binding = bind(self.name, header, forms, _core_axes(axes), span)
        sizes = _known_sizes(binding.axes)
        without = [key for key in self.definition.arguments.optional if key not in forms]
        request = self.definition.arguments.request(
            {**sizes, **given}, trace.mode, without, span, spelled=False
        )
        program = self._made(request)
        trace.asks_mode |= self._asks_mode
        return compose(program, header, binding, name, trace, self.definition.spells_by_caller, span)


def _core_axes(axes: Mapping[AxisValue | EllipsisType, Over]) -> dict[Axis, tuple[Axis, ...]]:
    """`{h: y, ...: (b, t)}` in core terms."""
    found: dict[Axis, tuple[Axis, ...]] = {}
    for formal, over in axes.items():
        key, image = axes_in((formal,)), axes_in((over,))
        if key is None or image is None:
            raise InvalidArgument(
                "`axes` maps axes of the called mixer to axes of here", at=here(), label="here"
            )
        found[key[0]] = image
    return found


def _known_sizes(axes: Mapping[Axis, Axis]) -> dict[str, int]:
    """The sizes that are numbers in the caller: they are numbers in the callee too."""
    known = {formal.name: known_size(image) for formal, image in axes.items() if formal != BATCH}
    return {name: int(size) for name, size in known.items() if isinstance(size, int)}


mixer = Mixer.decorate
