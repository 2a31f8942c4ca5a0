"""Every operator of the papers: the golden cases on each backend, and that its module is an ordinary one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from golden_cases import PATHS, Case, agree, load, named, results
from plait import stdlib

RESULTS = ("out", "grad.in.", "grad.param.", "newbuf.")

VIEWS = {"aten.permute.default", "aten.view.default", "aten.detach.default", "aten.alias.default"}
"""What may happen around a module's own operations: no element is computed."""

LIBRARY_CALLS: set[str] = set()
"""Named library calls (matrix products, FFT, solves, sorts) that a program of these papers may contain."""

every_case = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def expected(case: Case) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in case.tensors.items() if key.startswith(RESULTS)}


@every_case
def test_the_reference(path: Path) -> None:
    case = load(path)
    agree(results(case, "reference", torch.float64), expected(case), torch.float64, case.bound(torch.float64))


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_compiled(path: Path, dtype: torch.dtype) -> None:
    case = load(path)
    agree(results(case, "cpp", dtype), expected(case), dtype, case.bound(dtype))


def test_every_operator_has_a_case() -> None:
    assert {load(path).operator for path in PATHS} == {each.name for each in stdlib.catalogue()}


# --- what runs


class Seen(TorchDispatchMode):
    """Every operation of torch that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@every_case
def test_only_plait_computes(path: Path) -> None:
    case = load(path)
    module = case.module("cpp", torch.float32)
    inputs = {key: tensor.float().requires_grad_() for key, tensor in case.part("in.").items()}
    with Seen() as seen:
        outputs = named(module(**inputs))
    ours = {name for name in seen.names if name.startswith("plait.")}
    assert ours
    assert seen.names - ours <= VIEWS | LIBRARY_CALLS
    assert all(output.requires_grad and not output.isnan().any() for output in outputs.values())


@every_case
def test_nothing_is_left_unfused(path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """A part without a kernel would be a warning at the first call."""
    case = load(path)
    case.module("cpp", torch.float32)(**{key: tensor.float() for key, tensor in case.part("in.").items()})
    assert not [str(each.message) for each in recwarn]


# --- an ordinary module


@every_case
def test_its_state_is_the_official_one(path: Path) -> None:
    case = load(path)
    state = case.part("param.", "buf.")
    module = case.module("reference", torch.float64)
    found = module.state_dict()
    assert set(found) == set(state)
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())
    again = case.module("reference", torch.float64)
    with torch.no_grad():
        for tensor in again.parameters():
            tensor.zero_()
    assert str(again.load_state_dict(found)) == "<All keys matched successfully>"
    assert all(torch.equal(tensor, found[key]) for key, tensor in again.state_dict().items())


@every_case
def test_copies_and_pickles(path: Path) -> None:
    case = load(path)
    module = case.module("reference", torch.float64)
    inputs = case.part("in.")
    want = module(**inputs)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(**inputs), want)
        assert list(other.state_dict()) == list(module.state_dict())
        held = dict(module.named_parameters())
        assert all(tensor is not held[key] for key, tensor in other.named_parameters())


@every_case
def test_modes(path: Path) -> None:
    """These operators draw only where a drop rate is given, so both modes give the recorded output."""
    case = load(path)
    module = case.module("reference", torch.float64)
    inputs = case.part("in.")
    assert module.training == (case.config["mode"] == "train")
    assert torch.equal(module.train()(**inputs), module.eval()(**inputs))


@every_case
def test_inputs_by_position(path: Path) -> None:
    case = load(path)
    module = case.module("reference", torch.float64)
    inputs = case.part("in.")
    assert torch.equal(module(*inputs.values()), module(**inputs))
