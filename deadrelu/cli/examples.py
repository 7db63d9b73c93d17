"""The examples at the end of each help: real commands, each run by a test."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "deadrelu scan model.pt --data val.npz",
        "deadrelu suggest model.pt --data val.npz",
        "deadrelu patch model.pt --data val.npz -o patched.pt",
    ),
    "scan": (
        "deadrelu scan model.pt",
        "deadrelu scan model.pt --data val.npz",
        "deadrelu scan weights.pt --arch net.py:Net --data val.npz",
        "deadrelu scan model.pt --data val.npz --max-dead 5% -o report.json",
    ),
    "suggest": (
        "deadrelu suggest model.pt --data val.npz",
        "deadrelu suggest old.json --format markdown",
    ),
    "patch": (
        "deadrelu patch model.pt --data val.npz --diff",
        "deadrelu patch model.pt --data val.npz --slope 0.1 -o patched.pt",
        "deadrelu patch model.pt --data val.npz --site '3,5' --only-dead-units -o patched.pt",
    ),
    "trial": (
        "deadrelu trial model.pt --data train.npz --val val.npz",
        "deadrelu trial net.py:Net --data train.npz --arms keep,leaky_relu:0.01,gelu --epochs 20",
        "deadrelu trial model.pt --data train.npz --resume runs -o trial.html -o model=best.pt",
    ),
    "prove": (
        "deadrelu prove model.pt --data val.npz",
        "deadrelu prove model.pt --data val.npz --box 0,1 -o witnesses=woken.npz",
        "deadrelu prove model.pt --data val.npz --exact 2 --site 1 -o proof.json",
    ),
    "prune": (
        "deadrelu prune model.pt --data val.npz -o smaller.pt",
        "deadrelu prune model.pt --data val.npz --proved --box 0,1 -o smaller.pt",
    ),
    "inspect": (
        "deadrelu inspect model.pt",
        "deadrelu inspect weights.pt --full",
    ),
    "diff": (
        "deadrelu diff old.json new.json --fail-on worse",
        "deadrelu diff old.pt model.pt --data val.npz",
    ),
    "trend": (
        "deadrelu trend old.pt model.pt --data val.npz",
        "deadrelu trend old.json new.json",
        "deadrelu trend run.jsonl -o run.html",
    ),
    "watch": (
        "deadrelu watch run.jsonl",
        "deadrelu watch run.jsonl --once",
    ),
    "merge": (
        "deadrelu merge part1.json part2.json",
        "deadrelu merge part1.json part2.json --max-dead 5% -o all.json",
    ),
    "report": (
        "deadrelu report new.json",
        "deadrelu report new.json -o report.html",
        "deadrelu report new.json --units '*'",
    ),
    "rules": (
        "deadrelu rules",
        "deadrelu rules dead-units",
    ),
}
"""By command; those of `deadrelu` itself under the empty name."""
