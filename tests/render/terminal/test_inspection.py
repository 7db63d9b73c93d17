"""The inspection at a terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deadrelu.render.terminal.inspection import render, size
from deadrelu.render.terminal.screen import Screen
from deadrelu.report.inspection import CodeReference, Inspection, KnownSite, Opening, TensorEntry, TreeNode

RELU = "torch.nn.modules.activation.ReLU"


def _linear(name: str, path: str, inward: int, outward: int) -> TreeNode:
    return TreeNode(
        name=name,
        kind="torch.nn.modules.linear.Linear",
        settings={"in_features": inward, "out_features": outward},
        tensors=(
            TensorEntry(key=f"{path}.weight", shape=(outward, inward), dtype="float32"),
            TensorEntry(key=f"{path}.bias", shape=(outward,), dtype="float16"),
        ),
    )


def _block(number: int) -> TreeNode:
    path = f"blocks.{number}"
    relu = TreeNode(name="act", kind=RELU, settings={"inplace": True})
    return TreeNode(name=str(number), kind="mine.Block", children=(_linear("fc", f"{path}.fc", 64, 64), relu))


FOUND = Inspection(
    path="model.pt",
    kind="torch-zip",
    what="a whole Net, saved with torch.save",
    bytes=46_827_520,
    sha256="76005ba627a7e4c2e6e7d82544e04efbe657e9320fa8fff86d255fd1fadba265",
    opening=Opening(way="with --trust", why="asks to run code", hint="--allow mine.Net trusts one class"),
    asks=(
        CodeReference(name="mine.Net", what="global", runs=True),
        CodeReference(name="\x1b[31mevil", what="global", runs=True),
        CodeReference(name="collections.OrderedDict", what="global", runs=False),
    ),
    tree=TreeNode(
        name="",
        kind="mine.Net",
        settings={"depth": 3},
        children=(
            _linear("stem", "stem", 3, 64),
            TreeNode(
                name="blocks", kind="torch.nn.modules.container.Sequential", children=tuple(map(_block, range(3)))
            ),
            TreeNode(name="act", kind=RELU, same_as="blocks.0.act"),
        ),
    ),
    sites=(
        *(KnownSite(id=f"blocks.{n}.act", op="relu", module=f"blocks.{n}.act") for n in range(3)),
        KnownSite(id=":relu6#1", op="relu6", module="", source="code/net.py:12"),
    ),
    notes=("calls in the code of a forward are not in the file",),
)


@pytest.mark.parametrize("width", [60, 100])
def test_the_screen(width: int, golden: Callable[[str, str], None]) -> None:
    golden(f"inspection-{width}.txt", render(FOUND, Screen(width=width)))


def test_the_screen_in_ascii(golden: Callable[[str, str], None]) -> None:
    text = render(FOUND, Screen(width=80, unicode=False))
    assert text.isascii()
    golden("inspection-80-ascii.txt", text)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_only_lines_to_be_copied_are_wider_than_the_screen(width: int) -> None:
    lines = render(FOUND, Screen(width=width)).splitlines()
    assert all(len(line) <= width or "76005ba6" in line for line in lines)


def test_colours_come_only_on_request_and_never_from_the_file() -> None:
    assert "\x1b" not in render(FOUND, Screen(width=80))
    assert "\x1b[31mevil" not in render(FOUND, Screen(width=80, color=True))


def test_equal_neighbours_are_drawn_once_and_counted() -> None:
    text = render(FOUND, Screen(width=100))
    assert "0–2 (3×)  Block" in text
    assert text.count("weight 64×64") == 1


def test_a_long_tree_is_cut_and_the_rest_counted_unless_full() -> None:
    many = TreeNode(name="", kind="dict", children=tuple(_linear(f"l{n}", f"l{n}", n + 1, 2) for n in range(300)))
    found = Inspection(
        path="m", kind="torch-zip", what="x", bytes=1, sha256=None, opening=Opening(way="as it is"), tree=many
    )
    short = render(found, Screen(width=80))
    assert "and 182 more lines" in short
    assert len(render(found, Screen(width=80), full=True).splitlines()) > 300


def test_sizes_have_readable_units() -> None:
    assert [size(n) for n in (0, 1, 999, 1500, 46_827_520, 3 * 10**12)] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.5 kB",
        "46.8 MB",
        "3 TB",
    ]
