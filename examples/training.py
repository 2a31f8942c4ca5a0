"""Training: a module learns which token of the past to copy, and its weights say that it found out.

What you learn: a module is an ordinary nn.Module. PyTorch's optimisers, losses and loops work as they are; the gradient
of a mixer is derived from its program, and parameters begin as `init` says.
"""

from __future__ import annotations

import torch
from torch import nn

from plait import axes, mixer, normal, param, softmax, span

b, t, d = axes("b t d")


@mixer("x[b, t, d] -> y[b, t, d]")
def recall(x, *, past: int = 7):
    """A mixture of the tokens before this one, weighed by how long ago they were."""
    ago = span("ago", 0, past + 1)
    weight = softmax(param("score", ago, init=normal(0.0, 0.1)), over=ago)
    return (weight * x[t - ago].otherwise(0)).sum(ago)


@mixer("x[b, t, d] -> y[b, t, d]")
def project(x):
    """A matrix over the channels of each token; c is a copy of d for the summed side."""
    c = d.like("c")
    return (param("weight", d, c, init=normal(0.0, 0.3)) * x[{d: c}]).sum(c)


def main() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(recall.module(), project.module(d=4))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    for step in range(200):
        x = torch.randn(16, 20, 4)
        wanted = torch.zeros_like(x)
        wanted[:, 3:] = x[:, :-3] @ turn.T
        loss = (net(x) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step:3}: loss {loss.item():.4f}")
    learned = net.state_dict()
    weight = learned["0.score"].softmax(0)
    error = (learned["1.weight"] - turn).abs().max().item()
    print(
        f"it copies from {weight.argmax()} tokens ago (weight {weight.max():.3f}), turned right to {error:.1e}"
    )
    assert weight.argmax() == 3
    assert loss.item() < 1e-2


if __name__ == "__main__":
    main()
