"""The operators that compute a layer and its ReLU in one: the pre-activation never exists, but what is left of it does.

What such an operator gives out is max(z, 0) on the grid of the output, so that a unit fires (z > 0, as the unfused
quantised network would round z to the same grid) exactly where the output is above zero, which is its zero point. Only
how far below zero a silent unit stays is lost.
"""

from __future__ import annotations

_RECTIFIED = frozenset(
    {
        *(f"conv{n}d_relu" for n in (1, 2, 3)),
        *("conv2d_add_relu", "linear_relu", "linear_relu_dynamic", "linear_relu_dynamic_fp16"),
        *("batch_norm_relu", "batch_norm1d_relu", "batch_norm2d_relu", "batch_norm3d_relu"),
        *("add_relu", "add_scalar_relu", "mul_relu", "mul_scalar_relu", "cat_relu"),
    }
)
_LIBRARIES = ("quantized", "onednn", "mkldnn", "mkldnn_prepacked", "xnnpack", "prepacked")
_OTHERS = ("leaky_relu", "prelu", "relu6")
"""What has `relu` in its name and is none: two that leak, and one that takes its pre-activation as an argument."""


def gives_rectified(namespace: str, name: str) -> bool:
    """Whether the operator `namespace::name` gives out what its fused ReLU leaves, and nothing else."""
    return namespace == "quantized" and name in _RECTIFIED


def hides_relu(namespace: str, name: str) -> bool:
    """Whether the operator seems to hold a ReLU of which nothing certain is known."""
    if gives_rectified(namespace, name) or namespace not in _LIBRARIES:
        return False
    return "relu" in name and not any(other in name for other in _OTHERS)
