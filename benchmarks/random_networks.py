"""The random networks of the test suite, more of them: `python -m benchmarks.random_networks --networks 2000`.

Each is scanned at every batch size and with every `--stats`, and held against what its construction says of its
sites. A mismatch comes with its seed, the statements that lead to it, and the whole network, ready to paste.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import torch

from deadrelu.errors import DeadreluError
from tests.networks.compare import ROWS, STATS, Verdict, compare
from tests.networks.forms import FORMS, UnfaithfulError
from tests.networks.network import Built, network
from tests.networks.oracle import UnrunnableError


def main() -> int:
    """Scan the networks and print what differs; 1 if anything is wrong that is not called a guess."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first network")
    parser.add_argument("--hard", action="store_true", help="networks in which features meet on different axes")
    parser.add_argument("--form", choices=sorted(FORMS), help="scan this form of each network instead")
    parser.add_argument("--show-guesses", action="store_true", help="print the networks with a guess too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, counts, unfaithful, unrunnable = time.monotonic(), Counter[str](), 0, 0
    for seed in range(options.first, options.first + options.networks):
        built = network(seed, hard=options.hard)
        try:
            found = _verdicts(built, options.form)
        except UnfaithfulError:
            unfaithful += 1
            continue
        except UnrunnableError:
            unrunnable += 1
            continue
        counts.update(verdict.kind for _, verdict in found)
        shown = {"wrong", "guess"} if options.show_guesses else {"wrong"}
        _print(built, [(way, verdict) for way, verdict in found if verdict.kind in shown])
    total = sum(counts.values())
    print(f"{options.networks} networks, {total} sites compared in {time.monotonic() - start:.0f} s")
    if unfaithful:
        print(f"{unfaithful} of them left out: torch makes no {options.form} form, or one that computes something else")
    if unrunnable:
        print(f"{unrunnable} of them left out: torch refuses to run them at one of the batch sizes")
    for kind in ("right", "skipped", "guess", "wrong"):
        print(f"{kind:8}{counts[kind]:8}{counts[kind] / max(total, 1):9.2%}")
    return int(counts["wrong"] > 0)


def _verdicts(built: Built, form: str | None) -> list[tuple[str, Verdict]]:
    """The verdict on every site, each with the batch size and the statistics of its scan."""
    out: list[tuple[str, Verdict]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = FORMS[form](built, Path(folder)) if form else None
        for batch_size, stats in product(ROWS, STATS):
            way = f"batch size {batch_size}, stats {stats}"
            try:
                out += [(way, verdict) for verdict in compare(built, batch_size, stats, file=file)]
            except DeadreluError as error:
                out.append((way, Verdict("(all)", "wrong", f"the scan raised: {error}")))
    return out


def _print(built: Built, found: list[tuple[str, Verdict]]) -> None:
    """Each site once, with the ways in which it came out so."""
    for site in dict.fromkeys(verdict.site for _, verdict in found):
        mine = [(way, verdict) for way, verdict in found if verdict.site == site]
        print(f"\nseed {built.seed}, {site}: {mine[0][1].kind} in {len(mine)} scans; {mine[0][0]}: {mine[0][1].why}")
        if site != "(all)":
            print("\n".join(f"    {line}" for line in built.leading_to(site)))
    if found:
        print(f"\n{built.source}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
