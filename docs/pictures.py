"""The pictures of docs/: real output of `deadrelu` on the sample models, as SVG, and its HTML page, as PNG.

`python docs/pictures.py` writes them into docs/pictures/; it needs the `dev` extra and Chromium. The pages name the
same commands, and a test compares the text of each SVG with what its command prints.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
WIDTH = 88

_DATA = "--data sample_models/digits.npz"
PICTURES = {
    "scan": f"deadrelu scan sample_models/dying.pt {_DATA} --max-dead 5%",
    "units": f"deadrelu scan sample_models/dying.pt {_DATA} --units 5",
    "trend": f"deadrelu trend sample_models/epoch_01.pt sample_models/epoch_05.pt sample_models/epoch_15.pt {_DATA}",
    "patch": f"deadrelu patch sample_models/dying.pt {_DATA} --reinit --only-dead-units -o patched.pt",
    "inspect": "deadrelu inspect sample_models/cnn_weights.pt",
}
"""The command behind each SVG, by the file's name."""

COLOURS = [
    (120, 124, 133),
    (255, 143, 99),
    (85, 196, 183),
    (226, 176, 74),
    (124, 178, 232),
    (176, 148, 235),
    (85, 196, 183),
]
"""Black to cyan, as the HTML page has them in the dark."""

PAGE = f"deadrelu scan sample_models/dying.pt {_DATA} --max-dead 5% -o page.html"


def run(command: str, folder: Path) -> str:
    """Return what a `deadrelu` command prints on a colour terminal, in a folder that holds the sample models."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    return done.stdout.rstrip("\n")


def terminal(name: str, command: str, output: str) -> str:
    """Return `output`, with its colours, as an SVG picture of a terminal that asks no server for a font."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    theme = TerminalTheme((26, 29, 34), (233, 231, 226), [*COLOURS, (233, 231, 226)], [*COLOURS, (255, 255, 255)])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text.from_ansi(f"{output}\n"))  # the last line would be cut at its foot
    svg = console.export_svg(title="", theme=theme, unique_id=name)
    own_fonts = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    return own_fonts.replace("Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace")


def photograph(page: Path, picture: Path, *, dark: bool) -> None:
    """Save the top of an HTML page as a PNG of few colours."""
    from PIL import Image

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("the picture of the page needs Chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1130"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--screenshot={picture}"]
    subprocess.run([browser, *flags, page.as_uri()], check=True, capture_output=True, timeout=60)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> None:
    """Make all pictures again."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copytree(ROOT / "sample_models", folder / "sample_models")
        for name, command in PICTURES.items():
            svg = terminal(name, command, run(command, folder))
            (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
        run(PAGE, folder)
        photograph(folder / "page.html", FOLDER / "page-light.png", dark=False)
        photograph(folder / "page.html", FOLDER / "page-dark.png", dark=True)


if __name__ == "__main__":
    main()
