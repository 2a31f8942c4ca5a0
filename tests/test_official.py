"""`from_official` and the catalogue: what they take, what they refuse and in which words, and drop rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import plait
from agreement import nearly
from golden_cases import PATHS, load
from papers_in_torch import MODULES
from plait import PlaitError, Value, axes, mixer, parse, stdlib
from plait.dsl.mistakes import InvalidArgument, StateMismatch, UnknownArgument, UnknownName
from plait.stdlib import from_official
from plait.stdlib.catalogue import PAPERS, Paper, Settled, find
from plait.stdlib.official import module_of
from tree import ROOT

c = axes("c")
PAGE = ROOT / "docs" / "papers.md"
BLOCK = {"dim": 4, "layer_scale_init_value": 1e-6}


def state_of(operator: str, **config: Any) -> dict[str, Tensor]:
    """A state as the official code makes it."""
    torch.manual_seed(0)
    return dict(MODULES[operator](**config).state_dict())


def refused(operator: str, config: dict[str, Any], state: dict[str, Tensor] | None = None) -> PlaitError:
    with pytest.raises(PlaitError) as caught:
        from_official(operator, config, state or {}, backend="reference")
    return caught.value


# --- names and configs


def test_an_unknown_operator() -> None:
    error = refused("convnext-blok", {})
    assert isinstance(error, UnknownName)
    assert str(error).startswith(
        "UnknownName: the standard library has no operator `convnext-blok`\n  = operators: "
    )
    assert "convnext-block" in error.facts["near"]  # pyright: ignore[reportOperatorIssue]
    assert error.helps[0].startswith("did you mean `convnext-block`")


def test_all_mistakes_of_a_config_come_together() -> None:
    error = refused("convnext-block", {"dims": 4, "layer_scale_init_value": "small"})
    first, *others = (error, *error.others)
    assert isinstance(first, UnknownArgument)
    assert first.message == "`convnext-block` has no config key `dims`"
    assert first.helps == ("did you mean `dim`?",)
    assert [each.message for each in others] == [
        "`convnext-block` needs the config key `dim`",
        "`convnext-block` cannot have `layer_scale_init_value = 'small'`",
    ]
    assert others[1].notes == ("`layer_scale_init_value` is a number",)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("convnext-block", {"dim": 0}, "`dim = 0`"),
    ("convnext-block", {"dim": True}, "`dim = True`"),
    ("convnext-block", {"dim": 4, "drop_path": 1.0}, "`drop_path = 1.0`"),
    ("convnext-block", {"dim": 4, "mode": "test"}, "`mode = 'test'`"),
    ("convnext-downsample", {"dims": [4, 8], "index": 2}, "`index = 2` and `dims = [4, 8]`"),
    ("convnext-downsample", {"dims": [4, "8"], "index": 1}, "`dims = [4, '8']`"),
    ("convit-gpsa", {"dim": 6, "num_heads": 4, "N": 9}, "`dim = 6` and `num_heads = 4`"),
    ("convit-gpsa", {"dim": 4, "num_heads": 2, "N": 8}, "`N = 8`"),
    ("convit-block", {"dim": 4, "num_heads": 2, "N": 4, "mlp_ratio": 0.1}, "`dim = 4` and `mlp_ratio = 0.1`"),
    ("cswin-lepe", {"dim": 4, "resolution": 4, "idx": 2, "split_size": 2, "num_heads": 2}, "`idx = 2`"),
    (
        "cswin-lepe",
        {"dim": 4, "resolution": 4, "idx": 0, "split_size": 0, "num_heads": 2},
        "`split_size = 0`",
    ),
    (
        "cswin-block",
        {"dim": 4, "num_heads": 2, "split_size": 2},
        "`reso = None` and `patches_resolution = None`",
    ),
    ("cswin-block", {"dim": 4, "num_heads": 1, "split_size": 2, "reso": 4}, "`num_heads = 1`"),
    ("cswin-block", {"dim": 4, "num_heads": 2, "split_size": 2, "reso": 4, "H": 3}, "`H = 3`"),
    ("metaformer-pooling", {"pool_size": 4}, "`pool_size = 4`"),
    ("metaformer-sepconv", {"dim": 4, "act2": "GELU"}, "`act2 = 'GELU'`"),
    ("metaformer-block", {"dim": 4, "norm": "LayerNorm"}, "`norm = 'LayerNorm'`"),
]


@pytest.mark.parametrize(("operator", "config", "found"), REFUSED)
def test_values_that_cannot_be(operator: str, config: dict[str, Any], found: str) -> None:
    error = refused(operator, config)
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith(f"`{operator}` cannot have ")
    assert found in error.message
    assert error.notes


# --- states


def test_a_state_that_lacks_a_key_or_has_another() -> None:
    state = state_of("convnext-block", **BLOCK)
    state["gama"] = state.pop("gamma")
    error = refused("convnext-block", BLOCK, state)
    assert isinstance(error, StateMismatch)
    missing, unknown = error, error.others[0]
    assert missing.message == "`convnext-block` needs `gamma` of shape [4]"
    assert missing.helps == ("did you mean `gama`?",)
    assert unknown.message == "`convnext-block` has no `gama` with this config"
    assert unknown.helps == ("did you mean `gamma`?",)


def test_a_state_of_another_shape() -> None:
    state = state_of("convnext-block", **BLOCK)
    error = refused("convnext-block", {**BLOCK, "dim": 5}, state)
    assert len(error.others) == len(state) - 1
    assert error.message == "`gamma` of `convnext-block` is of shape [4], and the config asks for [5]"
    assert error.facts["shapes"] == ((4,), (5,))


def test_no_scale_means_no_key() -> None:
    state = state_of("convnext-block", **BLOCK)
    error = refused("convnext-block", {"dim": 4, "layer_scale_init_value": 0}, state)
    assert error.message == "`convnext-block` has no `gamma` with this config"


def test_the_state_is_copied() -> None:
    state = state_of("convnext-block", **BLOCK)
    before = {key: tensor.clone() for key, tensor in state.items()}
    module = from_official("convnext-block", BLOCK, state, backend="reference")
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(1)
    assert all(torch.equal(tensor, before[key]) for key, tensor in state.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_module_has_the_dtype_of_the_state(dtype: torch.dtype) -> None:
    state = {key: tensor.to(dtype) for key, tensor in state_of("convnext-block", **BLOCK).items()}
    module = from_official("convnext-block", BLOCK, state, backend="reference")
    assert {tensor.dtype for tensor in module.parameters()} == {dtype}
    assert module(torch.ones(1, 4, 2, 2, dtype=dtype)).dtype == dtype


def test_frozen_parameters_take_gradients_and_can_be_frozen() -> None:
    module = from_official("metaformer-randommixing", {"num_tokens": 4}, {"random_matrix": torch.eye(4)})
    assert all(tensor.requires_grad for tensor in module.parameters())
    assert not dict(find("metaformer-randommixing").mixer.module(tokens=4).named_parameters())[
        "random_matrix"
    ].requires_grad


# --- modes


DROPPING: list[tuple[str, dict[str, Any], tuple[int, ...], int]] = [
    ("convnext-block", BLOCK, (5, 4, 3, 3), 1),
    ("convit-block", {"dim": 4, "num_heads": 2, "N": 4}, (5, 4, 4), 2),
    ("cswin-block", {"dim": 4, "num_heads": 2, "split_size": 1, "reso": 2}, (5, 4, 4), 2),
    ("metaformer-block", {"dim": 4, "norm": "LayerNormWithoutBias"}, (5, 2, 2, 4), 2),
]


@pytest.mark.parametrize(("operator", "config", "shape", "count"), DROPPING)
def test_drop_path(operator: str, config: dict[str, Any], shape: tuple[int, ...], count: int) -> None:
    """In training a branch is dropped for some samples and divided by the rate for the others; never in eval."""
    state = {key: tensor.double() for key, tensor in state_of(operator, **config).items()}
    plain = from_official(operator, config, state, backend="reference")
    module = from_official(
        operator, {**config, "drop_path": 0.75, "mode": "train"}, state, backend="reference"
    )
    assert module.training
    x = torch.randn(shape, dtype=torch.float64)
    names = ["drop_path.keep"] if count == 1 else ["drop_path1.keep", "drop_path2.keep"]
    zeros = dict.fromkeys(names, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(module(x, **zeros), x)
    some = {name: torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64) for name in names}
    dropped = module(x, **some)
    assert torch.equal(dropped[1::2], x[1::2])
    assert not torch.equal(dropped[::2], plain(x)[::2])
    if count == 1:
        nearly(dropped[::2] - x[::2], (plain(x) - x)[::2] * 4)
    assert torch.equal(module.eval()(x), plain(x))
    torch.manual_seed(0)
    seen = torch.stack([module.train()(x)[:, 0].flatten(1).sum(1) for _ in range(20)])
    assert (seen.std(0) > 0).all()


def test_several_outputs_come_by_name() -> None:
    @mixer("x[b, c] -> sum[b], double[b, c]")
    def both(x: Value) -> tuple[Value, Value]:
        return x.sum(c), 2 * x

    def settle(*, dim: int) -> Settled:
        return Settled(both, {"c": dim})

    operator = Paper("0-none", "None", 2026, "0000.00000").operator("both", both, settle, {"dim": 2})
    module = module_of(operator, {"dim": 2}, {}, "reference")
    results = module(x=torch.tensor([[1.0, 2.0]]))
    assert {key: tensor.tolist() for key, tensor in results.items()} == {"sum": [3.0], "double": [[2.0, 4.0]]}


# --- the catalogue


def test_the_catalogue_names_every_operator_once() -> None:
    found = stdlib.catalogue()
    names = [name for names in PAPERS.values() for name in names.split()]
    assert [each.name for each in found] == names
    assert len(set(names)) == len(names)
    for each in found:
        assert find(each.name) is each
        assert each.paper.split("-")[1] == each.name.split("-")[0]
        assert 2015 <= each.year <= 2026
        assert len(each.arxiv) == 10
        assert each.mixer.doc


@pytest.mark.parametrize("operator", stdlib.catalogue(), ids=lambda operator: operator.name)
def test_an_example_is_a_program(operator: stdlib.Operator) -> None:
    """It is also the program of a module of that config, and its text reads back."""
    program = operator.program()
    assert parse(str(program)).program() == program
    module = operator.settle(**operator.example).mixer.module(
        backend="reference", **operator.settle(**operator.example).given
    )
    assert module.program == program


# --- the page


def rows() -> list[str]:
    """The table of docs/papers.md as the catalogue has it."""
    cases = [(path, load(path).operator) for path in PATHS]
    lines = ["| operator | paper | file | golden cases | kernels |", "| --- | --- | --- | --- | --- |"]
    for each in stdlib.catalogue():
        link = f"[{each.title.partition(':')[0]}](https://arxiv.org/abs/{each.arxiv}), {each.year}"
        file = f"`stdlib/papers/{each.paper.split('-')[1]}.py`"
        names = ", ".join(f"`{path.stem}`" for path, operator in cases if operator == each.name)
        lines.append(f"| `{each.name}` | {link} | {file} | {names} | {kernels(each)} |")
    return lines


def kernels(operator: stdlib.Operator) -> int:
    compiled = plait.compile(operator.program(), backend="cpp", on_unfused="error")
    return len(compiled.tile_programs)


def test_the_page_lists_the_catalogue(accept: bool) -> None:
    """Fewer kernels than the page says are an improvement; more are not."""
    head, heading, old = PAGE.read_text(encoding="utf-8").partition("## The list\n")
    prose, _, table = old.partition("| operator |")
    if accept:
        PAGE.write_text(head + heading + prose + "\n".join(rows()) + "\n", encoding="utf-8")
        pytest.fail("the table of docs/papers.md is written; read the diff")
    written = ("| operator |" + table).strip().splitlines()
    found = rows()
    assert [line.rpartition(" | ")[0] for line in written] == [line.rpartition(" | ")[0] for line in found]
    for old_line, new_line in zip(written[2:], found[2:], strict=True):
        most, count = (int(line.split(" | ")[-1].strip(" |")) for line in (old_line, new_line))
        assert count <= most, new_line
