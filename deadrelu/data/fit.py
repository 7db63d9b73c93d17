"""Fits a stream of batches to one model: types, the axis of the samples, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deadrelu.data.axis import batch_axis
from deadrelu.data.batches import Notes
from deadrelu.data.cast import Caster, Reading, fallback, readings
from deadrelu.data.choose import Choice
from deadrelu.data.count import first_of, samples_in
from deadrelu.data.pretrained import complete
from deadrelu.data.rows import has_shape, is_row, rank_of
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError, UsageError
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.text.wording import count


@dataclass(frozen=True)
class Fitting:
    """The model that batches are fitted to, what the user says of them, and where notes go."""

    program: Program
    spec: DataSpec
    notes: Notes

    def of(self, *, from_file: bool) -> Fit:
        """A fit for one stream; only what comes from a file changes its type at will."""
        return Fit(self, from_file=from_file)


class Fit:
    """The fit of one stream, settled on its first batch.

    The model's types are found out by running it, once and unobserved, and only where the types differ from its own:
    the first reading that it does not refuse is right for the stream.
    """

    def __init__(self, how: Fitting, *, from_file: bool) -> None:
        """Nothing runs yet."""
        self._how = how
        self._ways = readings(how.program, from_file=from_file)
        self._reading: Reading | None = None
        self._axis = how.spec.batch_axis
        self._is_one = False

    def batch(self, parts: Mapping[str, Any], choice: Choice, called: Callable[[str], str], where: str) -> Batch:
        """One call of the model from the chosen parts, which an error and a note call `called(name)`.

        Raises `DataError` where there is nothing in them that a model runs on.
        """
        if self._reading is None:
            self._reading = self._settled(parts, choice, called)
        made = self._made(parts, choice, called, self._reading, self._how.notes)
        first = first_of((made.args, dict(made.kwargs)))
        if first is None or (has_shape(first) and not rank_of(first)):
            held = ", ".join(type(parts[name]).__name__ for name in choice.names) or "nothing"
            raise DataError(
                f"{where} holds no tensor of samples for the model, but {held}",
                hint="yield tensors, (x, y) pairs of tensors, or dicts whose keys are the model's parameters",
            )
        return made

    def axis_of(self, batch: Batch) -> int:
        """The axis that counts the samples, found on the first batch where the user does not say."""
        if self._axis is None:
            axis, layer = batch_axis(self._how.program, self._completed(batch))
            self._axis, self._is_one = axis or 0, axis is None
            if axis == 1:
                self._how.notes.say(
                    f"{layer} takes time first, so axis 1 of the input counts the samples; if not, give --batch-axis 0"
                )
            elif axis is None:
                self._how.notes.say(f"{layer} takes the whole input as one sequence, so each call is one sample")
        return self._axis

    def counted(self, batch: Batch, *, is_whole: bool = False) -> tuple[Batch, bool]:
        """The batch with its samples counted, and whether they are rows that can be cut off.

        Raises `UsageError` where the input has no such axis.
        """
        axis = self.axis_of(batch)
        first = next(tensor_leaves((batch.args, dict(batch.kwargs))), None)
        if first is not None and axis >= rank_of(first):
            raise UsageError(
                f"the input has {count(rank_of(first), 'axis', 'axes')}, and none that --batch-axis {axis} could mean",
                hint="axes are counted from 0",
            )
        listed = next(iter((*batch.args, *batch.kwargs.values())), None)
        if isinstance(listed, list) and listed and all(is_row(value, self._how.program) for value in listed):
            return replace(batch, samples=len(listed)), True
        samples, are_rows = samples_in(
            batch.args, batch.kwargs, self._how.program.parameter_names, axis, is_whole=is_whole
        )
        if self._is_one:
            samples, are_rows = min(samples, 1), False
        return replace(batch, samples=samples, axis=axis), are_rows

    def _settled(self, parts: Mapping[str, Any], choice: Choice, called: Callable[[str], str]) -> Reading:
        """The first reading that the model takes; where all readings give the same types it need not be asked."""
        tried: dict[tuple[Any, ...], tuple[Reading, Batch]] = {}
        for way in self._ways:
            batch = self._made(parts, choice, called, way, Notes(silent=True))
            types = tuple(tensor.dtype for tensor in tensor_leaves((batch.args, dict(batch.kwargs))))
            tried.setdefault(types, (way, batch))
        if len(tried) == 1:
            return self._ways[0]
        return next((way for way, batch in tried.values() if self._takes(batch)), fallback(self._ways))

    def _takes(self, batch: Batch) -> bool:
        """Whether a plain call raises nothing."""
        try:
            with self._how.program.plainly() as run:
                run(self._completed(batch))
        except (Exception, SystemExit):  # whatever it is, the real run shows it if no reading helps
            return False
        return True

    def _completed(self, batch: Batch) -> Batch:
        return complete(with_inputs(batch, self._how.spec.inputs), self._how.program)

    def _made(
        self, parts: Mapping[str, Any], choice: Choice, called: Callable[[str], str], way: Reading, notes: Notes
    ) -> Batch:
        caster = Caster(self._how.program, notes)
        ready = {
            name: caster.cast(parts[name], called(name), way, first=name == choice.names[0]) for name in choice.names
        }
        return Batch(
            samples=1,
            args=tuple(ready[name] for name in choice.args),
            kwargs={parameter: ready[name] for parameter, name in choice.kwargs.items()},
        )


def with_inputs(batch: Batch, inputs: Mapping[str, Any]) -> Batch:
    """The batch with what the user gives to every call."""
    return replace(batch, kwargs={**batch.kwargs, **inputs}) if inputs else batch
