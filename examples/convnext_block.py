"""A whole block with parameters: ConvNeXt, beside the same in torch.nn under the official names.

What you learn: `param` and the layers of `plait.stdlib`; a module owns the parameters under their declared names, so a
published state_dict loads; a value is what it is over, so nothing is permuted between the convolution and the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plait import axes, axis, mixer
from plait.stdlib import depthwise_convolution, layer_norm, layer_scale, mlp

b, c, h, w = axes("b c h w")


@mixer("x[b, c, h, w] -> y[b, c, h, w]")
def block(x):
    """Depthwise 7 x 7, norm and MLP over the channels, a scale, and the way round (arXiv 2201.03545)."""
    u = depthwise_convolution(x, c, (h, w), 7, name="dwconv")
    u = layer_norm(u, c, eps=1e-6, name="norm")
    u = mlp(u, c, axis("e", 4 * c.size), names=("pwconv1", "pwconv2"), name="")
    return x + layer_scale(u, c, init=1e-6, name="")


class Official(nn.Module):
    """The block as one writes it in torch.nn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        u = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        u = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(u)))
        return x + u.permute(0, 3, 1, 2)


def main() -> None:
    torch.manual_seed(0)
    official, ours = Official(24), block.module(c=24)
    print(ours.load_state_dict(official.state_dict()))
    x = torch.randn(2, 24, 15, 13)
    y, wanted = ours(x), official(x)
    slopes = torch.autograd.grad(y.square().sum(), list(ours.parameters()))
    found = dict(zip(dict(ours.named_parameters()), slopes, strict=True))
    theirs = torch.autograd.grad(wanted.square().sum(), list(official.parameters()))
    error = (y - wanted).abs().max().item()
    names = dict(official.named_parameters())
    worst = max(
        ((found[name] - each).norm() / each.norm()).item() for name, each in zip(names, theirs, strict=True)
    )
    print(f"difference from torch.nn: {error:.1e}; of the gradients of {len(found)} parameters: {worst:.1e}")
    assert error < 1e-5
    assert worst < 1e-4


if __name__ == "__main__":
    main()
