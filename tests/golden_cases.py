"""The golden files of tests/golden: what the papers' own code gave, and what a module of plait gives beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

import precisions
from plait.dsl.program import Program
from plait.stdlib import from_official
from plait.stdlib.catalogue import find

FOLDER = Path(__file__).resolve().parent / "golden"
PATHS = sorted(FOLDER.glob("*.safetensors"))

ZERO = 1e-12
"""A recorded gradient of a smaller norm is zero but for rounding, and is compared absolutely."""

BackendName = Literal["reference", "cpp", "triton"]


@dataclass(frozen=True, slots=True)
class Case:
    """One file: `tensors` by their keys there, all float64."""

    operator: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose keys begin so, without that beginning."""
        return {
            key.removeprefix(prefix): tensor
            for prefix in prefixes
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }

    def outputs(self, word: str) -> dict[str, Tensor]:
        """`out` or `cot` by the name of the output; "" names a single one."""
        return {key.removeprefix("."): tensor for key, tensor in self.part(word).items()}

    def module(self, backend: BackendName, dtype: torch.dtype) -> nn.Module:
        state = {key: tensor.to(dtype) for key, tensor in self.part("param.", "buf.").items()}
        return from_official(self.operator, dict(self.config), state, backend=backend)

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The program that the config asks for, and its tensors by name, in its own layouts."""
        made = find(self.operator).settle(**{key: self.config[key] for key in self.config if key != "mode"})
        inputs = self.part("in.")
        viewed = inputs if made.views is None else made.views(inputs)
        return made.mixer.program(**made.given), {**viewed, **self.part("param.", "buf.")}

    def bound(self, dtype: torch.dtype, condition: float = 1.0, *, matrix_units: bool = False) -> float:
        """How far a result of `dtype` may be off: the budget of the way through the program and back.
        What was recorded is as far off, in float64: far less than the bound leaves."""
        return precisions.bound(*self.program(), dtype, condition, matrix_units=matrix_units, back=True)


def load(path: Path) -> Case:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    return Case(metadata["operator"], json.loads(metadata["config"]), tensors)


def results(
    case: Case, backend: BackendName, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """What the module gives, under the keys of the file: outputs, gradients, buffers after the call."""
    module = case.module(backend, dtype).to(device)
    inputs = {
        key: tensor.to(device, dtype).requires_grad_() for key, tensor in copies(case.part("in.")).items()
    }
    outputs = named(module(**inputs))
    cotangents = case.outputs("cot")
    loss = sum((outputs[name] * cotangents[name].to(device, dtype)).sum() for name in cotangents)
    assert isinstance(loss, Tensor)
    loss.backward()
    found = {f"out.{name}" if name else "out": output for name, output in outputs.items()}
    found |= {f"grad.in.{key}": gradient(tensor) for key, tensor in inputs.items()}
    found |= {f"grad.param.{key}": gradient(tensor) for key, tensor in module.named_parameters()}
    buffers = dict(module.named_buffers())
    return found | {f"newbuf.{key}": buffers[key] for key in case.part("newbuf.")}


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in tensors.items()}


def named(outputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"": outputs} if isinstance(outputs, Tensor) else dict(outputs)


def gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def errors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """How far each expected tensor is from the one found."""
    sizes = compared_with(expected)
    wrong: dict[str, float] = {}
    for key, tensor in expected.items():
        assert found[key].shape == tensor.shape, key
        difference = (found[key].detach().cpu().double() - tensor).norm().item()
        wrong[key] = difference / sizes[key]
    return wrong


def compared_with(expected: Mapping[str, Tensor]) -> dict[str, float]:
    """The norm beside which each tensor may be off; that of the largest of its case for one that is zero."""
    norms = {key: tensor.norm().item() for key, tensor in expected.items()}
    largest = max(norms.values()) or 1.0
    return {key: norm if norm > ZERO else largest for key, norm in norms.items()}


def agree(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    dtype: torch.dtype,
    bound: float | Mapping[str, float],
) -> None:
    """Every expected tensor is there, of the dtype, free of NaN, and within its bound (norm of the difference over
    norm of what is expected)."""
    assert set(found) == set(expected)
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    bounds = bound if isinstance(bound, Mapping) else dict.fromkeys(expected, bound)
    wrong = {key: error for key, error in errors(found, expected).items() if not error <= bounds[key]}
    assert not wrong
