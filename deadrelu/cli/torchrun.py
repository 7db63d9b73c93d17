"""torchrun with deadrelu's exit codes: `python -m deadrelu.cli.torchrun --nproc-per-node=2 -m deadrelu scan …`.

torchrun itself always exits with 1 on a failure, which is the code of a failed gate.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from deadrelu.errors import ExitCode


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run torchrun with these arguments; exit with the code of the first rank that failed, or 2 where one died."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    try:
        run(get_args_parser().parse_args(arguments))
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        known = {int(code) for code in ExitCode}
        sys.exit(codes.pop() if len(codes) == 1 and codes <= known else int(ExitCode.COULD_NOT_RUN))
    sys.exit(int(ExitCode.OK))


if __name__ == "__main__":
    main()
