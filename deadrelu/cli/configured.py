"""Where an option's value comes from: default < configuration file < environment < flag, for every command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from deadrelu.cli import borrowed, console
from deadrelu.cli.everywhere import chosen, taken
from deadrelu.cli.help import Command as HelpfulCommand
from deadrelu.cli.keyed import keyed, keys_of
from deadrelu.cli.options import OUTPUT, SWAP
from deadrelu.cli.refusal import name_of, wrong_value
from deadrelu.config.file import Config, NamedModel, environment, find, is_option, read, variable
from deadrelu.config.keys import Key, Known, Value, from_text
from deadrelu.errors import DeadreluError, ExitCode, UsageError
from deadrelu.report.commands import option_words

_WORST = (ExitCode.OK, ExitCode.GATE_FAILED, ExitCode.NOTHING_MEASURED, ExitCode.COULD_NOT_RUN)


@dataclass
class Origins:
    """Where the values of one command came from: what to name in an error, by parameter name.

    `filed` are the parameters whose values stand in the configuration file. `model` is the model's name, if it is one
    of several there. `invocation` is what was typed, as `report.commands` repeats it; `of_model` are the options that
    the file gives for this model alone, which hold for no other file unless they are repeated.
    """

    of: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    filed: frozenset[str] = frozenset()
    invocation: tuple[str, ...] = ()
    of_model: tuple[str, ...] = ()


class Command(HelpfulCommand):
    """A command whose options may also come from `[tool.deadrelu]` and `DEADRELU_*`."""

    reads_configuration = True
    every_model = False
    """Whether the command, without MODEL, goes through all the models that the file names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put file and environment below the flags, unless only help is wanted."""
        if ctx.resilient_parsing:  # the shell completes, whatever the file says
            return super().parse_args(ctx, args)
        args = taken(ctx, args)
        if {"-h", "--help"} & set(args):
            return super().parse_args(ctx, args)
        config, known = _config(ctx)
        given = list(args)
        try:
            rest = self._parsed(ctx, args, config, known, None)
        except typer.BadParameter as error:
            if getattr(error.param, "name", None) != "model":
                raise
            if not config.models:
                raise _no_model(ctx, config) from error
            ctx.obj = [(model, _fresh(ctx)) for model in config.models]
            for model, sub in ctx.obj:
                self._parsed(sub, list(given), config, known, model)
            return []
        wanted = ctx.params.get("model")
        named = [model for model in config.models if model.name == wanted]
        if named and not os.path.exists(named[0].name):
            place = given.index(named[0].name)
            again = _fresh(ctx)
            rest = self._parsed(again, given[:place] + given[place + 1 :], config, known, named[0])
            ctx.params, ctx.obj = again.params, again.obj
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line lists behind the command's name; MODEL may be left out, since the file may name it."""
        return [f"[{piece}]" if piece == "MODEL" else piece for piece in super().collect_usage_pieces(ctx)]

    def listed(self, ctx: Any) -> list[Any]:
        """The parameters as the help shows them: MODEL is not required, since the file may name it."""
        shown = [copy(parameter) for parameter in super().listed(ctx)]
        for parameter in shown:
            parameter.required = parameter.required and parameter.name != "model"
        return shown

    def invoke(self, ctx: Any) -> Any:
        """Run the command; over several models one after another, ending with the worst exit code."""
        if not isinstance(ctx.obj, list):
            return self._run(ctx)
        if not self.every_model:
            names = ", ".join(model.name for model, _ in ctx.obj)
            raise UsageError(f"`{ctx.command_path}` takes one model, and there are {names}", hint="name one of them")
        _refuse_mixing(ctx)
        worst = ExitCode.OK
        for number, (model, sub) in enumerate(ctx.obj):
            if number:
                console.write("")
            worst = max(worst, self._code(sub, model), key=_WORST.index)
        raise typer.Exit(int(worst))

    def _code(self, ctx: Any, model: NamedModel) -> ExitCode:
        """Run for one of several models: an error of one does not keep the others from their turn."""
        try:
            self._run(ctx)
        except typer.Exit as done:
            return ExitCode(done.exit_code)
        except DeadreluError as error:
            console.say_error(DeadreluError(f"{model.name}: {error.message}", hint=error.hint, example=error.example))
            return error.exit_code
        return ExitCode.OK

    def _run(self, ctx: Any) -> Any:
        """Run for one model; an error about an option says where its value came from."""
        origins = ctx.obj.of if isinstance(ctx.obj, Origins) else {}
        if "model" in origins:
            _note(ctx, f"the model is {ctx.params['model']}, from {origins['model']}")
        try:
            return super().invoke(ctx)
        except UsageError as error:
            for parameter in self.params:
                if parameter.name in origins and name_of(parameter) in error.message:
                    raise UsageError(f"{error.message} (from {origins[parameter.name]})", hint=error.hint) from error
            raise

    def _parsed(self, ctx: Any, args: list[str], config: Config, known: Known, model: NamedModel | None) -> list[str]:
        """Parse `args` above the defaults of this configuration; a value that cannot be read is traced to its place."""
        layers: list[tuple[str, Mapping[str, Value]]] = [(config.label, config.values)]
        if model is not None:
            layers.append((f"the model {model.name!r} of {config.label}", model.values))
        names = {key: parameter.name for key, parameter in keyed(self).items()}
        own = keys_of(self)
        defaults: dict[str, Value] = {}
        origins: dict[str, str] = {}
        filed: set[str] = set()
        for label, values in layers:
            for key, value in values.items():
                if key in own and own[key].takes(value):
                    defaults[names[key]], origins[names[key]] = value, f"{key!r} in {label}"
                    filed.add(names[key])
        for key, text in environment(os.environ, known).items():
            if key in own:
                defaults[names[key]] = from_text(variable(key), text, own[key])
                origins[names[key]] = f"the environment variable {variable(key)}"
                filed.discard(names[key])
        ctx.default_map = defaults
        typed = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None)
            if name in origins and _from_map(ctx, name):
                message, hint = wrong_value(error)
                raise UsageError(f"{origins[name]} is wrong: {message}", hint=hint) from error
            raise
        ctx.obj = Origins(
            of={name: origin for name, origin in origins.items() if _from_map(ctx, name)},
            model=model.name if model else None,
            filed=frozenset(name for name in filed if _from_map(ctx, name)),
            invocation=tuple(self._typed(ctx, typed, model)),
            of_model=tuple(self._given_for(model)) if model else (),
        )
        for note in (*borrowed.drop_trust(ctx, names, config, model), *borrowed.drop_force(ctx, config)):
            _note(ctx, note)
        borrowed.check_places(ctx, config)
        return rest

    def _typed(self, ctx: Any, args: list[str], model: NamedModel | None) -> Iterator[str]:
        """MODEL and the options as they were typed, without those that say what to swap and where the output goes."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        if model is not None:
            yield model.name
        elif isinstance(given.get("model"), str):
            yield given["model"]
        parameter: Any
        for parameter in self.params:
            source = ctx.get_parameter_source(parameter.name)
            if source is None or source.name != "COMMANDLINE" or not parameter.opts[0].startswith("-"):
                continue
            if not _is_repeated(parameter):
                continue
            flag, value = max(parameter.opts, key=len), given[parameter.name]
            for each in value if isinstance(value, (list, tuple)) else [value]:
                yield flag if parameter.is_flag else f"{flag}={each}"
        choice = chosen(ctx)
        if choice.path or choice.isolated:
            yield "--no-config" if choice.isolated else f"--config={choice.path}"

    def _given_for(self, model: NamedModel) -> Iterator[str]:
        """The options in the model's own table, as they would be typed."""
        parameters = keyed(self)
        for key, value in model.values.items():
            if key != "model" and key in parameters and _is_repeated(parameters[key]):
                yield from option_words(f"--{key}", value)


class EveryModelCommand(Command):
    """A command that goes through all the models of the file."""

    every_model = True


def _is_repeated(parameter: Any) -> bool:
    """Whether a printed command repeats the option: not what is swapped, nor where the output goes."""
    return parameter.rich_help_panel not in (OUTPUT, SWAP)


def _config(ctx: Any) -> tuple[Config, Known]:
    """The configuration that the user chose, or the nearest; and the keys that the commands know."""
    choice = chosen(ctx)
    path = None if choice.isolated else choice.path or find(Path.cwd())
    if path is None and not any(is_option(name) for name in os.environ):
        return Config(), {}  # the keys are read off all the commands, and to import them takes its time
    known = known_keys(ctx.parent.command)
    return (Config() if path is None else read(path, known)), known


def known_keys(group: Any) -> dict[str, tuple[Key, ...]]:
    """Every key with the ways in which the commands that scan take it, read from the commands themselves."""
    known: dict[str, tuple[Key, ...]] = {}
    for command in (command for command in group.commands.values() if isinstance(command, Command)):
        for key, takes in keys_of(command).items():
            known[key] = tuple(dict.fromkeys((*known.get(key, ()), takes)))
    return known


def _from_map(ctx: Any, name: str | None) -> bool:
    """Whether no flag was given, so that the value is the one from file or environment."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def _fresh(ctx: Any) -> Any:
    """A context as this one was before it was parsed."""
    return type(ctx)(ctx.command, info_name=ctx.info_name, parent=ctx.parent)


def _no_model(ctx: Any, config: Config) -> UsageError:
    """The error for a MODEL that nobody named."""
    searched = f"{config.label} names none either" if config.path else "there is no [tool.deadrelu] that names one"
    return UsageError(
        f"MODEL is missing, and {searched}",
        hint=f'write `{ctx.command_path} FILE`, or model = "FILE" under [tool.deadrelu] in pyproject.toml',
    )


def _refuse_mixing(ctx: Any) -> None:
    """Several reports cannot be one document on stdout, nor one file."""
    for _, sub in ctx.obj:
        shown = sub.params.get("format")
        if shown is not None and shown.value not in ("table", "markdown", "github"):
            raise UsageError(
                f"--format {shown.value} is one document, and there are {len(ctx.obj)} models",
                hint=f"write one file each: -o '{shown.value}={{name}}.{shown.value}', or name one model",
            )
        for text in sub.params.get("output") or ():
            if "{name}" not in text:
                raise UsageError(
                    f"-o {text} is one file, and there are {len(ctx.obj)} models",
                    hint="put {name} into the path, or name one model",
                )


def _note(ctx: Any, text: str) -> None:
    """A note on stderr, unless the user wants none."""
    if not ctx.params.get("quiet"):
        console.note(text)
