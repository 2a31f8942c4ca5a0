"""The dtypes of a call: what its tensors are stored in, what it computes in, what it gives.

Tensors may be float64, float32, bfloat16 and float16. Kernels compute in float64 where they are float64
and in float32 elsewhere: a load widens, a store rounds to nearest even, and what lies between two kernels
is of the type that is computed in. Float64 mixes with no other. The results have the dtype that torch
promotes the inputs and parameters to (bfloat16 inputs and float32 parameters give float32, as in
`torch.add`); buffers and draws decide only where there are neither. An updated buffer keeps its dtype, a
gradient has that of what it is the gradient of. Autocast changes none of this: plait stands among the
operations that take the widest dtype of their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..dsl.mistakes import WrongDtype
from ..dsl.ops import Kind
from ..dsl.position import place_of_call
from ..dsl.program import Declaration, Program

if TYPE_CHECKING:
    from ..compiler.kernel import RealType

STORED: dict[torch.dtype, RealType] = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
"""The dtypes that kernels load and store."""

NARROW = (torch.float16, torch.bfloat16)
"""Those that nothing is computed in."""

DTYPES: dict[RealType, torch.dtype] = {name: dtype for dtype, name in STORED.items()}

Types = tuple[tuple[str, "RealType"], ...]
"""A real type for each of some names."""

Like = tuple[tuple[str, str], ...]
"""Results by name that have the dtype of a declared tensor."""


@dataclass(frozen=True, slots=True)
class Precision:
    """`computed` in kernels; the declared tensors (`given`) and results (`made`) that are stored in
    another type, by name."""

    computed: Literal["float32", "float64"]
    given: Types = ()
    made: Types = ()

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.computed]


SINGLE = Precision("float32")


def result_names(program: Program) -> tuple[str, ...]:
    """Of the outputs, then `update:NAME` of the updated buffers."""
    outputs = (output.name for output in program.outputs)
    return (*outputs, *(f"update:{each.buffer.name}" for each in program.updates))


def uniform(program: Program, dtype: torch.dtype) -> Precision:
    """That of a call whose real tensors are all of `dtype`."""
    stored = STORED[dtype]
    if dtype in (torch.float32, torch.float64):
        return Precision("float64" if dtype == torch.float64 else "float32")
    names = [each.leaf.name for each in program.declarations if each.leaf.declared == "real"]
    declared: Types = tuple((name, stored) for name in names)
    made: Types = tuple((name, stored) for name in result_names(program))
    return Precision("float32", declared, made)


def dtype_of(kind: Kind, real: torch.dtype) -> torch.dtype:
    """The dtype of a tensor of a kind where reals are `real`. Complex numbers are of two float32 or float64."""
    match kind:
        case "bool":
            return torch.bool
        case "int":
            return torch.int64
        case "real":
            return real
        case "complex":
            return torch.complex128 if real == torch.float64 else torch.complex64


# --- what the tensors of a call say


def reals(program: Program, tensors: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """The dtype of each real tensor, and that of the parts of each complex one. Raises WrongDtype for a
    tensor that is not of the declared kind."""
    found: dict[str, torch.dtype] = {}
    for declaration in program.declarations:
        leaf = declaration.leaf
        dtype = tensors[leaf.name].dtype
        if not _fits(dtype, leaf.declared):
            meant = {"bool": "torch.bool", "int": "torch.int64", "complex": "torch.complex64"}
            raise WrongDtype(
                f"{leaf.role} `{leaf.name}` is {leaf.declared} and its tensor is {dtype}",
                notes=called(),
                helps=[f"convert it with .to({meant.get(leaf.declared, 'torch.float32')})"],
            )
        if leaf.declared in ("real", "complex"):
            found[leaf.name] = dtype.to_real() if dtype.is_complex else dtype
    return found


def promoted(program: Program, found: Mapping[str, torch.dtype], default: torch.dtype) -> torch.dtype:
    """The dtype of results that are like no one tensor. Raises WrongDtype for float64 among others, and
    for dtypes that no kernel knows among others."""
    dtypes = set(found.values())
    if not dtypes:
        return default
    if len(dtypes) > 1 and (torch.float64 in dtypes or not dtypes <= STORED.keys()):
        first = {dtype: name for name, dtype in reversed(list(found.items()))}
        shown = ", ".join(f"`{name}` is {dtype}" for dtype, name in reversed(list(first.items())))
        raise WrongDtype(
            f"the real tensors of one call have one dtype: {shown}",
            notes=["of different ones only float32, bfloat16 and float16 go together", *called()],
            helps=["convert them with .to(...), or the module with .to(dtype)"],
        )
    deciding = [found[each.leaf.name] for each in program.declarations if _decides(each, found)]
    return reduce(torch.promote_types, deciding or dtypes)


def called() -> list[str]:
    """The note that says where the call is, if it is in a file."""
    place = place_of_call()
    return [f"called at {place}"] if place else []


def _decides(declaration: Declaration, found: Mapping[str, torch.dtype]) -> bool:
    return declaration.leaf.name in found and declaration.leaf.role in ("input", "parameter")


def result_reals(
    program: Program, found: Mapping[str, torch.dtype], common: torch.dtype, like: Like
) -> dict[str, torch.dtype]:
    """The dtype of the reals of each result: `update:NAME` is like its buffer."""
    models = dict(like) | {f"update:{each.buffer.name}": each.buffer.name for each in program.updates}
    return {name: found.get(models.get(name, ""), common) for name in result_names(program)}


def precision(found: Mapping[str, torch.dtype], made: Mapping[str, torch.dtype]) -> Precision | None:
    """What kernels are written for; None where no kernel knows the dtypes."""
    given = {*found.values(), *made.values()}
    if not given <= STORED.keys():
        return None
    computed = "float64" if torch.float64 in given else "float32"
    own = DTYPES[computed]
    return Precision(
        computed,
        tuple((name, STORED[dtype]) for name, dtype in found.items() if dtype != own),
        tuple((name, STORED[dtype]) for name, dtype in made.items() if dtype != own),
    )


def _fits(dtype: torch.dtype, kind: Kind) -> bool:
    """Whether a tensor of `dtype` is of a kind, without any conversion."""
    match kind:
        case "bool":
            return dtype == torch.bool
        case "int":
            return dtype == torch.int64
        case "real":
            return dtype.is_floating_point
        case "complex":
            return dtype.is_complex
