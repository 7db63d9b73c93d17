"""Griffe extension: gives the page of the API the keywords that `deadrelu.api` adds to its functions, as a list."""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe


class Signatures(griffe.Extension):
    """Reads the signature and docstring of the functions of `deadrelu.api` from the functions themselves."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace `**options` by the keywords it stands for, and make a list of their descriptions."""
        if func.docstring is None:
            return
        if func.parent is not None and func.parent.path.startswith("deadrelu.api.") and "options" in func.parameters:
            import deadrelu

            found = getattr(deadrelu, func.name)
            parameters = inspect.signature(found).parameters
            if "options" not in parameters:
                del func.parameters["options"]
            for name in [name for name in parameters if name not in func.parameters]:
                annotation, default = str(parameters[name].annotation), repr(parameters[name].default)
                kind = griffe.ParameterKind.keyword_only
                func.parameters.add(griffe.Parameter(name, annotation=annotation, kind=kind, default=default))
            func.docstring.value = inspect.getdoc(found) or ""
        func.docstring.value = re.sub(r"(?m)^(?=`\w+`(?:, `\w+`)*: )", "- ", func.docstring.value)
