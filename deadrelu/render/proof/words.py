"""What a proof comes to: its headline, its sentences, and what the columns mean."""

from __future__ import annotations

from collections.abc import Iterator

from deadrelu.render.conclusion import Mood
from deadrelu.report.proof import Proof
from deadrelu.text.wording import count, percent


def proof_headline(proof: Proof) -> str:
    """Return the outcome in capitals."""
    totals = proof.totals
    if not _silent(proof):
        return "NONE SILENT"
    if totals["open"]:
        return "PARTLY OPEN"
    return "DECIDED"


def proof_mood(proof: Proof) -> Mood:
    """Return how bad it is: units that no input wakes; units that are open."""
    totals = proof.totals
    return "bad" if totals["proved"] else "doubtful" if totals["open"] or totals["woken"] else "good"


def proof_sentences(proof: Proof) -> Iterator[str]:
    """Yield what was proved, and what to do."""
    totals, silent = proof.totals, _silent(proof)
    if not silent:
        yield f"No unit is silent on {count(proof.data.samples, 'sample')}: there is nothing to prove."
        return
    decided = silent - totals["open"]
    yield (
        f"Of {count(silent, 'silent unit')} {totals['proved']:,} {_are(totals['proved'])} dead for {proof.box},"
        f" and {_woken(proof):,} {'fires' if _woken(proof) == 1 else 'fire'} on an input that was found."
        f" {percent(decided / silent)} are decided."
    )
    if totals["open"]:
        yield (
            f"{count(totals['open'], 'unit')} {_are(totals['open'])} open: no bound is tight enough, and no input was"
            " found. Give --exact SECONDS for a small network."
        )
    if given := sum(len(set(site.conditional_units) & {*site.open_units, *site.woken_units}) for site in proof.sites):
        yield (
            f"{count(given, 'more unit')} {_are(given)} dead for every input whose features before the layer stay in"
            " the range that they have on the data."
        )
    if proof.data.kind == "synthetic":
        yield "The data was synthetic: which units are silent, and its range, say little of real inputs. Give --data."
    if totals["proved"]:
        yield "Units that no input wakes can be removed (`deadrelu prune --proved`) or restarted (`patch --reinit`)."


def proof_caption() -> str:
    """Return what the columns mean."""
    return (
        "silent: fired on no sample; proved: fires for no input of the box; woken: an input of the box makes it fire;"
        " given range: fires for no input that keeps the features before it in the range of the data"
    )


def _silent(proof: Proof) -> int:
    return sum(site.silent for site in proof.sites)


def _woken(proof: Proof) -> int:
    """How many silent units were woken; the woken ones may include units that fire on the data."""
    return _silent(proof) - proof.totals["proved"] - proof.totals["open"]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
