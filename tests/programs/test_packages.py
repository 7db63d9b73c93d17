"""Missing and broken packages are named as such; the packages are small fakes on sys.path."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, DataError
from deadrelu.load.architecture.build import build
from deadrelu.load.extras import extra
from deadrelu.programs.code import import_spec
from deadrelu.programs.packages import install

NMS = "raise RuntimeError('operator torchvision::nms does not exist\\nand more')\n"
FAKES = {
    "nms": {"torchvision/__init__.py": "from torchvision import ops\n", "torchvision/ops.py": NMS},
    "dependency": {"timm/__init__.py": "import hub_that_is_not_there\n"},
    "lazy": {
        "torchvision/__init__.py": NMS,
        "transformers/__init__.py": (
            "import importlib\n"
            "def __getattr__(name):\n"
            "    if not name.startswith('Auto'): raise AttributeError(name)\n"
            "    try:\n        importlib.import_module('transformers.deep')\n"
            "    except Exception as error:\n"
            "        raise RuntimeError(f'Failed to import transformers.auto, look up:\\n{error}') from error\n"
        ),
        "transformers/deep.py": "import torchvision\n",
    },
    "small": {
        "torchvision/__init__.py": "",
        "torchvision/models.py": (
            "def get_model(name, **_): raise ValueError('?')\ndef list_models(): return ['resnet18', 'vgg11']\n"
        ),
    },
}
REINSTALL = f"reinstall torchvision to match torch {torch.__version__}"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder; forget the fakes afterwards."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def loaded() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm", "transformers")]

    before = {name: sys.modules.pop(name) for name in loaded()}
    yield
    for name in loaded():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def fake(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Put one of the fakes before all that is installed."""
    for name, text in FAKES[request.param].items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    sys.path.insert(0, str(tmp_path / "site"))


def _user(text: str) -> str:
    Path("mine.py").write_text(text)
    return "mine.py:Net"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("fake", ["nms"], indirect=True)
@pytest.mark.parametrize("spec", ["torchvision:resnet18", "mine.py:Net", "mine:Net"])
def test_a_torchvision_that_does_not_fit_torch_is_named_with_the_first_line_of_its_error(spec: str) -> None:
    _user("import torch\nfrom torchvision import models\n")
    with pytest.raises(ArchitectureError) as raised:
        build(spec, {})
    message = "torchvision cannot be imported: RuntimeError: operator torchvision::nms does not exist"
    importer = spec.partition(":")[0]
    assert raised.value.message == (
        message if importer == "torchvision" else f"{importer} needs torchvision, and {message}"
    )
    assert raised.value.hint.startswith(REINSTALL)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("fake", ["lazy"], indirect=True)
def test_transformers_that_cannot_import_a_part_of_itself_names_what_is_broken() -> None:
    Path("config.json").write_text('{"architectures": ["BertModel"]}')
    Path("model.safetensors").touch()
    for model, arch in ((".", None), ("hf:.", None)):
        with pytest.raises(ArchitectureError, match="transformers needs torchvision, and torchvision cannot") as raised:
            open_model(model, arch=arch)
        assert raised.value.hint.startswith(REINSTALL)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("fake", ["dependency"], indirect=True)
def test_a_missing_dependency_of_a_package_is_the_one_to_install() -> None:
    for spec, said in (
        ("timm:resnet18", "timm needs hub_that_is_not_there, which is not installed"),
        (_user("import timm\n"), "mine.py imports timm, which needs hub_that_is_not_there, which is not installed"),
        (
            "late.py:Net",
            "late.py imports timm, which needs hub_that_is_not_there, which is not installed",
        ),
    ):
        Path("late.py").write_text("def Net():\n    import timm\n")
        with pytest.raises(ArchitectureError, match=f"^{re.escape(said)}") as raised:
            build(spec, {})
        assert raised.value.hint == "pip install hub_that_is_not_there"


@pytest.mark.parametrize("error", [ArchitectureError, DataError])
def test_a_missing_package_of_the_users_code_is_named_with_its_install(error: type[ArchitectureError]) -> None:
    for line, package, way in (("import cv2", "cv2", "opencv-python"), ("import no_such.part", "no_such", "no_such")):
        Path("wants.py").write_text(f"{line}\n")
        for spec, importer in (("wants.py:Net", "wants.py"), ("wants:Net", "wants")):
            with pytest.raises(
                error, match=f"^{re.escape(importer)} imports {package}, which is not installed"
            ) as raised:
                import_spec(spec, error=error)
            assert raised.value.hint == f"pip install {way}"


def test_a_neighbour_that_python_does_not_see_is_found() -> None:
    Path("src").mkdir()
    Path("src/my_layers.py").write_text("x = 1\n")
    with pytest.raises(ArchitectureError, match="imports my_layers, which lies in src") as raised:
        build(_user("import my_layers\n"), {})
    assert raised.value.hint == "put PYTHONPATH=src before the command"


def test_the_users_own_errors_are_not_taken_for_a_packages() -> None:
    Path("raises_mine.py").write_text("raise RuntimeError('mine')\n")
    with pytest.raises(ArchitectureError, match=r"raises_mine\.py, line 1: RuntimeError: mine"):
        build(_user("import raises_mine\n"), {})


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("fake", ["small"], indirect=True)
def test_a_mistyped_model_of_a_hub_names_the_one_that_was_meant() -> None:
    with pytest.raises(ArchitectureError, match="torchvision has no model 'resnet81'") as raised:
        build("torchvision:resnet81", {})
    assert raised.value.hint == "did you mean torchvision:resnet18?"


def test_an_extra_that_is_not_there_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ArchitectureError, match=r"^timm is not installed") as raised:
        extra("timm")
    assert raised.value.hint == "pip install 'deadrelu[timm]'"


def test_what_is_compiled_against_torch_comes_from_the_index_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert install("torchvision") == "pip install torchvision --index-url https://download.pytorch.org/whl/cu130"
    assert install("timm") == "pip install timm"
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    assert install("torchvision") == "pip install torchvision"


def test_torchs_and_pydantics_own_advice_is_left_out() -> None:
    torch.save(torch.nn.ReLU(), "whole.pt")
    text = "1 validation error for C\\nx\\n  Value error, too wide [type=value_error, input_value=1, input_type=int]\\n"
    text += "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
    code = "import torch\ndef Net(): return torch.load('whole.pt', weights_only=True)\n"
    code += f"def other(): raise ValueError('{text}')\n"
    with pytest.raises(
        ArchitectureError, match=r"torch\.load refuses a file: .*torch\.nn\.modules\.activation\.ReLU"
    ) as raised:
        build(_user(code), {})
    assert "weights_only" not in str(raised.value)
    with pytest.raises(ArchitectureError) as raised:
        build("mine.py:other", {})
    assert raised.value.message.endswith("ValueError: 1 validation error for C x too wide")
