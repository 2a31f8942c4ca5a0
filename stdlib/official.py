"""`from_official`: an operator under its official config, with the tensors of a published checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import PlaitError
from ..dsl.errors import raise_all
from ..dsl.mistakes import InvalidArgument, StateMismatch
from .catalogue import Operator, Views, find
from .settings import settled

BackendName = Literal["reference", "cpp", "triton"]

MODES = ("eval", "train")


def from_official(
    operator: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    backend: BackendName | None = None,
) -> nn.Module:
    """A module of the operator with the official names and shapes of parameters and buffers.

    `config` are the official constructor's arguments and `mode` ("eval" or "train"); `state` is the whole
    state dict, of whose dtype and device the module is. `forward` takes the inputs by position or by name
    and returns the output, or a dict of outputs by name. Every parameter takes gradients, also those that
    the official code freezes.

    Raises UnknownName, UnknownArgument, InvalidArgument, StateMismatch.
    """
    return module_of(find(operator), config, state, backend)


def module_of(
    operator: Operator,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    backend: BackendName | None = None,
) -> nn.Module:
    """`from_official` of an operator that is at hand."""
    options = dict(config)
    mode = _mode(operator, options.pop("mode", "eval"))
    made = settled(operator, options)
    module = made.mixer.module(backend=backend, **made.given)
    raise_all(list(_misfits(operator, module, state)))
    _adopt(module, state)
    outputs = tuple(each.name for each in made.mixer.program(**made.given).outputs)
    if made.views is not None:
        module.register_forward_pre_hook(Viewed(made.mixer.inputs, made.views), with_kwargs=True)
    if len(outputs) > 1:
        module.register_forward_hook(Named(outputs))
    return module.requires_grad_(True).train(mode == "train")


def _mode(operator: Operator, mode: object) -> str:
    if mode not in MODES:
        raise InvalidArgument(
            f"`{operator.name}` cannot have `mode = {mode!r}`", notes=[f"modes: {', '.join(MODES)}"]
        )
    return str(mode)


def _adopt(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the module the tensors' dtype and device, and their values."""
    real = next((tensor for tensor in state.values() if tensor.is_floating_point()), None)
    if real is not None:
        module.to(device=real.device, dtype=real.dtype)
    with torch.no_grad():
        module.load_state_dict(dict(state))


# --- the state and the module


def _misfits(operator: Operator, module: nn.Module, state: Mapping[str, Tensor]) -> Iterator[PlaitError]:
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for key, shape in expected.items():
        if key not in found:
            yield _misfit(
                operator, f"`{operator.name}` needs `{key}` of shape {list(shape)}", key, found, "given"
            )
        elif found[key] != shape:
            yield StateMismatch(
                f"`{key}` of `{operator.name}` is of shape {list(found[key])}, and the config asks for {list(shape)}",
                facts={"key": key, "shapes": (found[key], shape)},
            )
    for key in found:
        if key not in expected:
            yield _misfit(
                operator, f"`{operator.name}` has no `{key}` with this config", key, expected, "expected"
            )


def _misfit(
    operator: Operator, message: str, key: str, others: Mapping[str, object], which: str
) -> StateMismatch:
    near = get_close_matches(key, others, 1, 0.6)
    return StateMismatch(
        message,
        notes=[f"keys {which}: {', '.join(others) or 'none'}"],
        helps=[f"did you mean `{near[0]}`?"] if near else [],
        facts={"key": key},
    )


# --- what stands around a module's forward


@dataclass(frozen=True, slots=True)
class Viewed:
    """Before the call: the inputs as views that the program takes."""

    inputs: tuple[str, ...]
    views: Views

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        if len(args) > len(self.inputs):
            return args, named  # the module itself says what is wrong
        return (), {**self.views(dict(zip(self.inputs, args, strict=False)) | named)}


@dataclass(frozen=True, slots=True)
class Named:
    """After the call: a tuple of outputs as a dict."""

    outputs: tuple[str, ...]

    def __call__(self, module: nn.Module, args: object, results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(self.outputs, results, strict=True))
