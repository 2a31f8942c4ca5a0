"""The standard library: layers as plain functions over values and axes, and the operators of the papers.

A layer that declares parameters takes `name=`, under which their keys stand (`""` adds none). docs/stdlib.md lists
every layer with its law. Importing this loads no torch; `from_official` does, when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .activations import elu as elu
from .activations import gelu as gelu
from .activations import hardsigmoid as hardsigmoid
from .activations import hardswish as hardswish
from .activations import leaky_relu as leaky_relu
from .activations import mish as mish
from .activations import prelu as prelu
from .activations import relu as relu
from .activations import relu6 as relu6
from .activations import selu as selu
from .activations import sigmoid as sigmoid
from .activations import silu as silu
from .activations import softplus as softplus
from .activations import squared_relu as squared_relu
from .activations import star_relu as star_relu
from .activations import tanh as tanh
from .attention import attention as attention
from .attention import grouped as grouped
from .attention import merge_heads as merge_heads
from .attention import multi_head_self_attention as multi_head_self_attention
from .attention import split_heads as split_heads
from .catalogue import Operator as Operator
from .catalogue import catalogue as catalogue
from .convolutions import convolution as convolution
from .convolutions import depthwise_convolution as depthwise_convolution
from .convolutions import transposed_convolution as transposed_convolution
from .convolutions import transposed_size as transposed_size
from .convolutions import window_size as window_size
from .convolutions import windows as windows
from .linears import gated_mlp as gated_mlp
from .linears import geglu as geglu
from .linears import glu as glu
from .linears import linear as linear
from .linears import mlp as mlp
from .linears import pointwise_convolution as pointwise_convolution
from .linears import squeeze_excitation as squeeze_excitation
from .linears import swiglu as swiglu
from .norms import batch_norm as batch_norm
from .norms import group_norm as group_norm
from .norms import instance_norm as instance_norm
from .norms import l2_normalize as l2_normalize
from .norms import layer_norm as layer_norm
from .norms import layer_scale as layer_scale
from .norms import rms_norm as rms_norm
from .norms import standardize as standardize
from .pooling import adaptive_average_pool as adaptive_average_pool
from .pooling import average_pool as average_pool
from .pooling import global_average_pool as global_average_pool
from .pooling import max_pool as max_pool
from .positions import alibi as alibi
from .positions import causal as causal
from .positions import relative_position_bias as relative_position_bias
from .positions import rotary as rotary
from .positions import rotate_pairs as rotate_pairs
from .positions import sinusoidal as sinusoidal
from .positions import within as within
from .resampling import interpolate as interpolate
from .resampling import patch_embedding as patch_embedding
from .resampling import pixel_shuffle as pixel_shuffle
from .resampling import pixel_unshuffle as pixel_unshuffle
from .stochastic import drop_path as drop_path
from .stochastic import dropout as dropout

if TYPE_CHECKING:
    from .official import from_official as from_official


def __getattr__(name: str) -> object:
    if name != "from_official":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(".official", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), "from_official"})
