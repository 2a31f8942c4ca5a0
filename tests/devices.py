"""The device that Triton kernels run on here, and tensors that lie there as they lay elsewhere.

That is the GPU; in a process under TRITON_INTERPRET=1 it is the CPU, where the same tests interpret the kernels:

    TRITON_INTERPRET=1 pytest tests/test_gpu.py -m gpu -k attention

There bfloat16 results miss their bounds by a factor of two, since Triton's interpreter truncates to them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from plait.compiler.meaning.partial import DTYPES
from strategies import Example

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def placed(tensor: Tensor, dtype: torch.dtype | None = None, device: torch.device = DEVICE) -> Tensor:
    """The numbers in the same strides on the device: what overlaps, is sliced or is expanded stays so."""
    memory = torch.empty(0, dtype=tensor.dtype).set_(tensor.detach().untyped_storage())
    there = memory.to(device, dtype or tensor.dtype)
    return there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def there(tensor: Tensor) -> Tensor:
    """`placed`, in the tensor's own dtype."""
    return placed(tensor)


def as_stored(example: Example, dtype: torch.dtype) -> Example:
    """The example with its real tensors rounded to a dtype, complex ones to that of such parts."""
    cpu = torch.device("cpu")
    wide = torch.complex128 if dtype == torch.float64 else DTYPES["complex"]
    tensors = {
        name: placed(each, wide if each.is_complex() else dtype, cpu)
        if each.is_complex() or each.is_floating_point()
        else each
        for name, each in example.tensors.items()
    }
    return replace(example, tensors=tensors)
