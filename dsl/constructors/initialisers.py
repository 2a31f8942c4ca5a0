"""How parameters begin, and what draws are drawn from: a name with numbers, data and no code.

A declaration holds the printed form (`trunc_normal(0.02)`); `read_initialiser` reads it back, so a
module is made from a program of either spelling alike. Standard names are those of `torch.nn.init`
and `torch.distributions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..mistakes import InvalidArgument

PARAMETERS: Mapping[str, tuple[tuple[str, float | None], ...]] = {
    "constant": (("value", None),),
    "normal": (("mean", 0.0), ("std", 1.0)),
    "uniform": (("low", 0.0), ("high", 1.0)),
    "trunc_normal": (("std", 1.0), ("mean", 0.0), ("low", -2.0), ("high", 2.0)),
    "xavier_uniform": (("gain", 1.0),),
    "xavier_normal": (("gain", 1.0),),
    "kaiming_uniform": (("slope", 0.0),),
    "kaiming_normal": (("slope", 0.0),),
    "orthogonal": (("gain", 1.0),),
    "bernoulli": (("p", None),),
    "gumbel": (("location", 0.0), ("scale", 1.0)),
}
"""Each name with its numbers in order and their defaults; None must be given."""

DISTRIBUTIONS = ("normal", "uniform", "bernoulli", "gumbel")
"""The names that a draw may have."""


@dataclass(frozen=True, slots=True)
class Initialiser:
    """A name of `PARAMETERS` with all its numbers."""

    name: str
    numbers: tuple[float, ...]

    def __str__(self) -> str:
        """As short as it can be written: defaults at the end are left out."""
        given = list(self.numbers)
        for number, (_, default) in reversed(list(zip(self.numbers, PARAMETERS[self.name], strict=True))):
            if default is None or number != default:
                break
            given.pop()
        if self.name == "constant":
            return f"{given[0]:g}" if float(f"{given[0]:g}") == given[0] else repr(given[0])
        return f"{self.name}({', '.join(repr(number) for number in given)})"


def initialiser(name: str, *numbers: float) -> Initialiser:
    """The initialiser of this name; the numbers left out take their defaults.

    Raises InvalidArgument for an unknown name or a wrong number of numbers.
    """
    expected = PARAMETERS.get(name)
    if expected is None:
        raise InvalidArgument(
            f"there is no initialiser `{name}`", notes=[f"there are {', '.join(PARAMETERS)}"]
        )
    defaults = [default for _, default in expected[len(numbers) :]]
    if len(numbers) > len(expected) or None in defaults:
        takes = ", ".join(parameter for parameter, _ in expected)
        raise InvalidArgument(f"`{name}` takes {takes}, and found {len(numbers)} numbers")
    filled = (*numbers, *(default for default in defaults if default is not None))
    return Initialiser(name, tuple(float(number) for number in filled))


def read_initialiser(text: str) -> Initialiser:
    """The initialiser that `str` printed: `trunc_normal(0.02)`, or a number for a constant.

    Raises InvalidArgument for anything else.
    """
    call = re.fullmatch(r"\s*([a-z_]+)\s*\(([^()]*)\)\s*", text)
    try:
        if call is None:
            return initialiser("constant", float(text))
        words = [word for word in call[2].split(",") if word.strip()]
        return initialiser(call[1], *(float(word) for word in words))
    except ValueError as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            f"`{text}` is no initialiser", helps=["write a number, or a call such as `trunc_normal(0.02)`"]
        ) from None


def constant(value: float) -> Initialiser:
    """Every entry is `value`; a plain number says the same."""
    return initialiser("constant", value)


def normal(mean: float = 0.0, std: float = 1.0) -> Initialiser:
    """Normally distributed."""
    return initialiser("normal", mean, std)


def uniform(low: float = 0.0, high: float = 1.0) -> Initialiser:
    """Uniform between `low` and `high`."""
    return initialiser("uniform", low, high)


def trunc_normal(std: float = 1.0, mean: float = 0.0, low: float = -2.0, high: float = 2.0) -> Initialiser:
    """Normally distributed, drawn again outside `low` .. `high`."""
    return initialiser("trunc_normal", std, mean, low, high)


def xavier_uniform(gain: float = 1.0) -> Initialiser:
    """Uniform with variance `gain**2 * 2 / (fan_in + fan_out)`."""
    return initialiser("xavier_uniform", gain)


def xavier_normal(gain: float = 1.0) -> Initialiser:
    """Normal with variance `gain**2 * 2 / (fan_in + fan_out)`."""
    return initialiser("xavier_normal", gain)


def kaiming_uniform(slope: float = 0.0) -> Initialiser:
    """Uniform with variance `2 / ((1 + slope**2) * fan_in)`; PyTorch's layers use `slope=5**0.5`."""
    return initialiser("kaiming_uniform", slope)


def kaiming_normal(slope: float = 0.0) -> Initialiser:
    """Normal with variance `2 / ((1 + slope**2) * fan_in)`."""
    return initialiser("kaiming_normal", slope)


def orthogonal(gain: float = 1.0) -> Initialiser:
    """A (semi-)orthogonal matrix of the flattened weight, times `gain`."""
    return initialiser("orthogonal", gain)


def bernoulli(p: float) -> Initialiser:
    """1 with probability `p`, else 0: for draws."""
    return initialiser("bernoulli", p)


def gumbel(location: float = 0.0, scale: float = 1.0) -> Initialiser:
    """The Gumbel distribution: for draws."""
    return initialiser("gumbel", location, scale)
