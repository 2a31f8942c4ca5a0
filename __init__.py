"""plait: write a token mixer the way the paper writes it, and get the fused kernel.

The names below load when they are first asked for: `import plait` itself loads neither torch nor
triton, and does nothing else. tests/test_face.py holds the two lists together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# fmt: off
# isort: off
if TYPE_CHECKING:
    from .api import (
        Mixer as Mixer, aot as aot, compile as compile, load as load, mixer as mixer, parse as parse,
    )
    from .dsl.python.calculus import (
        as_if as as_if, fft as fft, ifft as ifft, irfft as irfft, jvp as jvp,
        on_gradient as on_gradient, rfft as rfft, solve as solve, sort_indices as sort_indices,
        stop as stop, topk_indices as topk_indices, vjp as vjp,
    )
    from .dsl.elaboration.declarations import (
        buffer as buffer, draw as draw, mode as mode, param as param, require as require,
        update as update,
    )
    from .dsl.python.domains import Union as Union, softmax as softmax, union as union
    from .dsl.errors import CompilerFault as CompilerFault, PlaitError as PlaitError
    from .dsl.python.functions import (
        axes as axes, axis as axis, cases as cases, cat as cat, cdiv as cdiv, clamp as clamp,
        flat as flat, lerp as lerp, merge as merge, near as near, place as place,
        present as present, reflect as reflect, select as select, smax as smax, smin as smin,
        span as span, split as split, trust as trust, when as when, zeros as zeros,
    )
    from .dsl.constructors.initialisers import (
        Initialiser as Initialiser, bernoulli as bernoulli, constant as constant, gumbel as gumbel,
        kaiming_normal as kaiming_normal, kaiming_uniform as kaiming_uniform, normal as normal,
        orthogonal as orthogonal, trunc_normal as trunc_normal, uniform as uniform,
        xavier_normal as xavier_normal, xavier_uniform as xavier_uniform,
    )
    from .dsl.python.layers import Layer as Layer, layer as layer, refuse as refuse
    from .dsl.python.pointwise import (
        ceil as ceil, conj as conj, cos as cos, cplx as cplx, erf as erf, exp as exp,
        expm1 as expm1, floor as floor, im as im, log as log, log1p as log1p, maximum as maximum,
        minimum as minimum, precise as precise, re as re, relu as relu, round_ as round_,
        sigmoid as sigmoid, sign as sign, sin as sin, sqrt as sqrt, tanh as tanh, to_int as to_int,
        to_real as to_real, trunc as trunc,
    )
    from .dsl.program import Program as Program
    from .dsl.python.recurrence import previous as previous, scan as scan
    from .dsl.python.value import AxisValue as AxisValue, Value as Value
# isort: on
# fmt: on

_NAMES = {
    "api": "Mixer aot compile load mixer parse",
    "dsl.python.calculus": "as_if fft ifft irfft jvp on_gradient rfft solve sort_indices stop topk_indices vjp",
    "dsl.elaboration.declarations": "buffer draw mode param require update",
    "dsl.python.domains": "Union softmax union",
    "dsl.errors": "CompilerFault PlaitError",
    "dsl.python.functions": (
        "axes axis cases cat cdiv clamp flat lerp merge near place present reflect select smax smin "
        "span split trust when zeros"
    ),
    "dsl.constructors.initialisers": (
        "Initialiser bernoulli constant gumbel kaiming_normal kaiming_uniform normal orthogonal "
        "trunc_normal uniform xavier_normal xavier_uniform"
    ),
    "dsl.python.layers": "Layer layer refuse",
    "dsl.python.pointwise": (
        "ceil conj cos cplx erf exp expm1 floor im log log1p maximum minimum precise re relu round_ "
        "sigmoid sign sin sqrt tanh to_int to_real trunc"
    ),
    "dsl.program": "Program",
    "dsl.python.recurrence": "previous scan",
    "dsl.python.value": "AxisValue Value",
}
"""Each module and the names that it gives to the face, as the type checker sees them above."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    # a package of its own, above the face: nothing here imports it before it is asked for
    if name == "stdlib":
        return import_module(".stdlib", __name__)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
