"""What a transformers model takes, read from its config: token ids, pixels, sound; and what its decoder gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.data.batches import Batches, Notes
from deadrelu.data.shapes import InputShape
from deadrelu.programs.program import Batch, Program

_LENGTHS = (16, 8, 4)
_SPECIAL = ("pad", "bos", "eos", "sep", "cls", "mask", "unk", "decoder_start", "forced_bos", "forced_eos")
_SIDE = 224
_SOUND = 4000


def candidates_from_config(program: Program) -> Iterator[Mapping[str, InputShape]]:
    """What the model may take, by keyword, best first; nothing for a model that is not one of transformers'."""
    model = _pretrained(program)
    if model is None:
        return
    for length in _LENGTHS:
        inputs = dict(_inputs(model, program, length))
        if inputs:
            yield inputs


def completed(batches: Batches, program: Program) -> Batches:
    """The same batches, each completed for an encoder–decoder model (`complete`), which is noted once."""
    notes = Notes()
    return replace(batches, start=lambda shard: (complete(batch, program, notes) for batch in batches.start(shard)))


def complete(batch: Batch, program: Program, notes: Notes | None = None) -> Batch:
    """The batch with `decoder_input_ids` (N, T) where the model needs them and they are missing.

    They are what a model is trained with to copy its input: the input ids one place later, after the token that starts
    the decoder; so `attention_mask` holds for them too. Without input ids the decoder gets its start alone.
    """
    model = _pretrained(program)
    given = dict(zip(program.parameter_names, batch.args, strict=False)) | dict(batch.kwargs)
    if model is None or not getattr(model.config, "is_encoder_decoder", False):
        return batch
    if "decoder_input_ids" not in program.parameter_names or {"decoder_input_ids", "decoder_inputs_embeds"} & {*given}:
        return batch
    start = _start_token(model.config)
    more = _decoder_inputs(batch.samples, given, start, masked="decoder_attention_mask" in program.parameter_names)
    if notes is not None:
        rest = "the input ids, one place later" if "input_ids" in given else "nothing else"
        notes.say(f"no decoder_input_ids were given: the decoder gets its start, token {start}, and then {rest}")
    return replace(batch, kwargs={**batch.kwargs, **more})


def _decoder_inputs(samples: int, given: Mapping[str, Any], start: int, *, masked: bool) -> dict[str, Tensor]:
    """What the decoder gets: its ids, and with `masked` also the mask that holds for them, where there is one."""
    ids, mask = given.get("input_ids"), given.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        return {"decoder_input_ids": torch.full((samples, 1), start, dtype=torch.int64)}
    shifted = torch.full_like(ids, start)
    shifted[:, 1:] = ids[:, :-1]
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        return {"decoder_input_ids": shifted}
    # Padding on the left: the sentence starts where its first real token stands.
    shifted[:, 1:] = shifted[:, 1:].where(mask[:, :-1] != 0, start)
    if masked and "decoder_attention_mask" not in given:
        return {"decoder_input_ids": shifted, "decoder_attention_mask": mask.clone()}
    return {"decoder_input_ids": shifted}


def _pretrained(program: Program) -> Any | None:
    """The model of the program if it is one of transformers'; known by what every such model has."""
    root = next((module for path, module in program.modules() if path == ""), None)
    config = getattr(root, "config", None)
    named = isinstance(getattr(root, "main_input_name", None), str) and hasattr(config, "model_type")
    return root if named and isinstance(root, nn.Module) else None


def _inputs(model: Any, program: Program, length: int) -> Iterator[tuple[str, InputShape]]:
    """The inputs by name; token sequences have `length` tokens."""
    config, main = model.config, model.main_input_name
    names = program.parameter_names
    if main == "input_ids":
        yield main, _ids(model, config, length)
    elif main == "input_features" and hasattr(config, "num_mel_bins"):
        yield main, InputShape((config.num_mel_bins, 2 * getattr(config, "max_source_positions", length)))
    elif main == "input_values":
        yield main, InputShape((_SOUND,))
    if "pixel_values" in names and (main == "pixel_values" or hasattr(config, "vision_config")):
        yield "pixel_values", _pixels(getattr(config, "vision_config", config))
    if main != "input_ids" and getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in names:
        yield "decoder_input_ids", _ids(model, getattr(config, "decoder", config), length)


def _ids(model: Any, config: Any, length: int) -> InputShape:
    """Token ids within the vocabulary, ordinary ones; of an encoder–decoder's input the last one ends the sequence."""
    text = getattr(config, "encoder", None) or getattr(config, "text_config", None) or config
    sizes = [getattr(text, "vocab_size", None), *_embedded(model)]
    vocabulary = min(size for size in sizes if isinstance(size, int) and size > 0)
    limits = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_target_positions")]
    for limit in limits:
        length = min(length, limit) if isinstance(limit, int) and limit > 0 else length
    special = {token for name in _SPECIAL for token in _tokens(text, f"{name}_token_id") if token < vocabulary}
    ends = [token for token in _tokens(text, "eos_token_id") if token < vocabulary]
    end = ends[0] if ends and getattr(config, "is_encoder_decoder", False) else None
    barred = tuple(sorted(special)) if len(special) < vocabulary else ()
    return InputShape((length,), vocabulary, barred=barred, end=end)


def _embedded(model: Any) -> Iterator[int]:
    """How many tokens the model's own embedding knows, where it says."""
    try:
        size = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (NotImplementedError, AttributeError):
        return
    if size is not None:
        yield int(size)


def _pixels(config: Any) -> InputShape:
    """An image as the config describes it: one number for the side, or a pair (height, width)."""
    size = getattr(config, "image_size", None) or _SIDE
    if isinstance(size, Mapping):
        size = (size.get("height", _SIDE), size.get("width", _SIDE))
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return InputShape((getattr(config, "num_channels", None) or 3, height, width))


def _tokens(config: Any, name: str) -> tuple[int, ...]:
    """The ids of a special token; some models have several for one purpose."""
    value = getattr(config, name, None)
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(v for v in values if isinstance(v, int) and v >= 0)


def _start_token(config: Any) -> int:
    """The token with which the decoder starts, as transformers chooses it."""
    decoder = getattr(config, "decoder", config)
    for source in (config, decoder):
        for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
            if found := _tokens(source, name):
                return found[0]
    return 0
