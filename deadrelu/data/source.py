"""Open what the user gives as data: a file, a folder of images, code, or a live object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from deadrelu.data.batches import Batches, Notes
from deadrelu.data.cast import is_array
from deadrelu.data.columns import Columns, choose_columns
from deadrelu.data.count import is_object
from deadrelu.data.datasets import are_rows, is_dataset, load_dataset, one_size, takes_lists
from deadrelu.data.files import read_arrays
from deadrelu.data.fit import Fitting, with_inputs
from deadrelu.data.images import Images
from deadrelu.data.loaders import LoaderBatches, are_columns
from deadrelu.data.pretrained import completed
from deadrelu.data.signature import check_inputs, signature_of
from deadrelu.data.spec import DataSpec
from deadrelu.data.synthetic import check_sizes, synthesise
from deadrelu.errors import DataError, UsageError
from deadrelu.files.writing import near_file
from deadrelu.programs.code import import_spec, is_import_spec, users_code
from deadrelu.programs.process_state import in_users_folder, stdout_on_stderr
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.report import DataInfo

_KINDS = "a .npy, .npz, .pt or .safetensors file, a folder of images, or code as file.py:name"


def open_data(spec: DataSpec, program: Program) -> Batches:
    """Batches that fit `program`; noise where the spec has no data.

    Types are changed for files alone. What else is given goes in as it is, but for floats that are not of the model's
    type, where the model refuses them.

    Raises `DataError` where the data cannot be read or does not fit, also later, while the batches are made;
    `UsageError` where options contradict.
    """
    check_inputs(spec.inputs, program)
    if spec.data is None and spec.labelling is not None:
        raise UsageError("a loss needs labels, and synthetic data has none", hint="give data that has them with --data")
    if spec.data is None:
        found = synthesise(program, spec)
    elif spec.input_shapes:
        raise UsageError("--input-shape is for synthetic data, and --data was given", hint="leave one of them out")
    else:
        check_sizes(spec.batch_size, spec.samples)
        found = _Opening(Fitting(program, spec, Notes())).open(spec.data, None)
    start = found.start
    filled = replace(found, start=lambda shard: (with_inputs(batch, spec.inputs) for batch in start(shard)))
    return completed(filled if spec.inputs else found, program)


class _Opening:
    """The ways to open each kind of data for one model."""

    def __init__(self, fitting: Fitting) -> None:
        self.fitting = fitting
        self.program = fitting.program
        self.spec = fitting.spec

    def open(self, data: object, source: str | None) -> Batches:
        """Open anything; `source` is what the user wrote, where they wrote something."""
        if isinstance(data, str | Path):
            return self._open_text(str(data), source or str(data))
        return self._open_object(data, source)

    def _open_text(self, text: str, source: str) -> Batches:
        path = Path(text).expanduser()
        if path.is_dir():
            images = Images(path.absolute(), self.program, self.spec)
            return replace(self._batches(source, images.batches), is_fixed=True)
        if path.exists() and path.suffix != ".py":
            held = read_arrays(path)
            named = isinstance(held, Mapping)
            parts = held if isinstance(held, Mapping) else _number(held)
            return self._open_columns(parts, source, named=named, from_file=True)
        if not is_import_spec(text):
            raise DataError(f"there is no data at {text}", hint=near_file(path) or f"give {_KINDS}")
        module, found = import_spec(text, error=DataError)
        if found is None:
            raise DataError(f"{text} does not say which object holds the data", hint=f"write {text}:NAME")
        if isinstance(found, str | Path) and is_import_spec(str(found)):
            raise DataError(f"{text} only names more code, {found} (in {module.__name__})", hint="name the data itself")
        return self.open(found, source)

    def _open_object(self, data: Any, source: str | None) -> Batches:
        where = source or type(data).__name__
        if isinstance(data, nn.Module):
            raise DataError(f"{where} is a model, not data", hint=f"give {_KINDS}")
        if is_array(data):
            return self._open_columns({"0": _with_shape(data)}, where, named=False)
        if isinstance(data, Mapping) and data and all(is_array(value) for value in data.values()):
            return self._open_columns({str(k): _with_shape(v) for k, v in data.items()}, where, named=True)
        if isinstance(data, list) and data and are_rows(data, self.fitting):
            return self._open_dataset(data, where)
        inputs = signature_of(self.program, self.spec.inputs).inputs
        if isinstance(data, list | tuple) and are_columns(data, inputs):
            return self._open_columns(_number(tuple(map(_with_shape, data))), where, named=False)
        if _is_one_batch(data):
            return self._open_loader(lambda: [data], where)
        if is_dataset(data) and not isinstance(data, type):
            return self._open_dataset(data, where)
        if hasattr(data, "__iter__") and not isinstance(data, type | Mapping | bytes):
            return self._open_loader(_once(data, where) if _is_iterator(data) else lambda: data, where)
        if callable(data):
            return self._open_callable(data, where)
        raise DataError(f"{where} gives a {type(data).__name__}, which holds no batches", hint=f"give {_KINDS}")

    def _open_columns(self, parts: Mapping[str, Any], where: str, *, named: bool, from_file: bool = False) -> Batches:
        choice = choose_columns(parts, self.fitting, named=named)
        columns = Columns(parts, choice, where, self.fitting, named=named, from_file=from_file)
        return replace(self._batches(where, columns.batches), is_fixed=True)

    def _open_loader(self, fresh: Callable[[], Any], where: str) -> Batches:
        return self._batches(where, LoaderBatches(fresh, self.fitting, where))

    def _open_dataset(self, data: Any, where: str) -> Batches:
        as_lists = takes_lists(self.fitting)
        is_ragged = isinstance(data, list) and not as_lists and not one_size(data)
        spec = replace(self.spec, batch_size=1) if is_ragged else self.spec

        def load(shard: Shard) -> Any:
            return load_dataset(data, spec, as_lists=as_lists, shard=shard)

        if isinstance(data, IterableDataset):
            return self._open_loader(lambda: load(UNSHARDED), where)
        drawn = replace(self.fitting, spec=replace(spec, samples=None))  # the loader has drawn them already
        batches = self._batches(where, lambda shard: LoaderBatches(lambda: load(shard), drawn, where)())
        return replace(batches, dataset=data)

    def _open_callable(self, make: Callable[[], Any], where: str) -> Batches:
        """Open what the callable returns; where that is an iterator, call again for each pass."""

        def failed(why: str) -> DataError:
            return DataError(f"{where} failed when it was called: {why}", hint="it must take no arguments")

        def call() -> Any:
            with users_code(failed), stdout_on_stderr(), in_users_folder():
                return make()

        made = call()
        if _is_iterator(made):
            waiting = [made]
            return self._open_loader(lambda: waiting.pop() if waiting else call(), where)
        if callable(made) and not hasattr(made, "__iter__") and not is_dataset(made):
            raise DataError(f"{where} returns a {type(made).__name__}, not data", hint=f"give {_KINDS}")
        return self.open(made, where)

    def _batches(self, source: str, start: Callable[[Shard], Iterator[Batch]]) -> Batches:
        info = DataInfo(source=source, kind="dataset", samples=0, batches=0, seed=self.spec.seed)
        return Batches(info=info, start=start)


def _is_one_batch(data: Any) -> bool:
    """Whether `data` is one call of the model: an object such as a graph, and nothing that gives many of them."""
    if isinstance(data, Dataset | DataLoader) or not is_object(data) or _is_iterator(data):
        return False
    gives_many = any(hasattr(data, name) for name in ("__iter__", "__getitem__", "__call__"))
    return callable(getattr(data, "to", None)) or not gives_many


def _is_iterator(data: object) -> bool:
    """Whether `data` is an iterator, which can be passed through only once."""
    return hasattr(data, "__next__") and hasattr(data, "__iter__")


def _once(data: Any, where: str) -> Callable[[], Any]:
    """Give the iterator for the first pass, and an error that says so for a second."""
    waiting = [data]

    def fresh() -> Any:
        if not waiting:
            raise DataError(f"{where} is used up: an iterator gives its batches once", hint="give a function instead")
        return waiting.pop()

    return fresh


def _number(arrays: tuple[Any, ...]) -> Mapping[str, Any]:
    return {str(index): array for index, array in enumerate(arrays)}


def _with_shape(array: Any) -> Any:
    """The array itself if it can be sliced by rows, else (a data frame) its values."""
    return array.to_numpy() if hasattr(array, "to_numpy") else array
