"""A scan by several processes is the scan by one: same sites, same counts; and one failure ends it for all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from deadrelu.errors import ExitCode
from deadrelu.measure.distributed import fingerprint
from deadrelu.measure.measurement import Measurement, SiteCounts, merge_measurements, merge_shapes
from deadrelu.programs.program import Batch
from deadrelu.programs.shard import UNSHARDED, Shard
from deadrelu.report import Counts, Site, Skipped
from tests.cli.conftest import Done, environment
from tests.cli.forked import Forks

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"
HANDED = "key_padding_mask of attention"
ROUNDED = ("mean_activation", "dormancy")
CODE = """
import os, signal, time
import torch
from torch import nn

class Fork(nn.Module):
    '''Which activation runs depends on the batch; one is called twice by some batches only; one never.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.fc, self.out = nn.Linear(4, 6), nn.Linear(6, 3)
        self.even, self.odd, self.twice, self.never = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        number = int(x[0, 0])
        x = self.fc(x[:, 1:])
        x = self.odd(x) if number % 2 else self.even(x)
        x = self.out(x)
        if number == 5:
            x = self.twice(x - 0.5)
        x = self.twice(x)
        return torch.relu(x - 1) if number == 3 else x

class Mixture(nn.Module):
    '''Its expert gets rows in odd batches alone, its spare never; padding is what is 0.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(9, 4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.act, self.expert, self.spare = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        y = self.embedding(x)
        y = self.act(y + self.attention(y, y, y, key_padding_mask=x == 0)[0])
        return self.expert(y[:, 0][x[:, 0] % 2 == 1]).sum() + self.spare(y[:, 0][x[:, 0] > 9]).sum()

def tokens():
    torch.manual_seed(11)
    for number in range(7):
        x = torch.randint(0, 9, (4 if number < 6 else 2, 5))
        x[:, 0] = 1 + number % 2
        yield x

def data():
    torch.manual_seed(11)
    for number in range(11):
        x = torch.randn(4 if number < 10 else 2, 5)
        x[:, 0] = number
        yield x

def failing():
    for number, x in enumerate(data()):
        if number == 3 and os.environ["RANK"] == os.environ["BAD"]:
            how = os.environ["HOW"]
            if how == "raise":
                raise OSError("the disk is on fire")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        print("the loader says hello")
        yield x

def shuffled():
    generator = torch.Generator()
    generator.seed()
    return torch.utils.data.DataLoader(torch.cat(list(data())[:10]), 4, shuffle=True, generator=generator)

class Samples(torch.utils.data.Dataset):
    '''Writes down which samples were touched.'''

    def __len__(self):
        return 40

    def __getitem__(self, index):
        with open(f"touched.{os.environ.get('RANK', 'alone')}", "a") as file:
            file.write(f"{index}\\n")
        x = torch.randn(5, generator=torch.Generator().manual_seed(index))
        x[0] = index // 4
        return x
"""


@cache
def forks(rank: int) -> Forks:  # noqa: ARG001  # one for each
    """The process of which each run of this rank is a fork."""
    return Forks(environment())


def run(*words: str, cwd: Path = ROOT, ranks: int = 2, **changes: str) -> Done:
    """`deadrelu` with these words in as many forks as there are ranks; alone with one rank.

    As under torchrun, the output is that of all ranks, and the exit code that of the ranks that failed.
    """
    meeting = {}
    if ranks > 1:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # outlives every rank, as a launcher's
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(ranks)}
        meeting["TORCHELASTIC_USE_AGENT_STORE"] = "True"

    def start(rank: int) -> tuple[int, bytes, bytes]:
        own = {**meeting, "RANK": str(rank)} if meeting else {}
        return forks(rank).run(list(words), cwd, environment(**own, **changes))

    with ThreadPoolExecutor(ranks) as pool:
        codes, outs, errs = zip(*pool.map(start, range(ranks)), strict=True)
    failures = {code for code in codes if code} or {0}
    code = failures.pop() if len(failures) == 1 else int(ExitCode.COULD_NOT_RUN)
    return Done(code, b"".join(outs).decode(), b"".join(errs).decode())


def torchrun(*words: str, cwd: Path = ROOT, **changes: str) -> Done:
    """`deadrelu` with these words in two ranks under our own torchrun."""
    command = [sys.executable, "-m", "deadrelu.cli.torchrun", "--nproc-per-node=2", "-m", "deadrelu", *words]
    done = subprocess.run(
        command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=300, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def errors(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("error: ")]


def same_but_for_rounding(one: dict[str, Any], many: dict[str, Any]) -> None:
    """Equal in every byte, but for the means, which agree to seven digits."""
    for ours, theirs in zip(one["sites"], many["sites"], strict=True):
        for name in ROUNDED:
            for a, b in zip(ours.pop(name), theirs.pop(name), strict=True):
                assert a == b if a is None or b is None else a == pytest.approx(b, rel=1e-6, abs=1e-9)
    assert json.dumps(one) == json.dumps(many)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "fork.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_report_is_that_of_one_process(ranks: int, tmp_path: Path) -> None:
    words = ["scan", str(SAMPLES / "conv.pt"), "--data", str(SAMPLES / "digits.npz"), "--format", "json"]
    one, many = run(*words, ranks=1), run(*words, "-o", f"json={tmp_path / 'many.json'}", ranks=ranks)
    assert (one.code, many.code) == (0, 0), many.err
    assert json.loads((tmp_path / "many.json").read_text()) == json.loads(many.out)
    assert many.err.count("note: ") == 1  # rank 0 alone writes
    same_but_for_rounding(json.loads(one.out), json.loads(many.out))


@pytest.mark.parametrize("data", ["data", "Samples"])
def test_sites_that_only_some_ranks_met_come_out_as_in_one_process(data: str, code: Path) -> None:
    words = ["scan", "fork.py:Fork", "--data", f"fork.py:{data}", "--batch-size", "4", "--format", "json"]
    one, many = run(*words, cwd=code, ranks=1), run(*words, cwd=code)
    report = json.loads(one.out)
    ids = [site["id"] for site in report["sites"]]
    assert ids == ["even", "twice#1", "odd", "out:relu", "twice#2"]
    assert [skipped["id"] for skipped in report["skipped"]] == ["never"]
    same_but_for_rounding(report, json.loads(many.out))


def test_rows_and_padding_that_only_some_ranks_saw_come_out_as_in_one_process(code: Path) -> None:
    words = ["scan", "fork.py:Mixture", "--data", "fork.py:tokens", "--format", "json"]
    one, many = run(*words, cwd=code, ranks=1), run(*words, cwd=code)
    report = json.loads(one.out)
    assert [(site["id"], site["samples"]) for site in report["sites"]] == [("act", 26), ("expert", 14)]
    assert [skipped["id"] for skipped in report["skipped"]] == ["spare"]
    assert report["settings"]["padding"] == [f"{130 - report['sites'][0]['positions']} of 130 positions ({HANDED})"]
    same_but_for_rounding(report, json.loads(many.out))


def test_a_rank_reads_only_its_own_samples_and_the_first_batch_of_a_dataset(code: Path) -> None:
    run("scan", "fork.py:Fork", "--data", "fork.py:Samples", "--batch-size", "4", cwd=code)
    touched = [set(map(int, (code / f"touched.{rank}").read_text().split())) for rank in (0, 1)]
    assert touched[0] == {i for i in range(40) if i // 4 % 2 == 0}
    assert touched[1] == {i for i in range(40) if i // 4 % 2 == 1} | {0, 1, 2, 3}


def test_more_ranks_than_batches_change_nothing(code: Path) -> None:
    words = ["scan", "fork.py:Fork", "--data", "fork.py:data", "--samples", "6", "--format", "json"]
    one, many = run(*words, cwd=code, ranks=1), run(*words, cwd=code, ranks=3)
    same_but_for_rounding(json.loads(one.out), json.loads(many.out))


@pytest.mark.parametrize("bad", ["0", "1"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "failing failed at batch 3: .*the disk is on fire"),
        ("kill", "lost each other"),
        ("hang", "lost each other"),
    ],
)
def test_a_rank_that_fails_dies_or_hangs_ends_the_run_with_2_and_one_line(
    how: str, message: str, bad: str, code: Path
) -> None:
    changes = {"HOW": how, "BAD": bad, "DEADRELU_RANK_TIMEOUT": "5" if how == "hang" else "100"}
    check_failure(run("scan", "fork.py:Fork", "--data", "fork.py:failing", cwd=code, **changes), message)


def test_under_torchrun_a_rank_that_dies_ends_the_run_with_2_and_one_line(code: Path) -> None:
    done = torchrun("scan", "fork.py:Fork", "--data", "fork.py:failing", cwd=code, HOW="kill", BAD="1")
    check_failure(done, "rank died|lost each other")


def check_failure(done: Done, message: str) -> None:
    assert done.code == 2
    assert done.out == ""
    (line,) = errors(done)
    assert re.search(message, line), line


def test_the_gate_fails_with_1_and_only_after_rank_0_has_written(tmp_path: Path) -> None:
    words = ["scan", str(SAMPLES / "dying.pt"), "--data", str(SAMPLES / "digits.npz"), "--max-dead", "1%"]
    done = torchrun(*words, "-o", f"json={tmp_path / 'out.json'}")
    assert done.code == 1
    assert "FAIL" in done.out
    assert json.loads((tmp_path / "out.json").read_text())["summary"]["verdict"] == "fail"
    assert errors(done) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scan", "fork.py:Fork", "--data", "fork.py:shuffled"], "does not see the same data"),
        (["scan", "fork.py:Fork", "--nope"], "there is no option --nope"),
        (["patch", "fork.py:Fork"], "a patch is made by one process"),
    ],
)
def test_an_error_of_every_rank_is_printed_once(words: list[str], message: str, code: Path) -> None:
    done = run(*words, cwd=code)
    assert done.code == 2
    (line,) = errors(done)
    assert message in line


def test_every_rank_exits_with_3_if_there_is_no_site(code: Path) -> None:
    (code / "plain.py").write_text("from torch import nn\ndef make(): return nn.Linear(5, 2)\n")
    done = run("scan", "plain.py:make", "--data", "fork.py:data", cwd=code)
    assert done.code == 3
    assert len(errors(done)) == 1


def test_a_process_group_of_the_user_stays_open(tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text(
        "import os, sys, torch, torch.distributed as dist, deadrelu\n"
        "from deadrelu.measure.distributed import Ranks\n"
        "dist.init_process_group('gloo')\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())\n"
        "torch.manual_seed(0)\n"
        "x = torch.randn(10, 4)\n"
        "for p in model.parameters(): torch.nn.init.normal_(p)\n"
        "alone = deadrelu.scan(model, x, batch_size=3)\n"
        "shared = deadrelu.scan(model, x, batch_size=3, ranks=Ranks())\n"
        "assert dist.is_initialized()\n"
        "for report in (alone, shared):\n"
        "    sys.stdout.write(f'{report.data.samples} {report.sites[0].firing_rate}\\n')\n"
        "sys.stdout.flush()\n"
        "dist.barrier()\n"
        "os._exit(0)\n"  # gloo's threads now and then abort a process that Python takes apart
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(program)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("10 ")]
    assert len(lines) == 4
    assert len(set(lines)) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_batch_is_counted_once_and_all_ranks_run_the_first(size: int) -> None:
    shards = [Shard(rank, size) for rank in range(size)]
    for index in range(20):
        assert sum(shard.owns(index) for shard in shards) == 1
        assert sum(shard.runs(index) for shard in shards) == (size if index == 0 else 1)
    for shard in shards:
        made = list(shard.select(range(20)))
        assert made == [index for index, _ in zip(shard.indices(), made, strict=False)]
    assert list(UNSHARDED.select(range(5))) == [0, 1, 2, 3, 4]


def site(
    name: str, first: tuple[int, ...], *, units: int = 2, calls: int = 1, call: int = 1, **facts: Any
) -> SiteCounts:
    """A site as one rank met it, with nothing counted."""
    described = Site(
        id=name, op="relu", module=name, call=call, calls=calls, after=None, source=None, swappable=True,
        feature_axis=1, shape=facts.pop("shape", ("N", units)), units=units,
    )  # fmt: skip
    none = Counts(
        samples=0, rows=0, positions=0, fires=(0,) * units, row_fires=(0,) * units, maxima=(None,) * units,
        output_sums=(0.0,) * units, nonfinite=(0,) * units,
    )  # fmt: skip
    return SiteCounts(site=described, functional=False, first=first, counts=none, **facts)


def part(*sites: SiteCounts, skipped: Sequence[Skipped] = ()) -> Measurement:
    return Measurement(sites=sites, skipped=tuple(skipped), samples=1, batches=1)


def test_sites_are_in_the_order_of_their_first_calls_and_named_by_the_largest_number_of_calls() -> None:
    zero = part(site("a", (0, 0, 0)), site("c", (4, 0, 1)))
    one = part(site("a", (0, 0, 0), calls=2), site("b", (1, 0, 1)), site("a", (3, 0, 2), call=2, calls=2))
    assert [t.site.id for t in merge_measurements([zero, one]).sites] == ["a#1", "b", "a#2", "c"]


def test_a_site_whose_units_differ_between_ranks_is_skipped() -> None:
    (met,) = merge_measurements([part(site("a", (0, 0, 0), units=3)), part(site("a", (1, 0, 0), units=4))]).sites
    assert met.failure == "its feature axis has 3 units in one call and 4 in another"


def test_a_site_skipped_by_one_rank_is_skipped_unless_another_rank_called_it() -> None:
    never, sparse = "never called: no batch reached it", "its pre-activation is a sparse tensor"
    zero = part(skipped=[Skipped(id="a", op="relu", reason=never), Skipped(id="b", op="relu", reason=never)])
    one = part(
        site("a", (1, 0, 0)),
        skipped=[Skipped(id="b", op="relu", reason=never), Skipped(id="c", op="relu", reason=sparse)],
    )
    assert [(s.id, s.reason) for s in merge_measurements([zero, one]).skipped] == [("b", never), ("c", sparse)]


def test_shapes_merge_to_what_one_process_notes() -> None:
    assert merge_shapes([(("N", 4, 7), 1), ((), None), (("N", 4, 9), 1)], 4) == (("N", 4, "*"), 1)
    assert merge_shapes([(("N", 5, 4), 2), (("N", 4), 1)], 4) == (("*", 4), 1)
    assert merge_shapes([((), None)], 4) == ((), None)


def test_equal_batches_have_equal_fingerprints() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    same = [Batch(2, (x.clone(),)), Batch(2, (x.t().contiguous().t(),))]
    other = [Batch(2, (x + 1,)), Batch(2, (x.half(),)), Batch(2, (x.reshape(3, 2),)), Batch(2, (), {"x": x})]
    digests = {fingerprint(batch) for batch in (Batch(2, (x,)), *same)}
    assert len(digests) == 1
    assert len(digests | {fingerprint(batch) for batch in other}) == 5
    assert fingerprint(replace(same[0], kwargs={"m": torch.zeros((), dtype=torch.bfloat16)})) not in digests
