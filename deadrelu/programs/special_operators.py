"""Operators that need special care: those that compute a layer and its ReLU in one, and those with a training flag.

A fused operator has an output, but no pre-activation. The output of those in `gives_rectified` is max(z, 0) on its
quantisation grid. So a unit fires (z > 0, with z rounded to the same grid as in the unfused network) exactly where the
output is above its zero point. Only how far a silent unit is below zero is lost.
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
FUSED = ("_transformer_encoder_layer_fwd", "_addmm_activation", "rnn_relu")
"""The operators of torch itself in which an activation may be fused."""

TRAINING_FLAGS = {
    **dict.fromkeys(("batch_norm", "native_batch_norm"), 5),
    **dict.fromkeys(("_native_batch_norm_legit", "_native_batch_norm_legit_functional"), 5),
    **dict.fromkeys(("dropout", "native_dropout", "feature_dropout"), 2),
}
"""The position of the training flag in the arguments of an operator."""

RECURRENT = ("sigmoid", "tanh")
"""The activations that the gates of an LSTM or a GRU are made of. The user does not call them."""

_LIBRARIES = ("quantized", "onednn", "mkldnn", "mkldnn_prepacked", "xnnpack", "prepacked")
_OTHERS = ("leaky_relu", "prelu", "relu6")
"""Not a fused ReLU despite `relu` in the name: two that leak, and one whose input is a pre-activation."""


def fused_reason(operator: str) -> str:
    """Why a ReLU that is fused into this operator is skipped."""
    return f"fused into {operator}: its pre-activation is never formed"


def gives_rectified(namespace: str, name: str) -> bool:
    """Whether the output of the operator `namespace::name` is that of its fused ReLU."""
    return namespace == "quantized" and name in _RECTIFIED


def hides_relu(namespace: str, name: str) -> bool:
    """Whether the operator seems to hold a fused ReLU that cannot be measured."""
    if gives_rectified(namespace, name) or namespace not in _LIBRARIES:
        return False
    return "relu" in name and not any(other in name for other in _OTHERS)
