"""Where an option's value comes from: default < configuration file < environment < flag; and all the file's models."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from deadrelu.cli import console
from deadrelu.cli.command import Command
from deadrelu.cli.general import OUTPUT, SWAP
from deadrelu.cli.model_options import axis_options, data_options, model_options, site_options, spread_options
from deadrelu.cli.usage_errors import name_of, usage_errors
from deadrelu.cli.values import SamplesPerBatch
from deadrelu.config.defaults import defaults_for
from deadrelu.config.file import Config, NamedModel, find_configuration, is_option, read_configuration
from deadrelu.config.keys import Key, Known
from deadrelu.errors import DeadreluError, ExitCode, UsageError
from deadrelu.report.commands import option_words

_WORST = (ExitCode.OK, ExitCode.GATE_FAILED, ExitCode.NOTHING_MEASURED, ExitCode.COULD_NOT_RUN)
_KINDS = {bool: "switch", SamplesPerBatch: "count", int: "integer", float: "number", Fraction: "number"}


@dataclass(frozen=True, kw_only=True)
class ValueOrigins:
    """Where the values of one command came from; its context keeps it.

    `places` says what to name in an error, by parameter, of a value that was not typed. `model` is the one of the
    file's models that the command runs on, and `each` holds a context for each of them where it runs on all.
    `invocation` is what was typed, as `report.commands` repeats it; `of_model` are the options that the file gives for
    this model alone, which hold for no other file unless they are repeated.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    model: NamedModel | None = None
    each: tuple[Any, ...] = ()
    invocation: tuple[str, ...] = ()
    of_model: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The name of the model in the file."""
        return self.model.name if self.model else None


class ModelCommand(Command):
    """A command that opens models, with the options for that; each may also come from a file and from `DEADRELU_*`."""

    shared: ClassVar[tuple[Callable[..., Any], ...]] = (
        model_options,
        data_options,
        spread_options,
        site_options,
        axis_options,
    )
    reads_configuration = True
    takes_every_model = True
    """Whether the command, without MODEL, goes through all the models that the file names."""

    @cached_property
    def keyed(self) -> dict[str, Any]:
        """The parameters by configuration key: the long flags without dashes, and MODEL."""
        general = ("help", "debug", "config", "no_config")
        flags = {p.name: [flag[2:] for flag in p.opts if flag.startswith("--")] for p in self.params}
        named = {(flags[p.name] or [p.name])[0]: p for p in self.params if p.name not in general}
        return {key: p for key, p in named.items() if flags[p.name] or key == "model"}

    @cached_property
    def keys(self) -> dict[str, Key]:
        """The configuration keys, each with what it takes, from the annotations of the functions."""
        hints: dict[str, Any] = {}
        for function in (*self.shared, self.callback):
            hints |= typing.get_type_hints(function)
        return {key: _key(hints[parameter.name]) for key, parameter in self.keyed.items()}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put file and environment below the flags, unless only help or completions are wanted."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        with usage_errors(ctx):
            typed, _, _ = self.make_parser(ctx).parse_args(list(args))
        if typed.get("help"):
            return super().parse_args(ctx, args)
        config, known = _configuration(ctx, typed)
        wanted, model = typed.get("model"), ctx.obj.model if ctx.obj else None
        if "model" in self.keyed and not wanted and not model and config.models:
            each = (ValueOrigins(model=model) for model in config.models)
            contexts = [self.make_context(ctx.info_name, list(args), ctx.parent, obj=origin) for origin in each]
            ctx.obj = ValueOrigins(each=tuple(contexts))
            return []
        if wanted and not os.path.exists(wanted):
            model = next((model for model in config.models if model.name == wanted), model)
        return self._parse(ctx, args, typed, config, known, model)

    def _parse(
        self, ctx: Any, args: list[str], typed: dict[str, Any], config: Config, known: Known, model: NamedModel | None
    ) -> list[str]:
        """Parse `args` above the defaults for this model."""
        names = {key: parameter.name for key, parameter in self.keyed.items()}
        given = {key: typed[name] for key, name in names.items() if typed.get(name) is not None}
        if model is not None:
            given.pop("model", None)
        below = defaults_for(self.keys, config, model, os.environ, known=known, given=given)
        ctx.default_map = {names[key]: default.value for key, default in below.by_key.items()}
        ctx.obj = ValueOrigins(
            places={names[key]: default.origin for key, default in below.by_key.items()},
            model=model,
            invocation=tuple(self._words(ctx, typed)),
            of_model=tuple(self._words_of(model)) if model else (),
        )
        rest = super().parse_args(ctx, args)
        if model is not None:
            ctx.params["model"] = ctx.default_map["model"]
        if ctx.params.get("model") == "":
            raise _no_model(ctx, config)
        for note in below.notes:
            _note(ctx, note)
        return rest

    def places(self, ctx: Any) -> Mapping[str, str]:
        """Those in the configuration file and the environment."""
        return ctx.obj.places if isinstance(ctx.obj, ValueOrigins) else {}

    def invoke(self, ctx: Any) -> Any:
        """Run the command; over several models one after another, ending with the worst exit code."""
        if not ctx.obj.each:
            return self._run(ctx)
        if not self.takes_every_model:
            names = ", ".join(sub.obj.model.name for sub in ctx.obj.each)
            raise UsageError(f"`{ctx.command_path}` takes one model, and there are {names}", hint="name one of them")
        _refuse_mixing(ctx.obj.each)
        worst = ExitCode.OK
        for number, sub in enumerate(ctx.obj.each):
            if number:
                console.write("")
            worst = max(worst, self._code(sub), key=_WORST.index)
        return worst

    def _code(self, ctx: Any) -> ExitCode:
        """Run for one of several models: an error of one does not keep the others from their turn."""
        try:
            return ExitCode(self._run(ctx))
        except DeadreluError as error:
            message = f"{ctx.obj.model.name}: {error.message}"
            console.print_error(DeadreluError(message, hint=error.hint, example=error.example))
            return error.exit_code

    def _run(self, ctx: Any) -> Any:
        """Run for one model; an error about an option says where its value came from."""
        places = ctx.obj.places
        if "model" in places:
            _note(ctx, f"the model is {ctx.params['model']}, from {places['model']}")
        try:
            return super().invoke(ctx)
        except UsageError as error:
            for parameter in self.params:
                if parameter.name in places and name_of(parameter) in error.message:
                    raise UsageError(f"{error.message} (from {places[parameter.name]})", hint=error.hint) from error
            raise

    def _words(self, ctx: Any, typed: Mapping[str, Any]) -> Iterator[str]:
        """MODEL and the options as they were typed, without those that say what to swap and where the output goes."""
        if typed.get("model"):
            yield typed["model"]
        elif ctx.obj and ctx.obj.model:
            yield ctx.obj.model.name
        for parameter in self.keyed.values():
            value = typed.get(parameter.name)
            if value is None or parameter.name == "model" or not _is_repeated(parameter):
                continue
            flag = max(parameter.opts, key=len)
            for each in value if isinstance(value, (list, tuple)) else [value]:
                yield flag if parameter.is_flag else f"{flag}={each}"
        path, isolated = _choice(ctx, typed)
        if path or isolated:
            yield "--no-config" if isolated else f"--config={path}"

    def _words_of(self, model: NamedModel) -> Iterator[str]:
        """The options in the model's own table, as they would be typed."""
        for key, value in model.values.items():
            if key != "model" and key in self.keyed and _is_repeated(self.keyed[key]):
                yield from option_words(f"--{key}", value)


def known_keys(commands: Iterable[Any]) -> dict[str, tuple[Key, ...]]:
    """Every key with the ways in which the commands that open models take it, read from the commands themselves."""
    known: dict[str, tuple[Key, ...]] = {}
    for command in commands:
        if isinstance(command, ModelCommand):
            for key, takes in command.keys.items():
                known[key] = tuple(dict.fromkeys((*known.get(key, ()), takes)))
    return known


def _key(hint: Any) -> Key:
    """What a parameter of this annotation takes."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        return Key("texts")
    if typing.get_origin(hint) is typing.Literal:
        return Key("choice", typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Key("choice", tuple(str(member.value) for member in hint))
    return Key(_KINDS.get(hint, "text"))


def _is_repeated(parameter: Any) -> bool:
    """Whether a printed command repeats the option: not what is swapped, nor where the output goes."""
    return parameter.rich_help_panel not in (OUTPUT, SWAP)


def _choice(ctx: Any, typed: Mapping[str, Any]) -> tuple[Path | None, bool]:
    """The configuration file that was named, and whether none is to be read; before the command or after it."""
    before = ctx.parent.params if ctx.parent else {}
    path = Path(typed["config"]) if typed.get("config") else before.get("config")
    isolated = bool(typed.get("no_config") or before.get("no_config"))
    if path and isolated:
        raise UsageError("--config and --no-config contradict each other", hint="leave one of them out")
    return path, isolated


def _configuration(ctx: Any, typed: Mapping[str, Any]) -> tuple[Config, Known]:
    """The configuration that the user chose, or the nearest; and the keys that the commands know."""
    named, isolated = _choice(ctx, typed)
    path = None if isolated else named or find_configuration(Path.cwd())
    if path is None and not any(is_option(name) for name in os.environ):
        return Config(), {}  # the keys are read off all the commands, and to import them takes its time
    group = ctx.parent.command
    known = known_keys(group.get_command(ctx, name) for name in group.list_commands(ctx))
    return (Config() if path is None else read_configuration(path, known)), known


def _no_model(ctx: Any, config: Config) -> UsageError:
    """The error for a MODEL that nobody named."""
    searched = f"{config.label} names none either" if config.path else "there is no [tool.deadrelu] that names one"
    return UsageError(
        f"MODEL is missing, and {searched}",
        hint=f'write `{ctx.command_path} FILE`, or model = "FILE" under [tool.deadrelu] in pyproject.toml',
    )


def _refuse_mixing(contexts: tuple[Any, ...]) -> None:
    """Several reports cannot be one document on stdout, nor one file."""
    for context in contexts:
        format = context.params.get("format")
        if format is not None and format.value not in ("table", "markdown", "github"):
            raise UsageError(
                f"--format {format.value} is one document, and there are {len(contexts)} models",
                hint=f"write one file each: -o '{format.value}={{name}}.{format.value}', or name one model",
            )
        for text in context.params.get("output") or ():
            if "{name}" not in text:
                raise UsageError(
                    f"-o {text} is one file, and there are {len(contexts)} models",
                    hint="put {name} into the path, or name one model",
                )


def _note(ctx: Any, text: str) -> None:
    """A note on stderr, unless the user wants none."""
    if not ctx.params.get("quiet"):
        console.print_note(text)
