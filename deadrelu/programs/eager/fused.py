"""The operators that compute a layer and its ReLU in one, so that only the output exists and no pre-activation.

Their output is max(z, 0) on its quantisation grid. So a unit fires (z > 0, with z rounded to the same grid as in the
unfused network) exactly where the output is above its zero point. Only how far a silent unit is below zero is lost.
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
"""Not a fused ReLU despite `relu` in the name: two that leak, and one whose input is a pre-activation."""


def gives_rectified(namespace: str, name: str) -> bool:
    """Whether the output of the operator `namespace::name` is that of its fused ReLU."""
    return namespace == "quantized" and name in _RECTIFIED


def hides_relu(namespace: str, name: str) -> bool:
    """Whether the operator seems to hold a fused ReLU that cannot be measured."""
    if gives_rectified(namespace, name) or namespace not in _LIBRARIES:
        return False
    return "relu" in name and not any(other in name for other in _OTHERS)
