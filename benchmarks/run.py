"""All benchmarks, one after the other: `python -m benchmarks.run [--save]`."""

from __future__ import annotations

from . import (
    calls,
    circular_attention,
    convnext,
    dilated_attention,
    first_call,
    matrix_product,
    orders,
    phases,
    scores,
    tiles,
    union_attention,
)


def main() -> None:
    circular_attention.main()
    union_attention.main()
    dilated_attention.main()
    scores.main()
    convnext.main()
    tiles.main()
    phases.main()
    matrix_product.main()
    orders.main()
    calls.main()
    first_call.main()


if __name__ == "__main__":
    main()
