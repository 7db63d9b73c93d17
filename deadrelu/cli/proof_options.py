"""The box of inputs that a proof is about, as options of the commands that prove."""

from __future__ import annotations

from typing import Annotated

from deadrelu.cli.general import PROOF
from deadrelu.cli.options import option_in
from deadrelu.cli.values import read_number

_proof = option_in(PROOF)
BoxOption = Annotated[
    str,
    _proof(
        metavar="data|LOW,HIGH",
        help="Inputs that count: data is the range of each feature in --data; 0,1 is one range for all features.",
    ),
]
MarginOption = Annotated[
    float,
    _proof(metavar="SHARE", parser=read_number, help="Widen the range of the data at both ends: 0.1 is a tenth."),
]
