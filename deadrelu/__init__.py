"""Find the dead ReLU units of a trained PyTorch model.

`deadrelu.scan(model, data)` returns a `Report`; importing this package does not import torch.
"""

from deadrelu.api import open_model, patch, scan, suggest
from deadrelu.errors import DeadreluError, ExitCode
from deadrelu.judge.policy import Policy, exit_code, judge
from deadrelu.report import Finding, Report, Site, SiteStats, Skipped
from deadrelu.version import __version__

__all__ = [
    "scan",
    "suggest",
    "patch",
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
    "ExitCode",
    "__version__",
]
