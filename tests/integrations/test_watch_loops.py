"""The monitor in the loops of ignite and of Keras: one window for so many iterations, counted on their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import deadrelu
from deadrelu.report.run import read_run

KERAS = """
import keras, numpy as np, torch, deadrelu
keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(12), keras.layers.ReLU(), keras.layers.Dense(2)]
model = keras.Sequential([keras.layers.Input((8,)), *layers])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
x, y = np.random.randn(320, 8).astype("float32"), np.random.randint(0, 2, 320)
with deadrelu.watch(model, every=5, log="run.jsonl") as monitor:
    step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: monitor.step())
    model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0, callbacks=[step])
window = monitor.run.windows[-1]
rows = x[16 * (window.step - 1) : 16 * window.step]
first = np.maximum(rows @ keras.ops.convert_to_numpy(layers[0].kernel), 0)
assert abs(window.sites[0].firing_rate - (first > 0).mean()) < 1e-9
scan = deadrelu.scan(model, torch.tensor(x))
assert [site.site.id for site in scan.sites] == [site.id for site in window.sites]
"""


def test_ignite_steps_the_monitor(tmp_path: Path) -> None:
    pytest.importorskip("ignite", reason="ignite is not installed (extra: integrations)", exc_type=ImportError)
    from ignite.engine import Events, create_supervised_trainer

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 0.0), nn.CrossEntropyLoss())
    data = [(torch.randn(16, 8), torch.randint(2, (16,))) for _ in range(20)]
    log = tmp_path / "run.jsonl"
    with deadrelu.watch(model, every=5, log=log) as monitor:
        trainer.add_event_handler(Events.ITERATION_COMPLETED, monitor.step)
        trainer.run(data, max_epochs=2)
    windows = read_run(log.read_text()).windows
    assert [window.step for window in windows] == [1, *range(5, 41, 5)]
    with torch.no_grad():
        for window in windows:
            fires = model[0](data[(window.step - 1) % 20][0]) > 0
            assert window.samples == 16
            assert window.sites[0].firing_rate == pytest.approx(float(fires.float().mean()))


def test_keras_steps_the_monitor_and_its_symbolic_pass_is_not_counted(tmp_path: Path) -> None:
    if find_spec("keras") is None:  # without its backend in the environment it cannot be imported here
        pytest.skip("Keras is not installed (extra: integrations)")
    done = subprocess.run(
        [sys.executable, "-c", KERAS],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    windows = read_run((tmp_path / "run.jsonl").read_text()).windows
    assert [(window.step, window.samples) for window in windows] == [(1, 16), (5, 16), (10, 16), (15, 16), (20, 16)]
