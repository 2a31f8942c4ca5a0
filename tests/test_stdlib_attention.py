"""Attention, positions and randomness of the standard library against PyTorch and the official formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, meaning, random
from agreement import nearly
from plait import axes, axis, mixer, near, stdlib
from plait.dsl.errors import PlaitError
from plait.stdlib import (
    alibi,
    attention,
    causal,
    dropout,
    grouped,
    merge_heads,
    multi_head_self_attention,
    relative_position_bias,
    rotary,
    rotate_pairs,
    sinusoidal,
    split_heads,
    within,
)

b, t, s, c, d, m, g, h, w = axes("b t s c d m g h w")
sdpa = F.scaled_dot_product_attention


@pytest.mark.parametrize(("queries", "keys", "width"), [(5, 7, 4), (1, 1, 1), (17, 3, 8)])
def test_attention(queries: int, keys: int, width: int) -> None:
    @mixer("q[b, m, t, d], k[b, m, s, d], v[b, m, s, d] -> y[b, m, t, d]")
    def attend(q, k, v):
        return attention(q, k, v, s, d)

    q, k, v = random(2, 3, queries, width), random(2, 3, keys, width), random(2, 3, keys, width, seed=1)
    agree(attend, sdpa, q, k, v, kernels=keys == 7)


def test_attention_with_a_mask_a_bias_and_a_scale() -> None:
    @mixer("q[b, t, d], k[b, s, d], v[b, s, d], bias[t, s], seen[b, s]: bool -> y[b, t, d]")
    def attend(q, k, v, bias, seen):
        return attention(q, k, v, s, d, scale=0.3, bias=bias, where=seen).otherwise(0)

    q, k, v, bias = random(2, 5, 4), random(2, 7, 4), random(2, 7, 4, seed=1), random(5, 7)
    seen = torch.arange(14).reshape(2, 7) % 3 != 0

    def official(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, seen: Tensor) -> Tensor:
        score = (q @ k.mT * 0.3 + bias).masked_fill(~seen[:, None], -math.inf)
        return score.softmax(-1) @ v

    agree(attend, official, q, k, v, bias, seen)


def test_causal_attention_in_a_window() -> None:
    @mixer("q[b, t, d], k[b, s, d], v[b, s, d] -> y[b, t, d]")
    def attend(q, k, v):
        return attention(q, k, v, s, d, where=causal(t, s) & within(t, s, 2)).otherwise(0)

    q, k, v = random(2, 9, 4), random(2, 9, 4, seed=1), random(2, 9, 4, seed=2)
    mask = torch.ones(9, 9, dtype=torch.bool).tril().triu(-2)
    agree(attend, lambda q, k, v: sdpa(q, k, v, attn_mask=mask), q, k, v)


def test_attention_over_a_window_of_two_axes() -> None:
    @mixer("q[h, w, d], k[h, w, d], v[h, w, d] -> y[h, w, d]")
    def attend(q, k, v):
        dh, dw = near("dh dw", 1)
        return attention(q, k[h + dh, w + dw], v[h + dh, w + dw], (dh, dw), d)

    q, k, v = random(5, 4, 3), random(5, 4, 3, seed=1), random(5, 4, 3, seed=2)
    rows = torch.arange(20)
    near_by = ((rows[:, None] // 4 - rows // 4).abs() <= 1) & ((rows[:, None] % 4 - rows % 4).abs() <= 1)

    def official(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = (x.reshape(1, 20, 3) for x in (q, k, v))
        return sdpa(*flat, attn_mask=near_by).reshape(5, 4, 3)

    agree(attend, official, q, k, v, kernels=False)


def test_a_row_without_keys_must_be_given_a_value() -> None:
    with pytest.raises(PlaitError, match="absent"):

        @mixer("q[t, d], k[s, d], v[s, d] -> y[t, d]")
        def attend(q, k, v):
            return attention(q, k, v, s, d, where=s > t)


@pytest.mark.parametrize(("order", "enable"), [("div", True), ("mod", False)])
def test_grouped_queries(order: str, enable: bool) -> None:
    @mixer("q[m, t, d], k[g, s, d], v[g, s, d] -> y[m, t, d]")
    def attend(q, k, v):
        return attention(q, grouped(k, g, m, order=order), grouped(v, g, m, order=order), s, d)

    q, k, v = random(6, 5, 4), random(2, 7, 4), random(2, 7, 4, seed=1)

    def official(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if enable:
            return sdpa(q[None], k[None], v[None], enable_gqa=True)[0]
        return sdpa(q, k.repeat(3, 1, 1), v.repeat(3, 1, 1))

    agree(attend, official, q, k, v, kernels=enable)


def test_key_heads_must_divide_the_heads() -> None:
    @mixer("k[g, s], q[m] -> y[m, s]")
    def shared(k, q):
        return q * grouped(k, g, m)

    with pytest.raises(PlaitError, match="requires"):
        shared(torch.zeros(2, 3), torch.zeros(5))


def test_split_and_merge_are_inverse() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def there_and_back(x):
        m, e = axis("m", 3), axis("e", c.size // 3)
        return merge_heads(split_heads(x, c, m, e), c, m, e)

    x = random(2, 12)
    assert torch.equal(meaning(there_and_back, x), x)
    with pytest.raises(PlaitError, match="requires"):
        meaning(there_and_back, random(2, 13))


@pytest.mark.parametrize(("heads", "bias"), [(2, True), (3, False)])
def test_multi_head_self_attention_is_torchs(heads: int, bias: bool) -> None:
    @mixer("x[b, t, c] -> y[b, t, c]")
    def mixed(x):
        names = ("in_proj_", "out_proj")
        return multi_head_self_attention(
            x, t, c, heads=heads, qkv_bias=bias, out_bias=bias, names=names, name=""
        )

    official = nn.MultiheadAttention(6, heads, bias=bias, batch_first=True)

    class Selfish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, parameter in official.named_parameters():
                if "." not in name:
                    self.register_parameter(name, parameter)
            self.out_proj = official.out_proj

        def forward(self, x: Tensor) -> Tensor:
            state: dict[str, Tensor] = dict(self.named_parameters())
            return torch.func.functional_call(official, state, (x, x, x))[0]

    agree(mixed, Selfish(), random(2, 5, 6), kernels=bias, c=6)


def test_self_attention_of_a_map_with_a_table_of_biases() -> None:
    """Swin's window attention: tokens over two axes, one bias for each offset and head."""

    @mixer("x[b, h, w, c] -> y[b, h, w, c]")
    def mixed(x):
        h2, w2, heads = h.like("h2"), w.like("w2"), axis("m", 2)
        bias = relative_position_bias((h, w), (h2, w2), heads, size=(2, 3), name="")
        return multi_head_self_attention(
            x, (h, w), c, heads=2, bias=bias, keys=(h2, w2), head_axis=heads, name=""
        )

    class Window(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relative_position_bias_table = nn.Parameter(torch.zeros(3 * 5, 2))
            self.qkv, self.proj = nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(-1, 6, 3, 2, 2).permute(2, 0, 3, 1, 4)
            rows, columns = torch.arange(6) // 3, torch.arange(6) % 3
            index = (rows[:, None] - rows + 1) * 5 + columns[:, None] - columns + 2
            bias = self.relative_position_bias_table[index].permute(2, 0, 1)
            y = (q @ k.mT * 2**-0.5 + bias).softmax(-1) @ v
            return self.proj(y.transpose(1, 2).reshape(x.shape))

    agree(mixed, Window(), random(2, 2, 3, 4), c=4)


def test_keys_are_one_axis_for_each_of_the_tokens() -> None:
    with pytest.raises(PlaitError, match="`keys` names 1 axes for 2 of the tokens"):

        @mixer("x[h, w, c] -> y[h, w, c]")
        def wrong(x):
            return multi_head_self_attention(x, (h, w), c, heads=1, keys=h.like(), name="")


# --- positions


def turned(x: Tensor, pairs: str, base: float = 10000.0) -> Tensor:
    """The official rotary embeddings: complex pairs, or LLaMA's halves."""
    places, width = x.shape[-2:]
    angle = torch.arange(places)[:, None] * base ** (-torch.arange(0, width, 2).double() / width)
    if pairs == "interleaved":
        turn = torch.polar(torch.ones_like(angle), angle)
        return torch.view_as_real(
            torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2))) * turn
        ).flatten(-2)
    cosine, sine = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat([-second, first], -1) * sine


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
@pytest.mark.parametrize(("places", "width"), [(7, 6), (1, 2)])
def test_rotary(pairs: str, places: int, width: int) -> None:
    @mixer("x[b, t, d] -> y[b, t, d]")
    def layer(x):
        return rotary(x, d, t, pairs=pairs)

    agree(layer, lambda x: turned(x, pairs), random(2, places, width), kernels=width == 6)


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
def test_rotary_of_the_first_channels(pairs: str) -> None:
    @mixer("x[t, d] -> y[t, d]")
    def layer(x):
        return rotary(x, d, t, pairs=pairs, width=4, base=100.0)

    def official(x: Tensor) -> Tensor:
        return torch.cat([turned(x[..., :4], pairs, 100.0), x[..., 4:]], -1)

    agree(layer, official, random(5, 7), kernels=False)
    agree(layer, official, random(5, 4), kernels=False)


def test_rotary_products_depend_on_the_distance() -> None:
    """q turned by i against k turned by j is q against k turned by j - i (arXiv 2104.09864, equation 16)."""

    @mixer("q[t, d], k[t, d] -> y[t, s]")
    def products(q, k):
        s = t.like("s")
        return (rotary(q, d, t) * rotary(k, d, t)[{t: s}]).sum(d)

    q, k = random(6).expand(5, 6), random(6, seed=1).expand(5, 6)
    found = meaning(products, q, k)
    nearly(found.diagonal(1), found[0, 1].expand(4))


def test_an_odd_number_of_channels_has_no_pairs() -> None:
    @mixer("x[d] -> y[d]")
    def layer(x):
        return rotate_pairs(x, d)

    with pytest.raises(PlaitError, match="requires"):
        layer(torch.zeros(3))


@pytest.mark.parametrize("options", [{"pairs": "split"}, {"width": 3}, {"width": 0}])
def test_rotary_settings_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(PlaitError, match=r"`pairs` is one of|`width` is an even number") as caught:

        @mixer("x[t, d] -> y[t, d]")
        def layer(x):
            return rotary(x, d, t, **options)

    assert "rotary(x, d, t, **options)" in str(caught.value)


def test_a_table_of_biases_in_one_dimension() -> None:
    @mixer("x[t, s] -> y[m, t, s]")
    def biased(x):
        return x + relative_position_bias(t, s, axis("m", 2), size=7, key="table", name="")

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(13, 2))

        def forward(self, x: Tensor) -> Tensor:
            rows, columns = x.shape
            index = torch.arange(rows)[:, None] - torch.arange(columns) + 6
            return x + self.table[index].permute(2, 0, 1)

    agree(biased, Table(), random(5, 7))
    with pytest.raises(PlaitError, match="requires"):
        biased.module()(torch.zeros(8, 2))


@pytest.mark.parametrize("count", [1, 2, 6, 8, 12])
def test_alibi(count: int) -> None:
    @mixer("x[t, s] -> y[m, t, s]")
    def biased(x):
        return x + alibi(t, s, axis("m", count), count=count)

    def slopes(heads: int) -> list[float]:
        """As the official code has them (ofirpress/attention_with_linear_biases, `get_slopes`)."""
        if math.log2(heads).is_integer():
            start = 2.0 ** (-(2.0 ** -(math.log2(heads) - 3)))
            return [start * start**i for i in range(heads)]
        below = 2 ** math.floor(math.log2(heads))
        return slopes(below) + slopes(2 * below)[0::2][: heads - below]

    def official(x: Tensor) -> Tensor:
        distance = (torch.arange(x.shape[0])[:, None] - torch.arange(x.shape[1])).abs()
        return x - torch.tensor(slopes(count), dtype=torch.float64)[:, None, None] * distance

    agree(biased, official, random(5, 7), kernels=count == 6)


@pytest.mark.parametrize(("places", "width"), [(5, 4), (1, 2), (7, 3)])
def test_sinusoidal(places: int, width: int) -> None:
    @mixer("x[t, d] -> y[t, d]")
    def placed(x):
        return x + sinusoidal(t, d)

    def official(x: Tensor) -> Tensor:
        channel = torch.arange(width)
        angle = torch.arange(places)[:, None] * 10000.0 ** (-(channel // 2 * 2).double() / width)
        return x + torch.where(channel % 2 == 0, angle.sin(), angle.cos())

    agree(placed, official, random(places, width), kernels=width == 4)


# --- randomness


@pytest.mark.parametrize("train", [True, False])
def test_dropout(train: bool) -> None:
    @mixer("x[b, c] -> y[b, c]")
    def dropped(x):
        return dropout(x, (b, c), rate=0.25, name="drop")

    keep = (torch.arange(15).reshape(3, 5) % 4 != 0).double()
    draws = {"drop.keep": keep} if train else None
    agree(dropped, lambda x: x * keep / 0.75 if train else x, random(3, 5), train=train, draws=draws)


def test_dropout_draws_as_often_as_it_says() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def dropped(x):
        return dropout(x, (b, c), rate=0.25, name="drop")

    torch.manual_seed(0)
    y = dropped.module(backend="reference").train()(torch.ones(100, 100))
    zero, kept = y.unique()
    assert zero == 0
    nearly(kept, torch.tensor(4 / 3))
    deviation = (0.25 * 0.75 / y.numel()) ** 0.5  # of a share of independent draws
    assert abs((y == 0).double().mean().item() - 0.25) < 5 * deviation


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_cannot_be(rate: float) -> None:
    with pytest.raises(PlaitError, match="`rate` is at least 0 and below 1"):

        @mixer("x[b, c] -> y[b, c]")
        def dropped(x):
            return dropout(x, b, rate=rate, name="drop")


def test_no_draw_at_rate_zero() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def dropped(x):
        return stdlib.drop_path(x, b, rate=0.0, name="drop")

    assert not dropped.program(mode="train").draws


def test_the_library_loads_no_torch() -> None:
    from test_layers import loaded

    assert loaded("import plait.stdlib") == set()
