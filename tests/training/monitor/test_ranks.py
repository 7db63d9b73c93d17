"""Two processes that train one model: their counts add up to a scan of all batches, and one of them writes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from deadrelu.report.run import read_run
from tests.cli.conftest import environment

SCRIPT = """
import copy, gc, sys
import torch
import torch.distributed as dist
from torch import nn
import deadrelu

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randint(3, (96,))
net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3))
model = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with deadrelu.watch(model, every=1, log=f"{sys.argv[2]}/run.jsonl") as monitor:
    for step in range(3):
        before = copy.deepcopy(net)
        mine = slice(32 * step + 20 * rank, 32 * step + 20 + 12 * rank)  # 20 samples here, 12 there
        nn.functional.cross_entropy(model(x[mine]), y[mine]).backward()
        optimizer.step(), optimizer.zero_grad()
        window = monitor.step()
        if rank == 0:
            group, dist.group.WORLD = dist.group.WORLD, None
            site = deadrelu.scan(before, x[32 * step : 32 * step + 32], stats="rates").sites[0]
            dist.group.WORLD = group
            assert window.samples == 32, window.samples
            assert window.sites[0].dead == site.dead
            assert window.sites[0].rare == len(site.rare_units)
            assert abs(window.sites[0].firing_rate - sum(site.firing_rate) / 24) < 1e-12
del model  # it holds the group: gloo's threads would live until Python ends, and torch may abort there
gc.collect()
dist.destroy_process_group()
"""


def test_the_counts_of_all_ranks_add_up_and_one_of_them_writes(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    words = [[sys.executable, "train.py", str(rank), str(tmp_path)] for rank in range(2)]
    running = [
        subprocess.Popen(each, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) for each in words
    ]
    for process in running:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
    assert [(w.step, w.samples) for w in read_run((tmp_path / "run.jsonl").read_text()).windows] == [
        (1, 32),
        (2, 32),
        (3, 32),
    ]
