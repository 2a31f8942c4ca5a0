"""The operators of four papers as plain PyTorch modules, written from the sheets: what other configs are held to.

Keys and shapes of their state dicts are the official ones. Nothing here knows of plait.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

Config = dict[str, object]

# --- 19 ConvNeXt


def over_channels(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A layer norm of channels-first maps."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim: int, layer_scale_init_value: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim)) if layer_scale_init_value > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        z = self.pwconv2(functional.gelu(self.pwconv1(n)))
        z = z if self.gamma is None else self.gamma * z
        return x + z.permute(0, 3, 1, 2)


class ConvNeXtDownsample(nn.Sequential):
    def __init__(self, dims: list[int], index: int, in_chans: int = 3) -> None:
        if index == 0:
            super().__init__(nn.Conv2d(in_chans, dims[0], 4, stride=4), nn.LayerNorm(dims[0], eps=1e-6))
        else:
            norm = nn.LayerNorm(dims[index - 1], eps=1e-6)
            super().__init__(norm, nn.Conv2d(dims[index - 1], dims[index], 2, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = over_channels(x, layer) if isinstance(layer, nn.LayerNorm) else layer(x)
        return x


# --- 27 ConViT


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(b, n, m * e) as (b, m, n, e)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class GPSA(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, N: int, qkv_bias: bool = False, qk_scale: float | None = None
    ) -> None:
        super().__init__()
        self.heads, self.scale = num_heads, qk_scale or (dim // num_heads) ** -0.5
        self.qk, self.v = nn.Linear(dim, 2 * dim, bias=qkv_bias), nn.Linear(dim, dim, bias=qkv_bias)
        self.proj, self.pos_proj = nn.Linear(dim, dim), nn.Linear(3, num_heads)
        self.gating_param = nn.Parameter(torch.ones(num_heads))

    def forward(self, x: Tensor) -> Tensor:
        side = isqrt(x.shape[1])
        row, column = (torch.arange(x.shape[1]) // side), (torch.arange(x.shape[1]) % side)
        dx, dy = column[None] - column[:, None], row[None] - row[:, None]
        features = torch.stack([dx, dy, dx**2 + dy**2], -1).to(x.dtype)
        position = self.pos_proj(features).permute(2, 0, 1).softmax(-1)
        q, k = (heads_of(each, self.heads) for each in self.qk(x).chunk(2, -1))
        content = (self.scale * q @ k.transpose(-1, -2)).softmax(-1)
        gate = torch.sigmoid(self.gating_param)[:, None, None]
        blend = (1 - gate) * content + gate * position
        y = (blend / blend.sum(-1, keepdim=True)) @ heads_of(self.v(x), self.heads)
        return self.proj(y.transpose(1, 2).flatten(2))


class MHSA(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool = False, qk_scale: float | None = None
    ) -> None:
        super().__init__()
        self.heads, self.scale = num_heads, qk_scale or (dim // num_heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(each, self.heads) for each in self.qkv(x).chunk(3, -1))
        y = (self.scale * q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class ConViTBlock(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, N: int, mlp_ratio: float = 4.0, qkv_bias: bool = False,
        qk_scale: float | None = None, norm_eps: float = 1e-6, use_gpsa: bool = True,
        locality_strength: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if use_gpsa:
            self.attn: nn.Module = GPSA(dim, num_heads, N, qkv_bias, qk_scale)
        else:
            self.attn = MHSA(dim, num_heads, qkv_bias, qk_scale)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=norm_eps), nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.attn(self.norm1(x))
        return y + self.mlp(self.norm2(y))


# --- 31 CSWin


class LePE(nn.Module):
    """`forward` takes (b, 3, c, h, w), or (3, b, n, c) of a square image, and gives (b, n, c)."""

    def __init__(
        self,
        dim: int,
        resolution: int,
        idx: int,
        split_size: int,
        num_heads: int,
        qk_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.idx, self.split, self.heads = idx, split_size, num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, qkv: Tensor) -> Tensor:
        if qkv.dim() == 4:
            side = isqrt(qkv.shape[2])
            qkv = qkv.permute(1, 0, 3, 2).unflatten(-1, (side, side))
        high, wide = qkv.shape[-2:]
        rows = self.split if self.idx == 1 else high
        columns = self.split if self.idx == 0 else wide
        down, across = -high % rows, -wide % columns
        top, left = down // 2, across // 2
        padded = functional.pad(qkv, (left, across - left, top, down - top))
        out = torch.zeros_like(padded[:, 0])
        for y in range(0, padded.shape[-2], rows):
            for x in range(0, padded.shape[-1], columns):
                window = (..., slice(y, y + rows), slice(x, x + columns))
                out[window] = self.one_window(padded[window])
        return out[..., top : top + high, left : left + wide].flatten(2).transpose(1, 2)

    def one_window(self, qkv: Tensor) -> Tensor:
        q, k, v = (heads_of(each.flatten(2).transpose(1, 2), self.heads) for each in qkv.unbind(1))
        y = (self.scale * q @ k.transpose(-1, -2)).softmax(-1) @ v
        return y.transpose(-1, -2).reshape(qkv[:, 0].shape) + self.get_v(qkv[:, 2])


class CSWinBlock(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, split_size: int, mlp_ratio: float = 4.0, qkv_bias: bool = False,
        qk_scale: float | None = None, last_stage: bool = False, reso: int | None = None,
        patches_resolution: int | None = None, H: int | None = None, W: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        side = patches_resolution if reso is None else reso
        assert side is not None
        self.size = (H or side, W or side)
        count = 1 if last_stage or reso == split_size else 2
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias or reso is None)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.proj, self.mlp = nn.Linear(dim, dim), MLP(dim, int(dim * mlp_ratio))
        self.attns = nn.ModuleList(
            LePE(dim // count, side, -1 if count == 1 else which, split_size, num_heads // count, qk_scale)
            for which in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = self.qkv(self.norm1(x)).unflatten(-1, (3, -1)).permute(0, 2, 3, 1).unflatten(-1, self.size)
        parts = maps.chunk(len(self.attns), 2)
        y = x + self.proj(torch.cat([attn(part) for attn, part in zip(self.attns, parts, strict=True)], -1))
        return y + self.mlp(self.norm2(y))


# --- 43 MetaFormer


class StarReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * functional.relu(x) ** 2 + self.bias


class Pooling(nn.Module):
    def __init__(self, pool_size: int = 3) -> None:
        super().__init__()
        self.size = pool_size

    def forward(self, x: Tensor) -> Tensor:
        maps = x.permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(maps, self.size, 1, self.size // 2, count_include_pad=False)
        return pooled.permute(0, 2, 3, 1) - x


class RandomMixing(nn.Module):
    def __init__(self, num_tokens: int = 196) -> None:
        super().__init__()
        self.random_matrix = nn.Parameter(torch.rand(num_tokens, num_tokens).softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("mn,bnc->bmc", self.random_matrix, x.flatten(1, 2)).reshape(x.shape)


class SepConv(nn.Module):
    def __init__(
        self, dim: int, expansion_ratio: float = 2, act2: str | None = None, bias: bool = False,
        kernel_size: int = 7, padding: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        wide = int(expansion_ratio * dim)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, wide, bias=bias), nn.Linear(wide, dim, bias=bias)
        self.dwconv = nn.Conv2d(wide, wide, kernel_size, padding=padding, groups=wide, bias=bias)
        self.act1, self.act2 = StarReLU(), StarReLU() if act2 == "StarReLU" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        u = self.act1(self.pwconv1(x)).permute(0, 3, 1, 2)
        return self.pwconv2(self.act2(self.dwconv(u).permute(0, 2, 3, 1)))


class Attention(nn.Module):
    def __init__(
        self, dim: int, head_dim: int = 32, num_heads: int | None = None, qkv_bias: bool = False,
        proj_bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.scale = num_heads or max(dim // head_dim, 1), head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * self.heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(self.heads * head_dim, dim, bias=proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(each, self.heads) for each in self.qkv(x.flatten(1, 2)).chunk(3, -1))
        y = (self.scale * q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2)).reshape(x.shape)


class NormWithoutBias(nn.Module):
    def __init__(self, dim: int, over: tuple[int, ...]) -> None:
        super().__init__()
        self.over, self.weight = over, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(self.over, keepdim=True)
        return centred / (centred.square().mean(self.over, keepdim=True) + 1e-6).sqrt() * self.weight


class Scale(nn.Module):
    def __init__(self, dim: int, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), value))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


class StarMLP(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = (
            nn.Linear(dim, 4 * dim, bias=False),
            StarReLU(),
            nn.Linear(4 * dim, dim, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class MetaFormerBlock(nn.Module):
    def __init__(
        self, dim: int, norm: str, token_mixer: str = "Identity", layer_scale: float | None = None,
        res_scale: float | None = None, num_tokens: int = 196, pool_size: int = 3, head_dim: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        mixers: dict[str, Callable[[], nn.Module]] = {
            "Identity": nn.Identity, "RandomMixing": lambda: RandomMixing(num_tokens),
            "Pooling": lambda: Pooling(pool_size), "SepConv": lambda: SepConv(dim),
            "Attention": lambda: Attention(dim, head_dim),
        }  # fmt: skip
        over = (1, 2, 3) if norm == "LayerNormGeneral(1,2,3)" else (3,)
        self.token_mixer, self.mlp = mixers[token_mixer](), StarMLP(dim)
        self.norm1, self.norm2 = NormWithoutBias(dim, over), NormWithoutBias(dim, over)

        def scale(value: float | None) -> nn.Module:
            return Scale(dim, value) if value else nn.Identity()

        self.layer_scale1, self.layer_scale2 = scale(layer_scale), scale(layer_scale)
        self.res_scale1, self.res_scale2 = scale(res_scale), scale(res_scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.res_scale1(x) + self.layer_scale1(self.token_mixer(self.norm1(x)))
        return self.res_scale2(y) + self.layer_scale2(self.mlp(self.norm2(y)))


MODULES: dict[str, Callable[..., nn.Module]] = {
    "convnext-block": ConvNeXtBlock,
    "convnext-downsample": ConvNeXtDownsample,
    "convit-gpsa": GPSA,
    "convit-block": ConViTBlock,
    "cswin-lepe": LePE,
    "cswin-block": CSWinBlock,
    "metaformer-attention": Attention,
    "metaformer-block": MetaFormerBlock,
    "metaformer-pooling": Pooling,
    "metaformer-randommixing": RandomMixing,
    "metaformer-sepconv": SepConv,
}
"""Each operator's module; its constructor takes the config without `mode`."""
