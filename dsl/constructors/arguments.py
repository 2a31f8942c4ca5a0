"""The static arguments of a mixer, and what one `program(...)` asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import PlaitError
from ..mistakes import InvalidArgument, InvalidSize, UnknownArgument
from ..program import Axis, Scalar
from ..source import Span
from .static import StaticFloat, StaticInt

Static = Scalar | str
MODES = ("eval", "train")

KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "": (int, float, bool, str),
}
"""What an annotation takes; no annotation takes every static."""


@dataclass(frozen=True, slots=True)
class StaticParameter:
    """One static argument: `kind` is its annotation (one of `KINDS`), `choices` those of a Literal."""

    name: str
    kind: str = ""
    default: Static | None = None
    choices: tuple[Static, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is None

    @property
    def shown(self) -> str:
        """`radius: int = 8`, as a message lists it."""
        kind = f": {self.kind}" if self.kind else ""
        return f"{self.name}{kind}" + ("" if self.default is None else f" = {self.default!r}")

    def checked(self, value: object, mixer: str, span: Span | None) -> Static:
        """The value as the annotation has it; raises InvalidArgument for another kind or choice."""
        taken = isinstance(value, KINDS[self.kind]) and (
            self.kind in ("", "bool") or not isinstance(value, bool)
        )
        if not taken or not isinstance(value, bool | int | float | str):
            wanted = {"int": "an int", "float": "a float", "bool": "a bool", "str": "a string"}
            raise InvalidArgument(
                f"`{self.name}` of `{mixer}` is {wanted.get(self.kind, 'a bool, an int, a float or a string')}, "
                f"and found {type(value).__name__} {value!r}", at=span, label="here",
            )  # fmt: skip
        if self.choices and value not in self.choices:
            listed = ", ".join(repr(choice) for choice in self.choices)
            raise InvalidArgument(
                f"`{self.name}` of `{mixer}` is one of {listed}, and found {value!r}", at=span, label="here"
            )
        if self.kind == "float" and isinstance(value, int):
            return float(value)
        return value


@dataclass(frozen=True, slots=True)
class Request:
    """What a program is made for: static arguments, known sizes, mode, optional inputs left out.

    `spelled`: static numbers print by their names. Inside another mixer they cannot.
    """

    statics: tuple[tuple[str, Static], ...]
    sizes: tuple[tuple[str, int], ...] = ()
    mode: str = "eval"
    without: tuple[str, ...] = ()
    spelled: bool = True

    @property
    def key(self) -> tuple[object, ...]:
        """What tells two requests apart: 1, 1.0 and True are different, and so are spellings."""
        statics = tuple((name, type(value).__name__, value, _written(value)) for name, value in self.statics)
        return (statics, self.sizes, self.mode, self.without, self.spelled)


def _written(value: Static) -> str:
    return value.written if isinstance(value, StaticInt | StaticFloat) else ""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a mixer takes beside its inputs."""

    mixer: str
    statics: tuple[StaticParameter, ...]
    axes: tuple[Axis, ...]
    optional: tuple[str, ...]

    def request(
        self, given: Mapping[str, object], mode: str, without: Iterable[str], span: Span | None,
        spelled: bool = True,
    ) -> Request:  # fmt: skip
        """The request for keyword arguments that are static arguments or sizes of axes.

        A whole number under a name that the header lacks is taken for the size of an axis of the
        body; whoever makes the program raises `unknown` where there is none. Raises
        UnknownArgument, InvalidArgument or InvalidSize.
        """
        known = {static.name for static in self.statics}
        axes = {axis.name for axis in self.axes}
        for name, value in given.items():
            if name not in known and name not in axes and not isinstance(value, int):
                raise self.unknown(name, span)
        if mode not in MODES:
            raise InvalidArgument(f'the mode is "eval" or "train", and found {mode!r}', at=span, label="here")
        return Request(
            tuple(self._static(static, given, span) for static in self.statics),
            tuple((name, self._size(name, given[name], span)) for name in sorted(given) if name not in known),
            mode,
            tuple(self._left_out(name, span) for name in without),
            spelled,
        )

    def _static(
        self, static: StaticParameter, given: Mapping[str, object], span: Span | None
    ) -> tuple[str, Static]:
        value = given.get(static.name, static.default)
        if value is None:
            raise UnknownArgument(
                f"`{self.mixer}` needs the static argument `{static.name}`", at=span, label="not given",
                notes=self._notes(), helps=[f"give it by name: `{static.name}=...`"],
            )  # fmt: skip
        return static.name, static.checked(value, self.mixer, span)

    def _size(self, name: str, value: object, span: Span | None) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidSize(
                f"the size of axis `{name}` is a whole number, and found {value!r}", at=span, label="here"
            )
        if value < 1:
            raise InvalidSize(
                f"axis `{name}` would have size {value}; a size is at least 1", at=span, label="here"
            )
        return int(value)

    def _left_out(self, name: str, span: Span | None) -> str:
        if name not in self.optional:
            raise UnknownArgument(
                f"`{self.mixer}` has no optional input `{name}` to be made without", at=span, label="here",
                notes=[f"optional inputs: {', '.join(self.optional) or 'none'}"],
            )  # fmt: skip
        return name

    def unknown(self, name: str, span: Span | None) -> PlaitError:
        """The mistake of an argument that is neither static nor the size of an axis."""
        names = [*(static.name for static in self.statics), *(axis.name for axis in self.axes)]
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        return UnknownArgument(
            f"`{self.mixer}` has no argument `{name}`", at=span, label="here", notes=self._notes(),
            helps=[f"did you mean `{near[0]}`?"] if near else [],
        )  # fmt: skip

    def _notes(self) -> list[str]:
        statics = ", ".join(static.shown for static in self.statics) or "none"
        sizes = ", ".join(axis.name for axis in self.axes) or "none"
        return [f"static arguments: {statics}", f"axes whose size may be given: {sizes}"]
