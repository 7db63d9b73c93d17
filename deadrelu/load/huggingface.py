"""Open a Hugging Face folder: the architecture from its config.json, by transformers' own code, and its weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deadrelu.errors import ArchitectureError, FileError
from deadrelu.load.extras import extra
from deadrelu.load.flat import read_safetensors
from deadrelu.load.held import held
from deadrelu.load.pretrained import class_of, config_of
from deadrelu.load.sniff import FileKind, refusal, sniff
from deadrelu.load.unpickling.inert import read_tree
from deadrelu.load.weights import shortened, states_in
from deadrelu.programs.code import blame
from deadrelu.programs.packages import explain_imports

_NAMES = ("model.safetensors", "pytorch_model.bin")


def open_folder(folder: Path, arguments: Mapping[str, object]) -> nn.Module:
    """The model in `folder`, with `arguments` set in its config; `trust_remote_code` is never given.

    Raises `ArchitectureError` if transformers lacks the architecture or the weights do not fit it, `TrustError` if the
    config asks for other code, `FileError` if a weights file is missing or damaged.
    """
    config = config_of(folder, arguments)
    code = class_of(config, folder)
    state: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        state.update(_read(file))
    try:
        with _quiet(), explain_imports("transformers", ArchitectureError):
            made = code.from_pretrained(
                None,
                config=config,
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # only so that they are listed: `_check` refuses them
                trust_remote_code=False,
            )
    except ArchitectureError:
        raise
    except Exception as error:
        raise ArchitectureError(
            f"the weights in {folder} do not fit its config.json: {blame(error)}", hint="download the folder again"
        ) from error
    model, loading = made
    assert isinstance(model, nn.Module)
    _check(folder, code.__name__, loading)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and printing reports: what does not fit is said here, once."""
    logging = extra("transformers").utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check(folder: Path, code: str, loading: Mapping[str, Any]) -> None:
    """Refuse weights that do not fit: what transformers itself lets pass as harmless has been left out of `loading`."""
    # Names alone: transformers describes a mismatch by a tuple of name and shapes.
    named = {
        what: sorted(str(key[0] if isinstance(key, tuple) else key) for key in loading.get(f"{kind}_keys", ()))
        for kind, what in (("missing", "missing"), ("unexpected", "unexpected"), ("mismatched", "of another shape"))
    }
    said = "; ".join(f"{len(keys)} {what}: {shortened(keys)}" for what, keys in named.items() if keys)
    if not said:
        return
    hint = "download the folder again"
    if named["unexpected"] and not named["missing"] and not named["of another shape"]:
        hint = f"they were saved from another class than {code}: name it with --arch-arg architectures='[\"NAME\"]'"
    raise ArchitectureError(f"the weights in {folder} do not fit its config.json: {said}", hint=hint)


def _weight_files(folder: Path) -> list[Path]:
    """The weight files in `folder`: one, or the shards that an index lists."""
    for name in _NAMES:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    named = sorted(folder.glob("*.safetensors"))
    if len(named) == 1:
        return named
    raise FileError(f"{folder} has no {' or '.join(_NAMES)}, nor an index of shards", hint="download the folder again")


def _shards(index: Path) -> list[Path]:
    """The files that an index lists. They lie beside it: a path that leads elsewhere is refused."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{index} is not an index of shards: {error}", hint="download it again") from error
    if any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise FileError(f"{index} names files outside of its folder", hint="download it again")
    return [index.parent / name for name in names]


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of one weights file, whichever format it has."""
    kind = sniff(file)
    if kind is FileKind.SAFETENSORS:
        return read_safetensors(file)
    if kind not in (FileKind.TORCH_ZIP, FileKind.LEGACY):
        raise refusal(kind, file)
    with held(file) as origin:
        states = states_in(read_tree(origin, kind).root)
    if "" not in states:
        raise FileError(f"{file} holds no state dict", hint="download it again")
    return states[""]
