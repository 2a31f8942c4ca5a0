"""Programs as operators of torch: `plait::NAME_DIGEST`, for torch.compile, torch.export and fakes.

Such an operator has a kernel for CPU and CUDA, a fake and an autograd rule. Autocast passes it by. It has no
forward mode, and says so: without the check here it would hand out zero tangents. Eager calls on plain
tensors do not come here (backends/autograd.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..dsl.mistakes import NotYet
from .cache import digest

NAMESPACE = "plait"
DEVICES = {"cpu": "CPU", "cuda": "CUDA"}

Tensors = tuple[Tensor, ...]
Run = Callable[..., Tensors]
Dims = tuple[int | None, ...]
Overload = Any
"""A torch._ops.OpOverload."""


class Operation(Protocol):
    """What is registered: a program on tensors in the order of its declarations."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> str:
        """Two operations of one identity do the same."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors."""
        ...

    @property
    def results(self) -> tuple[str, ...]: ...

    def launch(self, *tensors: Tensor) -> Tensors:
        """New contiguous tensors, one a result."""
        ...

    def fake(self, *tensors: Tensor) -> Tensors:
        """What `launch` would give, without values."""
        ...

    @property
    def operator(self) -> Overload: ...
    def registered(self) -> bool:
        """Make the operator."""
        ...

    def keeping(self, tensors: Sequence[Tensor]) -> Operation:
        """What runs in its place where a gradient may be asked for: it has more results."""
        ...

    def record(self, run: Run, tensors: Sequence[Tensor]) -> Tensors:
        """`run(*tensors)` in the graph of autograd."""
        ...

    def mapped(self, run: Run, count: int, dims: Dims, tensors: Sequence[Tensor]) -> tuple[Tensors, Dims]:
        """`run` under vmap over `count` entries along `dims`: the results, and where the entries lie."""
        ...


Method = TypeVar("Method", bound=Callable[..., bool])


def untraced(method: Method) -> Method:
    """A method that TorchDynamo runs as it is when it comes to it, once, instead of tracing it. It returns
    True, and leaves what it made in an attribute: Dynamo reads an attribute when it comes to it, but the
    entries of a dict only once."""
    method._dynamo_marked_constant = True
    return method


class Shelf:
    """Things by name, as attributes, for `untraced` methods."""


_libraries: list[torch.library.Library] = []
_operators: dict[str, Overload] = {}


def operator(operation: Operation) -> Overload:
    """The operator of an operation, registered when it is first asked for. Operations that do the same
    share one, in this process and in those forked from it."""
    name = f"{re.sub(r'[^A-Za-z0-9_]', '_', operation.name)}_{digest(operation.identity)[:12]}"
    if name not in _operators:
        _operators[name] = _existing(name) or _register(name, operation)
    return _operators[name]


def _existing(name: str) -> Overload | None:
    """The operator, if another copy of this module (imported by another name) has made it."""
    packet = getattr(getattr(torch.ops, NAMESPACE), name, None)
    return None if packet is None else packet.default


def _register(name: str, operation: Operation) -> Overload:
    if not _libraries:
        _libraries.append(torch.library.Library(NAMESPACE, "FRAGMENT"))
    library, qualified = _libraries[0], f"{NAMESPACE}::{name}"
    takes = ", ".join(f"Tensor t{place}" for place, _ in enumerate(operation.names))
    gives = ", ".join("Tensor" for _ in operation.results)
    one = len(operation.results) == 1
    library.define(f"{name}({takes}) -> {gives if one else f'({gives})'}")

    def returned(results: Tensors) -> Tensor | Tensors:
        return results[0] if one else results

    def kernel(*tensors: Tensor) -> Tensor | Tensors:
        return returned(operation.launch(*tensors))

    def fake(*tensors: Tensor) -> Tensor | Tensors:
        return returned(operation.fake(*tensors))

    for key in DEVICES.values():
        library.impl(name, kernel, key)
    torch.library.register_fake(qualified, fake, lib=library)
    overload = getattr(getattr(torch.ops, NAMESPACE), name).default

    def differentiated(keyset: Any, *tensors: Tensor) -> Tensor | Tensors:
        return returned(_differentiated(operation, overload, keyset, tensors))

    def batched(info: Any, dims: Dims, *tensors: Tensor) -> tuple[Tensor | Tensors, int | Dims | None]:
        made, places = operation.mapped(split, info.batch_size, dims, tensors)
        return returned(made), places[0] if one else places

    def split(*tensors: Tensor) -> Tensors:
        made = overload(*tensors)
        return (made,) if one else made

    library.impl(name, differentiated, "Autograd", with_keyset=True)
    torch.library.register_vmap(qualified, batched, lib=library)
    return overload


def _differentiated(operation: Operation, overload: Overload, keyset: Any, tensors: Tensors) -> Tensors:
    """The kernel under the Autograd key. Raises NotYet for what would come out wrong."""
    below_keys = keyset & torch._C._after_autograd_keyset

    def below(*tensors: Tensor) -> Tensors:
        with torch._C._AutoDispatchBelowAutograd():
            made = overload.redispatch(below_keys, *tensors)
        return (made,) if len(operation.results) == 1 else made

    def beside(*tensors: Tensor) -> Tensors:
        with torch._C._AutoDispatchBelowAutograd():
            made = twin.operator.redispatch(below_keys, *tensors)
        return (made,) if len(twin.results) == 1 else made

    if _has_tangent(tensors):
        raise _eager_only(operation, "forward mode")
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
        return below(*tensors)
    if torch._C._are_functorch_transforms_active():
        raise _eager_only(operation, "the gradient of torch.func")
    twin = operation.keeping(tensors)
    if twin is operation:
        return operation.record(below, tensors)
    twin.registered()
    made = dict(zip(twin.results, twin.record(beside, tensors), strict=True))
    return tuple(made[name] for name in operation.results)


def _eager_only(operation: Operation, what: str) -> NotYet:
    return NotYet(
        f"{what} of `{operation.name}` does not work under torch.compile or other tracing",
        helps=["it works in eager"],
    )


def _has_tangent(tensors: Tensors) -> bool:
    if forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active():
        return False
    return any(forward_ad.unpack_dual(tensor, level=0).tangent is not None for tensor in tensors)
