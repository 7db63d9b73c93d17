"""Open what the user gives as data: a file, a folder of images, code, or a live object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from deadrelu.data.fit import Fitting
from deadrelu.data.images import ImageOptions, Images
from deadrelu.data.loaders import LoaderBatches, are_columns
from deadrelu.data.signature import signature_of
from deadrelu.errors import DataError
from deadrelu.files.writing import near_file
from deadrelu.programs.code import import_spec, is_spec, users_code
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.programs.undisturbed import in_their_folder, stdout_on_stderr
from deadrelu.report import DataInfo

_KINDS = "a .npy, .npz, .pt or .safetensors file, a folder of images, or code as file.py:name"


def open_data(
    data: object,
    program: Program,
    *,
    batch_size: int | None = 64,
    batch_axis: int | None = None,
    samples: int | None = None,
    seed: int | None = None,
    data_key: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    images: ImageOptions | None = None,
) -> Batches:
    """Batches that fit `program`, at most `samples` in all.

    `data` is a path, a spec (`file.py:loader`, `package.module:loader`), or a live object: a tensor or array `(N, …)`,
    a tuple, list or dict of them, a list of single rows, a DataLoader, a Dataset, an iterable of batches, one object
    that the model takes whole, or a callable that returns one.

    `batch_size` None gives all of it to one call. `batch_axis` is the axis that counts the samples (None: 0, or 1 where
    the model takes time first). The first `samples` are used, in order; with a `seed`, a random subset where rows can
    be drawn. `data_key` chooses among several arrays (`x` or `x,mask`). `inputs` are given to every call of the model
    by name, so that the data need not hold them.

    Types are changed for files alone. What else is given goes in as it is, but for floats that are not of the model's
    type, where the model refuses them.

    Raises `DataError` where the data cannot be read or does not fit; also later, while the batches are made.
    """
    fitting = Fitting(program, Notes(), batch_axis, inputs or {})
    opening = _Opening(fitting, batch_size, samples, seed, data_key, images or ImageOptions())
    return opening.open(data, None)


class _Opening:
    """One call of `open_data`: the options, and the ways to open each kind of data with them."""

    def __init__(
        self,
        fitting: Fitting,
        batch_size: int | None,
        samples: int | None,
        seed: int | None,
        data_key: str | None,
        images: ImageOptions,
    ) -> None:
        if (batch_size is not None and batch_size < 1) or (samples is not None and samples < 1):
            raise DataError(
                f"the batch size ({batch_size}) and the number of samples ({samples}) must be at least 1",
                hint="give --batch-size and --samples above 0",
            )
        self.fitting = fitting
        self.program = fitting.program
        self.batch_size = batch_size
        self.samples = samples
        self.seed = seed
        self.data_key = data_key
        self.images = images

    def open(self, data: object, source: str | None) -> Batches:
        """Open anything; `source` is what the user wrote, where they wrote something."""
        if isinstance(data, str | Path):
            return self._open_text(str(data), source or str(data))
        return self._open_object(data, source)

    def _open_text(self, text: str, source: str) -> Batches:
        path = Path(text).expanduser()
        if path.is_dir():
            folder = Images(path.absolute(), self.program, self.images)
            return self._batches(
                source,
                lambda shard: folder.batches(
                    batch_size=self.batch_size, samples=self.samples, seed=self.seed, shard=shard
                ),
            )
        if path.exists() and path.suffix != ".py":
            held = read_arrays(path)
            named = isinstance(held, Mapping)
            parts = held if isinstance(held, Mapping) else _number(held)
            return self._open_columns(parts, source, named=named, from_file=True)
        if not is_spec(text):
            raise DataError(f"there is no data at {text}", hint=near_file(path) or f"give {_KINDS}")
        module, found = import_spec(text, error=DataError)
        if found is None:
            raise DataError(f"{text} does not say which object holds the data", hint=f"write {text}:NAME")
        if isinstance(found, str | Path) and is_spec(str(found)):
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
        inputs = signature_of(self.program, self.fitting.inputs).inputs
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
        signature = signature_of(self.program, self.fitting.inputs)
        choice = choose_columns(parts, signature, self.data_key, self.fitting.notes, named=named)
        columns = Columns(
            parts,
            choice,
            where,
            self.fitting,
            from_file=from_file,
            batch_size=self.batch_size,
            samples=self.samples,
            seed=self.seed,
        )
        return self._batches(where, columns.batches)

    def _open_loader(self, fresh: Callable[[], Any], where: str) -> Batches:
        return self._batches(where, self._loader(fresh, where, self.samples))

    def _open_dataset(self, data: Any, where: str) -> Batches:
        as_lists = takes_lists(self.fitting)
        is_ragged = isinstance(data, list) and not as_lists and not one_size(data)

        def load(shard: Shard) -> Any:
            return load_dataset(
                data,
                batch_size=1 if is_ragged else self.batch_size,
                samples=self.samples,
                seed=self.seed,
                axis=self.fitting.axis or 0,
                as_lists=as_lists,
                shard=shard,
            )

        if isinstance(data, IterableDataset):
            return self._open_loader(lambda: load(UNSHARDED), where)
        return self._batches(where, lambda shard: self._loader(lambda: load(shard), where, None)())

    def _loader(self, fresh: Callable[[], Any], where: str, samples: int | None) -> LoaderBatches:
        return LoaderBatches(fresh, self.fitting, where, samples=samples, seed=self.seed, data_key=self.data_key)

    def _open_callable(self, make: Callable[[], Any], where: str) -> Batches:
        """Open what the callable returns; where that is an iterator, call again for each pass."""

        def failed(why: str) -> DataError:
            return DataError(f"{where} failed when it was called: {why}", hint="it must take no arguments")

        def call() -> Any:
            with users_code(failed), stdout_on_stderr(), in_their_folder():
                return make()

        made = call()
        if _is_iterator(made):
            waiting = [made]
            return self._open_loader(lambda: waiting.pop() if waiting else call(), where)
        if callable(made) and not hasattr(made, "__iter__") and not is_dataset(made):
            raise DataError(f"{where} returns a {type(made).__name__}, not data", hint=f"give {_KINDS}")
        return self.open(made, where)

    def _batches(self, source: str, start: Callable[[Shard], Iterator[Batch]]) -> Batches:
        info = DataInfo(source=source, kind="dataset", samples=0, batches=0, seed=self.seed)
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
