"""The operators of the papers under other configs than the golden ones, against plain PyTorch.

Sizes are primes, one, and what no tile divides. The states are random, so that no gate, bias or scale is at the
value at which it begins.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agreement import nearly
from golden_cases import Case, agree, compared_with, copies, gradient
from papers_in_torch import MODULES
from plait.backends.budget import budget, unit
from plait.stdlib import from_official
from plait.stdlib.catalogue import find
from plait.stdlib.papers.convit import start_locally

Shape = tuple[int, ...]

CONFIGS: list[tuple[str, dict[str, Any], Shape]] = [
    # depthwise 7x7 on maps smaller than the window, one channel, no scale
    ("convnext-block", {"dim": 1, "layer_scale_init_value": 1}, (1, 1, 1, 1)),
    ("convnext-block", {"dim": 5, "layer_scale_init_value": 0}, (2, 5, 3, 17)),
    ("convnext-block", {"dim": 33, "layer_scale_init_value": 0.1}, (1, 33, 9, 2)),
    ("convnext-downsample", {"dims": [3, 7], "index": 1}, (2, 3, 5, 9)),
    ("convnext-downsample", {"dims": [4, 1, 5], "index": 2}, (1, 1, 2, 3)),
    ("convnext-downsample", {"dims": [6, 8], "index": 0}, (2, 3, 9, 13)),
    # grids of one token and more; one head, as many heads as channels
    ("convit-gpsa", {"dim": 6, "num_heads": 3, "qkv_bias": False, "qk_scale": 0.3, "N": 25}, (2, 25, 6)),
    ("convit-gpsa", {"dim": 5, "num_heads": 5, "qkv_bias": True, "qk_scale": 0.0, "N": 4}, (1, 4, 5)),
    ("convit-gpsa", {"dim": 7, "num_heads": 1, "qkv_bias": True, "qk_scale": None, "N": 1}, (3, 1, 7)),
    (
        "convit-block",
        {"dim": 9, "num_heads": 3, "mlp_ratio": 1.5, "qkv_bias": True, "use_gpsa": True, "N": 9, "norm_eps": 1e-5,
         "locality_strength": 0.5},
        (2, 9, 9),
    ),
    (
        "convit-block",
        {"dim": 6, "num_heads": 2, "mlp_ratio": 2.0, "qkv_bias": False, "use_gpsa": False, "N": 17, "norm_eps": 1e-6,
         "locality_strength": 1.0},
        (2, 17, 6),
    ),
    # stripes of width 1, of all widths that fit or do not, of the whole image
    ("cswin-lepe", {"dim": 4, "resolution": 6, "idx": 0, "split_size": 1, "num_heads": 2}, (3, 2, 36, 4)),
    ("cswin-lepe", {"dim": 6, "resolution": 6, "idx": 1, "split_size": 3, "num_heads": 1}, (3, 1, 36, 6)),
    ("cswin-lepe", {"dim": 3, "resolution": 5, "idx": -1, "split_size": 2, "num_heads": 3}, (3, 2, 25, 3)),
    ("cswin-lepe", {"dim": 4, "resolution": 7, "idx": 1, "split_size": 3, "num_heads": 2}, (2, 3, 4, 7, 5)),
    ("cswin-lepe", {"dim": 4, "resolution": 7, "idx": 0, "split_size": 4, "num_heads": 4, "qk_scale": 0.7},
     (1, 3, 4, 3, 9)),
    ("cswin-lepe", {"dim": 2, "resolution": 3, "idx": 1, "split_size": 8, "num_heads": 1}, (1, 3, 2, 3, 2)),
    ("cswin-block", {"dim": 6, "reso": 4, "num_heads": 2, "split_size": 2, "mlp_ratio": 1.5, "qkv_bias": False},
     (2, 16, 6)),
    ("cswin-block", {"dim": 8, "reso": 3, "num_heads": 4, "split_size": 3, "mlp_ratio": 2.0, "qkv_bias": True},
     (2, 9, 8)),
    ("cswin-block", {"dim": 8, "patches_resolution": 5, "H": 5, "W": 8, "num_heads": 4, "split_size": 3,
                     "mlp_ratio": 2.0}, (2, 40, 8)),
    ("cswin-block", {"dim": 4, "patches_resolution": 4, "num_heads": 2, "split_size": 4, "mlp_ratio": 1.0,
                     "qkv_bias": False, "H": 4, "W": 3}, (1, 12, 4)),
    ("cswin-block", {"dim": 5, "patches_resolution": 3, "num_heads": 1, "split_size": 2, "mlp_ratio": 1.0,
                     "last_stage": True, "qk_scale": 0.5}, (1, 9, 5)),
    # heads wider than the channels, all biases
    ("metaformer-attention", {"dim": 5, "head_dim": 8}, (2, 3, 5, 5)),
    ("metaformer-attention", {"dim": 9, "head_dim": 4, "qkv_bias": True}, (1, 1, 7, 9)),
    ("metaformer-attention", {"dim": 6, "head_dim": 2, "num_heads": 5, "qkv_bias": True, "proj_bias": True},
     (2, 4, 3, 6)),
    ("metaformer-pooling", {"pool_size": 5}, (2, 3, 7, 3)),
    ("metaformer-pooling", {"pool_size": 1}, (1, 2, 2, 1)),
    ("metaformer-pooling", {"pool_size": 9}, (1, 2, 17, 2)),
    ("metaformer-randommixing", {"num_tokens": 7}, (2, 1, 7, 3)),
    ("metaformer-randommixing", {"num_tokens": 15}, (1, 5, 3, 5)),
    ("metaformer-sepconv", {"dim": 3, "bias": True, "act2": "StarReLU"}, (2, 4, 9, 3)),
    ("metaformer-sepconv", {"dim": 5, "expansion_ratio": 3, "kernel_size": 5, "padding": 2}, (1, 6, 5, 5)),
    ("metaformer-sepconv", {"dim": 2, "kernel_size": 5}, (1, 4, 3, 2)),
    ("metaformer-sepconv", {"dim": 2, "kernel_size": 4, "padding": 1, "bias": True}, (1, 5, 3, 2)),
    ("metaformer-sepconv", {"dim": 3, "kernel_size": 1, "padding": 2, "bias": True}, (1, 2, 3, 3)),
]  # fmt: skip

BLOCKS = [
    {"token_mixer": "Identity", "norm": "LayerNormGeneral(1,2,3)", "layer_scale": 0.3, "res_scale": 0.0},
    {"token_mixer": "RandomMixing", "num_tokens": 12, "norm": "LayerNormGeneral(1,2,3)", "layer_scale": None,
     "res_scale": 1.0},
    {"token_mixer": "Pooling", "norm": "LayerNormGeneral(1,2,3)", "layer_scale": 0.1, "res_scale": 1.0},
    {"token_mixer": "Pooling", "pool_size": 5, "norm": "LayerNormWithoutBias", "layer_scale": 0.0, "res_scale": 0.5},
    {"token_mixer": "SepConv", "norm": "LayerNormGeneral(1,2,3)", "layer_scale": 1e-5, "res_scale": 0.9},
    {"token_mixer": "Attention", "head_dim": 2, "norm": "LayerNormWithoutBias", "layer_scale": None,
     "res_scale": 1.0},
]  # fmt: skip
CONFIGS += [("metaformer-block", {"dim": 5, **block}, (2, 4, 3, 5)) for block in BLOCKS]


def drawn(operator: str, config: dict[str, Any], shape: Shape) -> tuple[nn.Module, Tensor]:
    """PyTorch's module with a random state, and an input."""
    torch.manual_seed(len(shape) + sum(shape))
    module = MODULES[operator](**config).double()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn_like(tensor) / max(1, tensor[0].numel()) ** 0.5)
    return module, torch.randn(shape, dtype=torch.float64)


def run(module: nn.Module, x: Tensor, cotangent: Tensor | None) -> dict[str, Tensor]:
    """The output and all gradients."""
    x = x.clone().requires_grad_()
    out = module(x)
    out.backward(
        torch.cos(torch.arange(out.numel())).reshape(out.shape).to(out) if cotangent is None else cotangent
    )
    return {"out": out, "in": gradient(x)} | {
        key: gradient(tensor) for key, tensor in module.named_parameters()
    }


def check(operator: str, config: dict[str, Any], shape: Shape, backend: Any, dtype: torch.dtype) -> None:
    plain, x = drawn(operator, config, shape)
    expected = run(plain, x, None)
    state = {key: tensor.to(dtype) for key, tensor in copies(plain.state_dict()).items()}
    module = from_official(operator, config, state, backend=backend)
    kept = {f"param.{key}": each for key, each in plain.named_parameters()}
    kept |= {f"buf.{key}": each for key, each in plain.named_buffers()}
    name = "in.qkv" if operator == "cswin-lepe" else "in.x"
    case = Case(operator, config, {name: x, **kept})
    bounds = {key: case.bound(dtype, 1 + units) for key, units in lost(plain, x, expected).items()}
    agree(run(module, x.to(dtype), None), expected, dtype, bounds)


def lost(module: nn.Module, x: Tensor, expected: Mapping[str, Tensor]) -> dict[str, float]:
    """How many units PyTorch itself loses of each result in float32: the condition of all that it goes through,
    where terms of a gradient cancel too."""
    single = run(copy.deepcopy(module).float(), x.float(), None)
    sizes = compared_with(expected)
    return {
        key: (single[key].double() - each).norm().item() / sizes[key] / unit(torch.float32)
        for key, each in expected.items()
    }


every_config = pytest.mark.parametrize(("operator", "config", "shape"), CONFIGS)


@every_config
def test_the_reference(operator: str, config: dict[str, Any], shape: Shape) -> None:
    check(operator, config, shape, "reference", torch.float64)


def some_quick(number: int) -> list[pytest.MarkDecorator]:
    """Every third is built in every run, so that each operator is; the others in the slow ones."""
    return [] if number % 3 == 0 else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("operator", "config", "shape"),
    [pytest.param(*config, marks=some_quick(number)) for number, config in enumerate(CONFIGS)],
)
def test_compiled(operator: str, config: dict[str, Any], shape: Shape) -> None:
    check(operator, config, shape, "cpp", torch.float64)


# --- laws of the sheets that no golden case shows


def test_local_gpsa_is_a_convolution() -> None:
    """ConViT with closed content, sharp positions and 9 heads is a 3x3 convolution away from the border."""
    dim, side = 18, 7
    module = find("convit-gpsa").mixer.module(c=dim, h=side, w=side, heads=9, backend="reference").double()
    start_locally(module, strength=50.0)
    state = dict(module.named_parameters())
    with torch.no_grad():
        state["gating_param"].fill_(50.0)
        state["proj.weight"].normal_()
    x = torch.randn(2, side * side, dim, dtype=torch.float64)
    kernel = torch.zeros(dim, dim, 3, 3, dtype=torch.float64)
    for head in range(9):
        channels = slice(2 * head, 2 * head + 2)
        kernel[:, channels, head % 3, head // 3] = state["proj.weight"][:, channels].detach()
    maps = x.transpose(1, 2).unflatten(-1, (side, side))
    expected = torch.nn.functional.conv2d(maps, kernel)
    found = module(x).transpose(1, 2).unflatten(-1, (side, side))[..., 1:-1, 1:-1]
    nearly(found, expected)


def test_stripes_do_not_see_each_other() -> None:
    """CSWin: permuting whole vertical stripes permutes the output of the first branch, LePE included."""
    module, x = drawn(*CONFIGS[11])
    stripes = torch.randperm(6)
    state = {key: tensor.detach() for key, tensor in module.state_dict().items()}
    ours = from_official("cswin-lepe", CONFIGS[11][1], state, backend="reference")
    moved = x.unflatten(2, (6, 6))[:, :, :, stripes].flatten(2, 3)
    expected = ours(x).unflatten(1, (6, 6))[:, :, stripes].flatten(1, 2)
    nearly(ours(moved), expected)


def test_pooling_of_a_constant_is_zero() -> None:
    """MetaFormer's mean is over the pixels that exist, so that borders are no darker."""
    module = from_official("metaformer-pooling", {"pool_size": 5}, {}, backend="reference")
    assert module(torch.full((1, 3, 4, 2), 0.7, dtype=torch.float64)).abs().max() <= budget(
        torch.float64, length=25, operations=2
    )


def test_a_block_without_scale_shifts_with_its_input() -> None:
    """ConvNeXt is equivariant to shifts away from a border of 3 pixels."""
    plain, _ = drawn("convnext-block", {"dim": 2, "layer_scale_init_value": 0}, (1, 2, 1, 1))
    module = from_official(
        "convnext-block", {"dim": 2, "layer_scale_init_value": 0}, plain.state_dict(), backend="cpp"
    )
    x = torch.randn(1, 2, 11, 12, dtype=torch.float64)
    inner = module(x)[..., 4:-3, 3:-3]
    nearly(module(x[..., 1:, :])[..., 3:-3, 3:-3], inner)
