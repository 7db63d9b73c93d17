"""The table of operators and their axis rules. After an operator that is not here, the axes are unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from deadrelu.activations import ACTIVATIONS
from deadrelu.programs.axes import indexing, layers, rearranging
from deadrelu.programs.axes.layout import Layout
from deadrelu.programs.axes.operator_call import OperatorCall
from deadrelu.programs.axes.pointwise import broadcast, pointwise

AxisRule = Callable[[OperatorCall], "Layout | Sequence[Layout | None] | None"]
"""Returns one layout for all outputs, or one for each."""


def copy(call: OperatorCall) -> Layout | None:
    """`copy_`: the axes of the source, broadcast."""
    source = call.get("src")
    layout = call.known(source)
    return broadcast([(source.shape, layout)], (), call.out.shape) if layout else call.known(call.get("self"))


def max_or_min(call: OperatorCall) -> Layout | Sequence[Layout | None] | None:
    """`max` and `min`: of two tensors, or along an axis."""
    return pointwise(call) if "other" in call.arguments else rearranging.reduce(call)


def constant(call: OperatorCall) -> None:  # noqa: ARG001  a rule
    """New values: only their dtype and device come from the input."""
    return


def _by_name(rules: Mapping[AxisRule, str]) -> dict[str, AxisRule]:
    """The rules by the names of their operators."""
    return {name: rule for rule, names in rules.items() for name in names.split()}


_MAKERS = _by_name(
    {
        layers.matrix_product: "mm addmm bmm baddbmm addbmm mv addmv matmul addmm_activation int_mm scaled_mm",
        layers.linear: "linear bilinear trilinear mkldnn_linear sparse_mm sparse_addmm transformer_encoder_layer_fwd"
        " native_multi_head_attention weight_int4pack_mm weight_int4pack_mm_for_cpu weight_int8pack_mm",
        layers.layer_norm: "layer_norm native_layer_norm rms_norm fused_rms_norm",
        layers.embedding: "embedding embedding_bag embedding_bag_forward_only",
        layers.recurrent: "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer"
        " thnn_fused_lstm_cell thnn_fused_gru_cell cudnn_rnn miopen_rnn lstm_mps quantized_lstm quantized_gru"
        " quantized_lstm_cell quantized_gru_cell quantized_rnn_relu_cell quantized_rnn_tanh_cell",
        layers.attention: "scaled_dot_product_attention scaled_dot_product_flash_attention"
        " scaled_dot_product_flash_attention_for_cpu scaled_dot_product_efficient_attention"
        " scaled_dot_product_cudnn_attention scaled_dot_product_attention_math"
        " scaled_dot_product_fused_attention_overrideable",
    }
)
"""Operators that make features."""

_CONVOLUTIONS = (
    "convolution",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "conv_depthwise",
    "conv_dilated",
    "conv_tbc",
)
_CHANNEL_NORMS = ("batch_norm", "group_norm", "instance_norm")
_LIBRARIES = ("native_", "_native_", "cudnn_", "miopen_")

_OTHERS = _by_name(
    {
        rearranging.keep: "clone contiguous detach alias lift lift_fresh to to_copy type_as data lazy_clone conj probe"
        " resolve_conj resolve_neg neg_view real imag fw_primal zeros_like ones_like full_like empty_like rand_like"
        " randn_like randint_like fill zero normal uniform bernoulli exponential random log_normal cauchy geometric"
        " poisson dropout native_dropout feature_dropout alpha_dropout feature_alpha_dropout fused_dropout nan_to_num"
        " rrelu_with_noise"
        " log_sigmoid_forward prelu_kernel softmax log_softmax safe_softmax masked_softmax cumsum cumprod logcumsumexp"
        " cummax cummin flip fliplr flipud roll rot90 tril triu renorm masked_scatter diff slice narrow split"
        " split_with_sizes chunk tensor_split hsplit vsplit dsplit unsafe_split unsafe_split_with_sizes unsafe_chunk"
        " constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d"
        " replication_pad3d glu fft_r2c fft_c2c fft_c2r channel_shuffle native_channel_shuffle quantize_per_tensor"
        " quantize_per_tensor_dynamic quantize_per_channel dequantize int_repr saturate_weight_to_fp16"
        " fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask"
        " fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
        rearranging.pool: "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d"
        " adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"
        " max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d"
        " fractional_max_pool2d fractional_max_pool3d mkldnn_max_pool2d mkldnn_max_pool3d mkldnn_adaptive_avg_pool2d"
        " quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d upsample_nearest1d upsample_nearest2d"
        " upsample_nearest3d upsample_nearest_exact1d upsample_nearest_exact2d upsample_nearest_exact3d"
        " upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d upsample_bilinear2d_aa"
        " upsample_bicubic2d_aa upsample_lanczos2d_aa",
        rearranging.reshape: "view unsafe_view reshape reshape_alias reshape_as view_as flatten unflatten ravel"
        " mkldnn_reshape atleast_1d atleast_2d atleast_3d",
        rearranging.squeeze: "squeeze",
        rearranging.unsqueeze: "unsqueeze",
        rearranging.transpose: "t transpose swapaxes swapdims adjoint mkldnn_transpose",
        rearranging.permute: "permute",
        rearranging.expand: "expand expand_as broadcast_to",
        rearranging.repeat: "repeat tile",
        rearranging.repeat_interleave: "repeat_interleave",
        rearranging.select: "select unbind",
        rearranging.diagonal: "diagonal",
        rearranging.concatenate: "cat concat concatenate",
        rearranging.stack: "stack",
        rearranging.reduce: "sum mean amax amin aminmax prod std var std_mean var_mean norm nansum nanmean"
        " linalg_vector_norm linalg__powsum native_norm logsumexp argmax argmin median nanmedian mode kthvalue"
        " count_nonzero quantile nanquantile any all",
        max_or_min: "max min",
        rearranging.unfold: "unfold",
        rearranging.pixel_shuffle: "pixel_shuffle pixel_unshuffle",
        rearranging.im2col: "im2col",
        rearranging.col2im: "col2im",
        rearranging.grid_sample: "grid_sampler grid_sampler_2d grid_sampler_3d",
        rearranging.pack_sequence: "pack_padded_sequence",
        rearranging.pad_sequence: "pad_packed_sequence to_padded_tensor",
        indexing.index: "index unsafe_index",
        indexing.index_select: "index_select",
        indexing.gather: "gather take_along_dim",
        indexing.sort: "sort topk argsort msort",
        indexing.nonzero: "nonzero nonzero_static multinomial bucketize searchsorted",
        indexing.scatter: "scatter scatter_add scatter_reduce index_add index_copy index_fill index_reduce",
        indexing.index_put: "index_put index_put_impl unsafe_index_put",
        indexing.slice_scatter: "slice_scatter select_scatter diagonal_scatter as_strided_scatter",
        layers.cdist: "cdist cdist_forward euclidean_dist",
        copy: "copy",
        constant: "new_empty new_zeros new_ones new_full new_empty_strided",
    }
)
"""Operators that keep, move, pick or end the axes of their inputs."""

_POINTWISE = frozenset(
    {"absolute", "arccos", "arcsin", "arctan", "arctan2", "clip", "complex", "copysign", "divide", "fix", "isclose"}
    | {"floor_divide", "greater", "greater_equal", "isin", "isreal", "less", "less_equal", "log_sigmoid"}
    | {"masked_fill", "multiply", "negative", "not_equal", "polar", "subtract", "where", "and", "or", "xor"}
    | {
        "add_relu",
        "mul_relu",
        *(name.strip("_") for kind in ACTIVATIONS for name in kind.operators if not kind.is_gated),
    }
)
"""Elementwise operators that torch does not tag as pointwise."""


BY_ROWS = frozenset(
    {pointwise, rearranging.keep, rearranging.pad_sequence, layers.linear, layers.layer_norm, layers.embedding}
)
"""The rules that hold for the rows `(sum of lengths, F)` of jagged sequences as they do for `(N, T, F)`."""


def makes_features(name: str) -> bool:
    """Whether the operator of this name (without namespace and overload) makes the features of its output."""
    return _maker(name) is not None


@cache
def _maker(name: str) -> AxisRule | None:
    bare = name
    for library in _LIBRARIES:
        bare = bare.removeprefix(library)
    if any(key in bare for key in _CONVOLUTIONS):
        return layers.convolution
    if any(key in bare for key in _CHANNEL_NORMS):
        return layers.channel_norm
    bare = bare.strip("_")
    found = _MAKERS.get(bare) or _MAKERS.get(name.strip("_"))
    # Quantised and fused layers: linear_relu, linear_dynamic, linear_pointwise.
    return layers.linear if found is None and bare.startswith("linear_") and "combination" not in bare else found


@cache
def rule_of(function: Any) -> tuple[AxisRule | None, bool]:
    """The rule of an operator (None if it is unknown), and whether it makes features even from constants."""
    name = function.overloadpacket.__name__
    maker = _maker(name)
    if maker is not None:
        return maker, True
    bare = name.strip("_")
    for known in (bare, bare.removesuffix("_copy")):
        if known in _OTHERS:
            return _OTHERS[known], False
    return (pointwise, False) if _is_pointwise(function, name) else (None, False)


def _is_pointwise(function: Any, name: str) -> bool:
    """Whether torch tags the operator as pointwise. In-place operators lack the tag, so check their twin."""
    if torch.Tag.pointwise in function.tags:
        return True
    packet = getattr(torch.ops.aten, name.rstrip("_"), None) if function.namespace == "aten" else None
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []
    return any(torch.Tag.pointwise in overload.tags for overload in overloads) or name.strip("_") in _POINTWISE
