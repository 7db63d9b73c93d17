"""`[tool.deadrelu]`: which file counts, what it may say, and that the schema that ships knows the same keys."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadrelu.cli.app import every_command
from deadrelu.cli.configuration import known_keys
from deadrelu.config.file import SWITCHES, find_configuration, read_configuration, read_environment
from deadrelu.config.keys import SPELLINGS, Key, from_text
from deadrelu.errors import DeadreluError, FileError, UsageError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "deadrelu" / "config.schema.json"
COMMANDS = every_command()
KNOWN = known_keys(COMMANDS.values())


def written(folder: Path, text: str, name: str = "deadrelu.toml") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """What is said of a file with this text."""
    with pytest.raises(UsageError) as raised:
        read_configuration(written(folder, text), KNOWN)
    return str(raised.value)


def test_the_nearest_file_counts_and_in_one_folder_deadrelu_toml(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert find_configuration(inner) is None
    top = written(tmp_path, "[tool.deadrelu]\nseed = 1\n", "pyproject.toml")
    written(inner, "[tool.other]\n", "pyproject.toml")
    assert find_configuration(inner) == top
    own = written(tmp_path, "seed = 2\n")
    assert find_configuration(inner) == own
    near = written(inner.parent, "[tool.deadrelu]\n", "pyproject.toml")
    assert find_configuration(inner) == near


def test_what_lies_above_the_repository_has_no_word(tmp_path: Path) -> None:
    inside = tmp_path / "repository" / "package"
    inside.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    written(tmp_path, "seed = 1\n")
    assert find_configuration(inside) is None


def test_keys_take_dashes_and_underscores_and_become_what_flags_would_give(tmp_path: Path) -> None:
    text = 'max_dead = "5%"\nbatch-size = 32\nrare-below = 0.02\nstrict = true\nsite = ["a.*", "b"]\nformat = "json"\n'
    values = read_configuration(written(tmp_path, text), KNOWN).values
    assert values == {
        "max-dead": "5%",
        "batch-size": "32",
        "rare-below": "0.02",
        "strict": True,
        "site": ["a.*", "b"],
        "format": "json",
    }


def test_a_table_as_in_pyproject_counts_in_a_file_of_its_own(tmp_path: Path) -> None:
    config = read_configuration(
        written(tmp_path, "[tool.deadrelu]\nseed = 3\n[[tool.deadrelu.models]]\nname='a'\nmodel='a.pt'"), KNOWN
    )
    assert (config.values, [model.name for model in config.models]) == ({"seed": "3"}, ["a"])


def test_another_spelling_is_the_same_key(tmp_path: Path) -> None:
    assert read_configuration(written(tmp_path, 'sites = ["a.*"]\nskip_sites = ["b"]'), KNOWN).values == {
        "site": ["a.*"],
        "skip-site": ["b"],
    }
    assert read_environment({"DEADRELU_SITES": "a.*"}, KNOWN) == {"site": "a.*"}


def test_limits_and_ignores_become_what_their_flags_take(tmp_path: Path) -> None:
    text = """
ignore = ["DR005", {rule = "DR004", site = "head.*", reason = "rare by\\n design"}, {rule = "DR006"}]
[limits]
"head.*" = "20%"
"stem" = 0.5
"""
    values = read_configuration(written(tmp_path, text), KNOWN).values
    assert values["ignore"] == ["DR005", "DR004@head.*: rare by design", "DR006"]
    assert values["limits"] == ["head.*=20%", "stem=0.5"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    (folder / "deep").mkdir(parents=True)
    text = """
model = "m/a.pt"
data = "pkg.mod:loader"
arch = "net.py:Net"
baseline = "base.json"
output = ["json=out/r.json"]
"""
    path = written(folder, text)
    monkeypatch.chdir(folder / "deep")
    values = read_configuration(path, KNOWN).values
    assert values["model"] == os.path.join("..", "m", "a.pt")
    assert values["data"] == "pkg.mod:loader"
    assert values["arch"] == os.path.join("..", "net.py:Net")
    assert values["baseline"] == os.path.join("..", "base.json")
    assert values["output"] == ["json=" + os.path.join("..", "out", "r.json")]
    monkeypatch.chdir(folder)
    assert read_configuration(path, KNOWN).values["model"] == "m/a.pt"


@pytest.mark.parametrize("spec", ["timm:resnet18", "torchvision:resnet18", "pkg.mod:Net"])
def test_names_of_code_are_no_paths(tmp_path: Path, spec: str) -> None:
    assert read_configuration(written(tmp_path, f'arch = "{spec}"'), KNOWN).values["arch"] == spec


def test_a_hugging_face_folder_is_a_path(tmp_path: Path) -> None:
    arch = read_configuration(written(tmp_path, 'arch = "hf:bert"'), KNOWN).values["arch"]
    assert isinstance(arch, str)
    assert os.path.abspath(arch.removeprefix("hf:")) == str(tmp_path / "bert")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('max-daed = "5%"', "unknown key 'max-daed' in .*deadrelu.toml .*did you mean 'max-dead'"),
        ("modles = []", "unknown key 'modles'.*did you mean 'models'"),
        ("zzz = 1", "unknown key 'zzz'.*long flags"),
        ("max-dead = true", "'max-dead' in .*deadrelu.toml is true, not a number or a string"),
        ("arch = 5", "'arch' in .* is 5, not a string"),
        ('batch-size = "64"', """'batch-size' in .* is "64", not a whole number"""),
        ("batch-size = true", "'batch-size' in .* is true, not a whole number"),
        ('strict = "yes"', """'strict' in .* is "yes", not true or false"""),
        ('site = "a"', """'site' in .* is "a", not a list of strings"""),
        ("site = [1]", "'site' in .* not a list of strings"),
        ('format = "pdf"', "'format' in .* is 'pdf'.*one of: table, json"),
        ("max-dead = 0.1\nmax_dead = 0.2", "has 'max-dead' twice"),
        ("limits = {a = true}", "'a' of 'limits' in .* is true"),
        ("ignore = [{reason = 'x'}]", "an entry of 'ignore' in .* has no 'rule'"),
        ("ignore = [{rule = 'DR001', why = 'x'}]", "unknown key 'why' in an entry of 'ignore'"),
        ("site = ['a']\nsites = ['b']", "has 'site' twice"),
        ("seed = 1\n[tool.deadrelu]\nstrict = true", "both .tool.deadrelu. and the key 'seed' outside of it"),
        ("[tool.deadrelu]\nseed = 'x'", "'seed' in .tool.deadrelu. of .*deadrelu.toml is"),
        ("models = 3", "'models' in .* must be a list of tables"),
        ("[[models]]\nmodel = 'a.pt'", "model 1 of 'models' in .* has no 'name'"),
        ("[[models]]\nname = 'a/b'\nmodel = 'a.pt'", "has no 'name' of letters"),
        ("[[models]]\nname = 'a'", "the model 'a' of .* has no 'model'"),
        ("[[models]]\nname = 'a'\nmodel = 'a.pt'\nmax-daed = 1", "unknown key 'max-daed' in the model 'a' of"),
        (
            "[[models]]\nname='a'\nmodel='a.pt'\n[[models]]\nname='a'\nmodel='b.pt'",
            "two models in .* have the name 'a'",
        ),
        ("model = 'a.pt'\n[[models]]\nname='a'\nmodel='a.pt'", "both 'model' and 'models'"),
    ],
)
def test_an_error_names_the_key_and_the_file(tmp_path: Path, text: str, said: str) -> None:
    assert re.search(said, refusal(tmp_path, text))


def test_the_table_of_a_pyproject_is_named_so_and_a_broken_file_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "[tool.deadrelu]\nzzz = 1", "pyproject.toml")
    with pytest.raises(UsageError, match=r"in \[tool\.deadrelu\] of .*pyproject\.toml"):
        read_configuration(path, KNOWN)
    with pytest.raises(FileError, match=r"deadrelu\.toml cannot be read"):
        read_configuration(written(tmp_path, "a = = 1"), KNOWN)
    with pytest.raises(FileError, match=r"gone\.toml cannot be read"):
        read_configuration(tmp_path / "gone.toml", KNOWN)


def test_models_have_their_own_keys_and_file_is_taken_for_model(tmp_path: Path) -> None:
    text = "[[models]]\nname = 'a'\nfile = 'a.pt'\nmax-dead = 0.2\n[models.limits]\n'head' = '1%'\n"
    (model,) = read_configuration(written(tmp_path, text), KNOWN).models
    assert (model.name, dict(model.values)["limits"]) == ("a", ["head=1%"])
    assert model.values["max-dead"] == "0.2"


def test_the_environment_is_read_by_name_and_near_misses_are_errors() -> None:
    said = {"DEADRELU_MAX_DEAD": "5%", "DEADRELU_SEED": "", "DEADRELU_DEBUG": "1", "DEADRELU_HOME": "x", "PATH": "y"}
    assert read_environment(said, KNOWN) == {"max-dead": "5%"}
    with pytest.raises(UsageError, match=r"DEADRELU_MAXDEAD is not an option.*DEADRELU_MAX_DEAD"):
        read_environment({"DEADRELU_MAXDEAD": "5%"}, KNOWN)


def test_texts_of_the_environment_become_values() -> None:
    assert from_text("V", "a 'b c'", Key("texts")) == ["a", "b c"]
    assert (from_text("V", "On", Key("switch")), from_text("V", "0", Key("switch"))) == (True, False)
    for text, key in (("maybe", Key("switch")), ("'", Key("texts"))):
        with pytest.raises(UsageError, match="V is"):
            from_text("V", text, key)


TYPES: dict[str, dict[str, Any]] = {
    "switch": {"type": "boolean"},
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "count": {"anyOf": [{"type": "integer"}, {"const": "none"}]},
    "number": {"type": ["number", "string"]},
    "texts": {"type": "array", "items": {"type": "string"}},
}
LIMITS = {"type": "object", "additionalProperties": TYPES["number"]}
ENTRY = {
    "type": "object",
    "required": ["rule"],
    "additionalProperties": False,
    "properties": {name: {"type": "string"} for name in ("rule", "site", "reason")},
}
IGNORE = {"type": "array", "items": {"anyOf": [{"type": "string"}, ENTRY]}}


def schema_of(key: str) -> dict[str, Any]:
    """What one key takes, as JSON Schema."""
    kinds: list[dict[str, Any]] = []
    for takes in KNOWN[key]:
        kind = {"enum": sorted({c for k in KNOWN[key] for c in k.choices})} if takes.choices else TYPES[takes.kind]
        kinds += [kind] if kind not in kinds else []
    kinds += [LIMITS] if key == "limits" else []
    kinds = [IGNORE] if key == "ignore" else kinds
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def expected_schema() -> dict[str, Any]:
    """The schema of the known keys, each under both of its spellings, with the help of its flag."""
    spelled = {other: key for other, key in SPELLINGS.items() if key in KNOWN}
    helps = {
        flag[2:]: parameter.help
        for command in reversed(COMMANDS.values())
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--")
    }
    keys = {key: schema_of(key) | {"description": helps.get(key, "The model.")} for key in sorted(KNOWN)}
    keys |= {other: keys[key] for other, key in spelled.items()}
    both = {spelled: keys[key] for key in keys for spelled in dict.fromkeys((key, key.replace("-", "_")))}
    entry = {"name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"}, "file": {"type": "string"}, **both}
    model = {
        "type": "object",
        "required": ["name"],
        "anyOf": [{"required": ["model"]}, {"required": ["file"]}],
        "additionalProperties": False,
        "properties": entry,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://deadrelu.invalid/config.schema.json",
        "title": "deadrelu.toml, and [tool.deadrelu] of pyproject.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {"models": {"type": "array", "items": model}, **both},
    }


def test_the_schema_that_ships_knows_the_keys_of_the_commands(request: pytest.FixtureRequest) -> None:
    text = json.dumps(expected_schema(), indent=2, ensure_ascii=False) + "\n"
    if request.config.getoption("--regenerate"):
        SCHEMA.write_text(text, encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    assert SCHEMA.read_text(encoding="utf-8") == text, "the keys have changed: run with --regenerate"


values = (
    st.booleans()
    | st.integers(0, 9)
    | st.floats(0.01, 0.99)
    | st.text("ab%", max_size=3)
    | st.sampled_from(["json", "auto", "none"])
    | st.lists(st.text("ab", min_size=1), max_size=2)
    | st.lists(st.integers(0, 3), min_size=1, max_size=2)
)


@given(st.sampled_from([*sorted(KNOWN), *SPELLINGS, "max_dead", "nonsense"]), values)
def test_the_schema_takes_what_the_reader_takes(key: str, value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            read_configuration(written(Path(folder), f"{key} = {json.dumps(value)}\n"), KNOWN)
            taken = True
        except DeadreluError:
            taken = False
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert jsonschema.Draft202012Validator(schema).is_valid({key: value}) == taken


def test_every_variable_that_is_not_an_option_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert [name for name in SWITCHES if f"| `{name}=" not in page] == []
