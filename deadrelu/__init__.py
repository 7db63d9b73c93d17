"""Find the dead ReLU units of a trained PyTorch model.

`deadrelu.scan(model, data)` returns a `Report`; importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deadrelu.version import __version__

if TYPE_CHECKING:
    from deadrelu.api.callbacks import lightning_callback, transformers_callback
    from deadrelu.api.certifying import prove
    from deadrelu.api.recycling import recycle, recycler
    from deadrelu.api.remedies import patch, prune, suggest
    from deadrelu.api.scanning import open_model, scan
    from deadrelu.api.training import trial
    from deadrelu.api.watching import watch
    from deadrelu.errors import DeadreluError, ExitCode
    from deadrelu.gate import GateFailed, check
    from deadrelu.judge.judgement import exit_code, judge
    from deadrelu.judge.policy import Policy
    from deadrelu.report import Finding, Report, Site, SiteStats, Skipped

_HOMES = {
    "api.scanning": ("scan", "open_model"),
    "api.remedies": ("suggest", "patch", "prune"),
    "api.training": ("trial",),
    "api.certifying": ("prove",),
    "api.watching": ("watch",),
    "api.recycling": ("recycle", "recycler"),
    "api.callbacks": ("lightning_callback", "transformers_callback"),
    "gate": ("check", "GateFailed"),
    "judge.judgement": ("judge", "exit_code"),
    "judge.policy": ("Policy",),
    "report": ("Report", "Site", "SiteStats", "Skipped", "Finding"),
    "errors": ("DeadreluError", "ExitCode"),
}
"""Where each name lives: `deadrelu --help` needs none of them."""


def __getattr__(name: str) -> Any:
    """Import a name of the package when it is first used."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})


__all__ = [
    "scan",
    "check",
    "suggest",
    "patch",
    "trial",
    "prove",
    "prune",
    "watch",
    "recycle",
    "recycler",
    "lightning_callback",
    "transformers_callback",
    "open_model",
    "judge",
    "exit_code",
    "Policy",
    "Report",
    "Site",
    "SiteStats",
    "Skipped",
    "Finding",
    "DeadreluError",
    "GateFailed",
    "ExitCode",
    "__version__",
]
