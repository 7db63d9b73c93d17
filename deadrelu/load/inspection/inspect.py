"""What is in a model file, for `deadrelu inspect`: told for every kind of file, and nothing in it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deadrelu.errors import ArchitectureError, DeadreluError, FileError, TrustError, UsageError
from deadrelu.load import sharded_contents
from deadrelu.load.architecture.hyper import HyperParameters, hyper_parameters
from deadrelu.load.checkpoint import open_checkpoint
from deadrelu.load.flat import read_header
from deadrelu.load.held import held, unchanged
from deadrelu.load.inspection.export import read_exported
from deadrelu.load.inspection.script import read_torchscript
from deadrelu.load.members import Archive, asked_code
from deadrelu.load.open import open_model
from deadrelu.load.optimizer import OptimizerState, describe, optimizers_in, parameters_of
from deadrelu.load.sniff import FileKind, refusal, sniff
from deadrelu.load.spec import ModelSpec
from deadrelu.load.tree import draw, group
from deadrelu.load.trust import sha256_of
from deadrelu.load.unpickling.inert import plain_globals, read_tree
from deadrelu.load.unpickling.known import COMPILED, DATA_PARALLEL, RECORDS, torch_classes, torch_functions
from deadrelu.load.unpickling.pickled import LONGEST, Pickled, read_legacy, read_pickle
from deadrelu.load.weights import State, states_in
from deadrelu.report.inspection import CodeReference, Inspection, KnownSite, Opening, TreeNode, Way
from deadrelu.report.optimizer import OptimizerInfo

_UNSEEN = "calls in the code of a forward (F.relu, torch.relu) are not in the file: only a scan sees them"
_WEIGHTS_ONLY = "weights only: the activations between them are in the code of the model (--arch)"
_OF_TORCH = ("torch.nn.modules.", "collections.", "pathlib.", "argparse.", "numpy.")
_LISTED_MEMBERS = 400
_TORCH_SAVE = (FileKind.TORCH_ZIP, FileKind.LEGACY)
_NO_WAY: Way = "not at all"
_WAYS: dict[type[DeadreluError], Way] = {
    TrustError: "with --trust",
    ArchitectureError: "with --arch",
    UsageError: "with --weights-key",
}


@dataclass(frozen=True)
class _Contents:
    """What was read of a file, before it is said how it opens."""

    what: str
    tree: TreeNode | None = None
    sites: tuple[KnownSite, ...] = ()
    asks: tuple[CodeReference, ...] = ()
    members: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    hyper: HyperParameters | None = None
    has_optimizer: bool = False


def inspect(model: str | Path) -> Inspection:
    """Say what the file or folder `model` is, what it would run, and what it holds; execute nothing in it.

    Raises `FileError` if it cannot be read, is damaged, or is written to meanwhile. A kind of file that deadrelu does
    not open is not an error: the result says which it is, and what to do.
    """
    path = Path(model)
    kind = sniff(path)
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    with unchanged(*files):
        return _inspected(str(model), path, kind, files)


def _inspected(model: str, path: Path, kind: FileKind, files: Sequence[Path]) -> Inspection:
    """The inspection of a file, or of the files of a folder."""
    if kind in (FileKind.EMPTY, FileKind.TRUNCATED):
        raise refusal(kind, path)
    try:
        contents = _READERS.get(kind, _foreign)(path)
    except RecursionError as error:
        raise FileError(f"{path} nests its values too deeply", hint="save the state dict instead") from error
    return Inspection(
        path=model,
        kind=kind.value,
        what=contents.what,
        bytes=sum(file.stat().st_size for file in files),
        sha256=_hash(path, kind),
        opening=_opening(path, kind),
        asks=contents.asks,
        members=dict(list((contents.members or {}).items())[:_LISTED_MEMBERS]),
        tree=contents.tree,
        sites=contents.sites,
        notes=contents.notes,
        hyper_parameters=None if contents.hyper is None else contents.hyper.values,
        hyper_left_out=() if contents.hyper is None else contents.hyper.left_out,
        optimizers=_optimizers(path, kind) if contents.has_optimizer and kind in _TORCH_SAVE else (),
    )


def _optimizers(path: Path, kind: FileKind) -> tuple[OptimizerInfo, ...]:
    """What the optimizers of a training checkpoint say of the weights beside them."""
    try:
        with held(path) as origin:
            root = read_tree(origin, kind).root
            states = list(states_in(root).values()) or [{}]
            return tuple(_told(optimizer, states) for optimizer in optimizers_in(root))
    except (TrustError, FileError):  # the tree and the opening say why
        return ()


def _told(optimizer: OptimizerState, states: Sequence[State]) -> OptimizerInfo:
    """What an optimizer says of the first weights that it fits."""
    fitting = (state for state in states if optimizer.names(parameters_of(state)))
    state = next(fitting, states[0])
    return describe([optimizer], parameters_of(state), state)[0]


def _hash(path: Path, kind: FileKind) -> str | None:
    """What `--trust-sha256` takes; None for a folder that is not a sharded checkpoint."""
    if kind is FileKind.SHARDED:
        return sharded_contents.sha256_of_folder(path, sharded_contents.read_index(path))
    return None if path.is_dir() else sha256_of(path)


def _opening(path: Path, kind: FileKind) -> Opening:
    """How a scan without further options would take the file: found out by opening it so."""
    if kind is FileKind.HUGGINGFACE:
        why, hint = "transformers builds it from config.json", "pip install 'deadrelu[hf]'"
        return Opening(way="with an extra", why=why, hint=hint)
    try:
        if kind in _TORCH_SAVE:
            with held(path) as origin:
                open_checkpoint(origin, kind, ModelSpec(model=path))
        else:
            open_model(ModelSpec(model=path))
    except FileError as error:
        if kind.readable and not (kind in _TORCH_SAVE and _is_whole(path, kind)):
            raise
        why = _without(path, error.message) if kind.readable else ""
        return Opening(way="not at all", why=why, hint=error.hint)
    except DeadreluError as error:
        way = next((way for cls, way in _WAYS.items() if isinstance(error, cls)), _NO_WAY)
        return Opening(way=way, why=_without(path, error.message), hint=error.hint)
    return Opening(way="as it is", why="nothing in the file has to run")


def _is_whole(path: Path, kind: FileKind) -> bool:
    """Whether a file that does not open is none the worse for it: it holds something else than a model."""
    try:
        with held(path) as origin:
            read_tree(origin, kind)
    except TrustError:
        return True
    except FileError:
        return False
    return True


def _without(path: Path, message: str) -> str:
    """The message without the path, which is printed above it."""
    return message.removeprefix(f"{path} ")


def _torch_zip(path: Path) -> _Contents:
    with Archive(path) as archive:
        if archive.members.get("data.pkl", 0) > LONGEST:
            return _Contents("a torch.save file", notes=(f"its pickle is longer than {LONGEST} bytes: not drawn",))
        return _saved(archive.pickle("data.pkl"), "torch.save")


def _legacy(path: Path) -> _Contents:
    return _saved(read_legacy(path), "torch.save in its old format")


def _plain_pickle(path: Path) -> _Contents:
    if path.stat().st_size > LONGEST:
        return _Contents("a plain pickle", notes=(f"it is longer than {LONGEST} bytes: not drawn",))
    return _saved(read_pickle(path.read_bytes(), str(path)), "pickle")


def _saved(pickled: Pickled, by: str) -> _Contents:
    """What a pickle holds."""
    tree, sites = draw(pickled.root)
    notes = [
        f"saved inside {name.rpartition('.')[2]}, which is left out"
        for name in (DATA_PARALLEL, COMPILED)
        if name in pickled.asks
    ]
    if any(not kind.startswith(_OF_TORCH) for kind in _module_kinds(tree)):
        notes.append(_UNSEEN)
    what = {"dict": "a checkpoint", "list": "a list", "state dict": "a state dict", "tensor": "a tensor"}.get(
        tree.kind, f"a whole {tree.kind.rpartition('.')[2]}"
    )
    if tree.kind == "state dict":
        notes.append(_WEIGHTS_ONLY)
    hyper = hyper_parameters(pickled.root)
    return _Contents(
        f"{what}, saved with {by}",
        tree,
        sites,
        tuple(_globals(pickled)),
        notes=tuple(notes),
        hyper=hyper,
        has_optimizer=bool(optimizers_in(pickled.root)),
    )


def _module_kinds(node: TreeNode) -> Iterator[str]:
    """The classes in a tree."""
    if "." in node.kind:
        yield node.kind
    for child in node.children:
        yield from _module_kinds(child)


def _globals(pickled: Pickled) -> Iterator[CodeReference]:
    """Every global that a pickle names, those first that would run code."""
    harmless = {*plain_globals(), *torch_classes(), *torch_functions(), *RECORDS, DATA_PARALLEL}
    asked = [CodeReference(name=name, what="global", runs=name not in harmless) for name in pickled.asks]
    yield from sorted(asked, key=lambda one: (not one.runs, one.name))


def _safetensors(path: Path) -> _Contents:
    return _Contents("a state dict, saved with safetensors", group(read_header(path)), notes=(_WEIGHTS_ONLY,))


def _torchscript(path: Path) -> _Contents:
    with Archive(path) as archive:
        tree, sites, asks = read_torchscript(archive)
        traced = "traced_inputs.pkl" in archive.members
    notes = ("calls as its code writes them: how often each runs, a scan counts",) if sites else ()
    return _Contents(f"a TorchScript archive{', traced' * traced}", tree, sites, asks, notes=notes)


def _exported(path: Path) -> _Contents:
    with Archive(path) as archive:
        tree, sites, asks = read_exported(archive)
    return _Contents("a torch.export program", tree, sites, asks)


def _sharded(path: Path) -> _Contents:
    pickled = read_pickle(sharded_contents.read_index(path), str(path / sharded_contents.INDEX))
    asks = (CodeReference(name=sharded_contents.INDEX, what="pickle", runs=True), *_globals(pickled))
    tree = group(sharded_contents.tensors_in(pickled), kind="sharded checkpoint")
    shards = len(sharded_contents.shards_of(path))
    return _Contents(f"a sharded checkpoint of {shards} {'shard' if shards == 1 else 'shards'}", tree, asks=asks)


def _huggingface(path: Path) -> _Contents:
    """The folder's configuration, and the tensors of its safetensors files; its own Python files never run."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path}/config.json is not JSON: {error}", hint="download it again") from error
    config = config if isinstance(config, dict) else {}
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    tensors = {key: held for file in sorted(path.glob("*.safetensors")) for key, held in read_header(file).items()}
    asks = tuple(CodeReference(name=file.name, what="source", runs=False) for file in sorted(path.glob("*.py")))
    notes = ["its Python files are never run: trust_remote_code stays off"] if asks or config.get("auto_map") else []
    notes.append(_UNSEEN)
    act = config.get("hidden_act") or config.get("activation_function")
    if isinstance(act, str):
        notes.insert(0, f"its config.json names the activation {act!r}")
    what = f"a Hugging Face folder{': ' if names else ''}{', '.join(names)}"
    return _Contents(what, group(tensors) if tensors else None, asks=asks, notes=tuple(notes))


def _foreign(path: Path) -> _Contents:
    """A kind that deadrelu does not open: what it is, and for a zip its members."""
    kind = sniff(path)
    what = _without(path, refusal(kind, path).message).removeprefix("is ").removeprefix("holds ")
    zipped = path.is_file() and path.open("rb").read(4) == b"PK\3\4"
    if not zipped:
        return _Contents(what)
    with Archive(path) as archive:
        return _Contents(what, asks=tuple(asked_code(archive.members)), members=archive.members)


_READERS: dict[FileKind, Callable[[Path], _Contents]] = {
    FileKind.TORCH_ZIP: _torch_zip,
    FileKind.LEGACY: _legacy,
    FileKind.PICKLE: _plain_pickle,
    FileKind.SAFETENSORS: _safetensors,
    FileKind.TORCHSCRIPT: _torchscript,
    FileKind.PT2: _exported,
    FileKind.SHARDED: _sharded,
    FileKind.HUGGINGFACE: _huggingface,
}
