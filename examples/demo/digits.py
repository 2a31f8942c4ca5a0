"""Step 4: a small classifier whose every block is a plait module, trained on scikit-learn's handwritten digits.

Windows of 4 x 4 pixels, two apart, become 16 tokens; two rounds of circular attention and a channel MLP mix them;
their mean is classified. PyTorch does what it always does: the loss, the optimiser, the loop.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from examples.circular_attention import circular_attention
from plait import axes, axis, mixer, param, span, trunc_normal
from plait.stdlib import layer_norm, linear, mlp, silu

from . import screen

b, y, x, h, w, c, d = axes("b y x h w c d")

WIDTH, HEADS, RADIUS = 32, 4, 3
EPOCHS, BATCH, RATE = 20, 64, 6e-3
TRAINING = 1437
"""Of the 1797 images; the other 360 are the test."""
WANTED = 0.96

BEGIN = trunc_normal(0.15)


@mixer("image[b, y, x] -> token[b, h, w, c]")
def embed(image):
    """Overlapping windows of 4 x 4 pixels, two apart, and a vector for each place."""
    h, w = axis("h", y.size // 2), axis("w", x.size // 2)
    i, j = span("i", -1, 3), span("j", -1, 3)
    seen = image[{y: 2 * h + i, x: 2 * w + j}].otherwise(0)
    token = (param("weight", c, i, j, init=trunc_normal(0.3)) * seen).sum(i, j)
    return token + param("place", c, h, w, init=trunc_normal(0.3))


@mixer("token[b, h, w, c] -> mixed[b, h, w, c]")
def attend(token):
    """x + project(attention(norm(x))): a mixer with parameters around one without."""
    m, n = axis("m", HEADS), axis("n", c.size // HEADS)
    u = layer_norm(token, c, name="norm")
    q, k, v = (linear(u, c, (m, n), bias=False, init=BEGIN, name=key) for key in ("query", "key", "value"))
    seen = circular_attention(q, k, v, radius=RADIUS, axes={d: n})
    return token + linear(seen, (m, n), c, init=BEGIN, name="project")


@mixer("token[b, h, w, c] -> mixed[b, h, w, c]")
def think(token):
    """x + MLP(norm(x)), each token by itself."""
    u = layer_norm(token, c, name="norm")
    return token + mlp(u, c, axis("e", 2 * c.size), activation=silu, init=BEGIN, name="mlp")


@mixer("token[b, h, w, c] -> score[b, digit]")
def classify(token):
    """The mean of all tokens as ten scores."""
    return linear(layer_norm(token, c, name="norm").mean(h, w), c, axis("digit", 10), init=BEGIN, name="fc")


def network() -> nn.Sequential:
    """image [b, 8, 8] -> scores [b, 10]."""
    mixing = [each.module(c=WIDTH) for _ in range(2) for each in (attend, think)]
    return nn.Sequential(embed.module(c=WIDTH, y=8, x=8), *mixing, classify.module(c=WIDTH))


def images() -> tuple[Tensor, Tensor]:
    """The images [n, 8, 8] in -1 .. 1 and their digits, in an order that is always the same."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels, dtype=torch.float32)[order].view(-1, 8, 8) / 8 - 1, torch.tensor(digits)[
        order
    ]


def shifted(batch: Tensor) -> Tensor:
    """Half of the images moved by up to one pixel, since a digit is the same digit there."""
    down, right = torch.randint(-1, 2, (2, len(batch), 1, 1)) * torch.randint(0, 2, (len(batch), 1, 1))
    rows, columns = torch.arange(8)[:, None] + down, torch.arange(8) + right
    inside = (rows >= 0) & (rows < 8) & (columns >= 0) & (columns < 8)
    moved = batch[torch.arange(len(batch))[:, None, None], rows.clamp(0, 7), columns.clamp(0, 7)]
    return moved.where(inside, -1.0)


def accuracy(net: nn.Module, data: Tensor, digits: Tensor) -> float:
    with torch.no_grad():
        return (net(data).argmax(1) == digits).double().mean().item()


def train(net: nn.Module, data: Tensor, digits: Tensor, epochs: int) -> None:
    """AdamW with one cycle of learning rates, under a bar of progress."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    steps = epochs * (len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    with screen.bar() as bar:
        task = bar.add_task("training", total=steps, note="building the kernels")
        for _ in range(epochs):
            for chosen in torch.randperm(len(data))[: steps // epochs * BATCH].split(BATCH):
                loss = cross_entropy(net(shifted(data[chosen])), digits[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.update(task, advance=1, note=f"loss {loss.item():.3f}")


def run(out: Path) -> str:
    """Train, test, and hold the accuracy."""
    torch.manual_seed(0)
    data, digits = images()
    net = network()
    count = sum(each.numel() for each in net.parameters())
    screen.say(f"  {count:,} parameters, {TRAINING} images of 8 x 8 pixels, {EPOCHS} times over")
    train(net, data[:TRAINING], digits[:TRAINING], EPOCHS)
    reached = accuracy(net, data[TRAINING:], digits[TRAINING:])
    screen.say(f"  {reached:.1%} of {len(data) - TRAINING} images that it never saw are named right")
    assert reached >= WANTED, f"the test accuracy is {reached:.1%}, and {WANTED:.0%} is wanted"
    return f"a classifier of its blocks learned handwritten digits to {reached:.1%}"
