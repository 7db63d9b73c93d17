"""Each ailment gets its own advice, in the right order, with figures, commands and edits that hold."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import deadrelu
from deadrelu.activations import ACTIVATIONS
from deadrelu.errors import UsageError
from deadrelu.remedy.suggest import CAUTION, suggest
from deadrelu.report import DataInfo, ModelInfo, Report, Site, SiteStats, Skipped, Source
from deadrelu.report.advice import Advice, SiteAdvice
from deadrelu.report.causes import Cause, Inputs, UnitCause, Wakes
from deadrelu.report.gradients import GradientNorms, Gradients
from tests.conftest import make_report, make_site, make_stats

SAMPLES = Path(__file__).parents[2] / "sample_models"
DATA = DataInfo(source="val.npz", kind="dataset", samples=1797, batches=15, seed=None)


def report_of(*sites: SiteStats, path: str | None = "m.pt", form: str = "torch-module", **more: object) -> Report:
    """A report of these sites, of a model with a plain name."""
    report = make_report(list(sites), **{"data": DATA, **more})  # type: ignore[arg-type]
    source = report.data.source
    words = None if path is None else (path, *(() if source is None else (f"--data={source}",)))
    return replace(
        report,
        model=replace(report.model, path=path, format=form),
        settings={**report.settings, "invocation": words},
    )


def site(name: str = "act", units: int = 4, **fields: object) -> Site:
    """A module site of one call, after `fc`."""
    return replace(make_site(name, units, after="fc"), **{"swappable": True, **fields})  # type: ignore[arg-type]


def sick(dead: int, units: int = 8, name: str = "act", **fields: object) -> SiteStats:
    """The first `dead` of the units are silent; unit u of them came as near as −(u + 1) / 10."""
    return make_stats(site(name, units, **fields), [0.0] * dead + [0.5] * (units - dead))


def only(advice: Advice) -> SiteAdvice:
    """The one item."""
    assert len(advice.items) == 1
    return advice.items[0]


def commands(item: SiteAdvice) -> list[str]:
    """The commands of the remedies, in their order."""
    return [remedy.command for remedy in item.remedies if remedy.command is not None]


def test_a_healthy_report_needs_no_advice_and_no_caution() -> None:
    advice = suggest(report_of(sick(0)))
    assert (advice.items, advice.caution) == ((), "")


def test_a_few_dead_units_leak_alone_before_the_whole_site_does() -> None:
    item = only(suggest(report_of(sick(2))))
    assert item.ailment == "some dead"
    assert "2 of 8 units (25%)" in item.says
    assert "units 0–1" in item.says
    patch = "deadrelu patch m.pt --data val.npz --site act"
    assert commands(item) == [
        f"{patch} --reinit --only-dead-units --slope 0.01 -o m.act.restarted.pt",
        f"{patch} --reinit --slope 0.01 -o m.act.reinit.pt",
        f"{patch} --only-dead-units --slope 0.01 -o m.act.only-dead.pt",
        f"{patch} --slope 0.01 -o m.act.leaky.pt",
        f"{patch} --with prelu --slope 0.01 -o m.act.prelu.pt",
    ]


def test_the_whole_model_comes_first_in_the_order_of_the_evidence_and_no_two_commands_write_one_file() -> None:
    advice = suggest(report_of(sick(2, name="a"), sick(0, name="b"), sick(5, name="c")))
    patch = "deadrelu patch m.pt --data val.npz"
    assert [remedy.command for remedy in advice.whole] == [
        f"{patch} --reinit --only-dead-units --slope 0.01 -o m.restarted.pt",
        f"{patch} --reinit --slope 0.01 -o m.reinit.pt",
        f"{patch} --only-dead-units --slope 0.01 -o m.only-dead.pt",
        f"{patch} --slope 0.01 -o m.patched.pt",
        "deadrelu prove m.pt --data val.npz",
    ]
    parts = [*advice.whole, *(remedy for part in (*advice.groups, *advice.items) for remedy in part.remedies)]
    outputs = [shlex.split(remedy.command)[-1] for remedy in parts if remedy.command and " -o " in remedy.command]
    shared = [advice.groups[0].remedies[0].command, advice.groups[1].remedies[0].command]  # also in `items`
    assert len(outputs) - len(set(outputs)) == len(shared)


def test_sites_that_need_the_same_share_one_paragraph_and_one_command() -> None:
    advice = suggest(report_of(*(sick(1 + n % 3, name=f"l{n}", after=f"fc{n}") for n in range(12))))
    assert len(advice.items) == 12
    (group,) = advice.groups
    assert group.sites == tuple(f"l{n}" for n in range(12))
    assert group.says == "24 of 96 units at 12 sites (25%) never fired."
    command = group.remedies[0].command
    assert command is not None
    assert command.count("--site") == 12
    assert "`fc0`, `fc1`, `fc2` and 9 more" in " ".join(remedy.title for remedy in group.remedies)


def test_a_scan_of_some_sites_is_followed_by_a_patch_of_no_others() -> None:
    report = report_of(sick(1, name="a"), sick(2, name="b"))
    report = replace(report, settings={**report.settings, "sites": ("?",)})
    commands = [remedy.command or "" for remedy in suggest(report).whole]
    assert len(commands) == 5
    assert all("--site a --site b" in command for command in commands if " prove " not in command)


def test_weights_get_the_swap_in_python_too_and_a_library_no_edit_of_its_source(tmp_path: Path) -> None:
    library = tmp_path / "site-packages" / "lib.py"
    library.parent.mkdir()
    library.write_text("import torch\ndef f(x):\n    return torch.relu(x)\n")
    call = Source(file=str(library), line=3, column=12, end_column=25)
    sites = [sick(1, name="layer1.0.relu"), sick(1, name="head:relu#1", source=call, swappable=False)]
    advice = suggest(report_of(*sites, form="torch-state-dict"))
    assert not [r for part in (advice.items[1], *advice.groups) for r in part.remedies if r.edits]
    assert "subclass" in advice.items[1].remedies[0].title
    python = next(remedy.python for remedy in advice.whole if remedy.python)
    assert python == "from torch import nn\nmodel.layer1[0].relu = nn.LeakyReLU(0.01)"
    assert any("--to pt2" in (remedy.command or "") for remedy in advice.whole)


def test_the_python_of_the_whole_model_swaps_every_sick_site_of_a_live_one() -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)), block)
    sites = [sick(1, name=f"{n}.1") for n in range(6)]
    (whole,) = suggest(report_of(*sites, form="torch-state-dict")).whole[-1:]
    assert whole.python is not None
    assert len(whole.python.splitlines()) == 2
    exec(whole.python, {"model": model})
    assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]


@pytest.mark.parametrize(
    "fields", [{"feature_axis": 2}, {"op": "relu6"}, {"op": "hardswish"}, {"swappable": False, "source": None}]
)
def test_a_leak_in_dead_units_alone_is_offered_only_where_a_prelu_can_do_it(fields: dict[str, object]) -> None:
    item = only(suggest(report_of(sick(2, **fields))))
    assert not [command for command in commands(item) if "--only-dead-units" in command]


def test_half_dead_is_mostly_dead_and_every_swap_has_the_slope() -> None:
    assert only(suggest(report_of(sick(3)))).ailment == "some dead"
    item = only(suggest(report_of(sick(4)), slope=0.2))
    assert item.ailment == "mostly dead"
    assert all("--slope 0.2" in command for command in commands(item))
    assert any("--with prelu" in command for command in commands(item))


def test_a_wholly_dead_layer_is_not_cured_by_a_swap_and_what_follows_is_fixed_after_it() -> None:
    dead, later = suggest(report_of(sick(0, name="a"), sick(8, name="b"), sick(1, name="c"))).items
    assert (dead.site, dead.ailment) == ("b", "wholly dead")
    assert "A swap alone is not enough" in dead.says
    assert "Find the cause first" in dead.remedies[0].title
    assert "`fc`" in dead.remedies[0].title
    assert "--reinit --only-dead-units" in commands(dead)[0]
    assert "learning rate" in dead.remedies[-1].title
    assert "runs after `b`, which is wholly dead" in later.says


def test_rare_units_are_left_alone() -> None:
    stats = make_stats(site(units=3), [0.5, 0.001, 0.5])
    item = only(suggest(report_of(stats)))
    assert item.ailment == "rare"
    assert "fewer than 1% of positions, unit 1" in item.says
    assert "Leave it" in item.remedies[0].title
    assert "Sparsity is not death" in item.remedies[0].why
    assert suggest(report_of(stats)).caution == ""


def test_synthetic_data_and_few_samples_come_before_any_site() -> None:
    stats = make_stats(site(), [0.0, 0.5, 0.5, 0.5], samples=20)
    report = report_of(stats, data=DataInfo(source=None, kind="synthetic", samples=20, batches=1, seed=0))
    advice = suggest(report)
    assert [item.ailment for item in (*advice.first, *advice.items)] == [
        "synthetic data",
        "too few samples",
        "some dead",
    ]
    assert "add --data" in advice.first[0].remedies[0].title
    needed = next(n for n in range(1, 1000) if 0.99**n <= 0.05)
    assert f"Use more data, at least {needed} samples" in advice.first[1].remedies[0].title


def test_a_scan_that_was_cut_short_is_done_again_on_all_of_the_data() -> None:
    report = report_of(make_stats(site(), [0.0, 0.5, 0.5, 0.5], samples=20), data=replace(DATA, samples=20))
    words = ("m.pt", "--data=val.npz", "--samples=20")
    report = replace(report, settings={**report.settings, "samples": 20, "invocation": words})
    assert suggest(report).first[0].remedies[0].command == "deadrelu scan m.pt --data val.npz"


def test_nonfinite_values_come_before_all_else() -> None:
    nan = make_stats(site("n"), [0.5, 0.0, 0.4, 0.9], nonfinite=(1,))
    synthetic = DataInfo(source=None, kind="synthetic", samples=9999, batches=1, seed=0)
    advice = suggest(report_of(sick(1), nan, replace(nan, site=site("later")), data=synthetic))
    assert [(i.site, i.ailment) for i in (*advice.first, *advice.items)[:3]] == [
        ("n", "non-finite"),
        (None, "synthetic data"),
        ("act", "some dead"),
    ]
    assert "1 site after it too" in advice.first[0].says
    assert "the data for NaN" in advice.first[0].remedies[0].title
    weights = suggest(report_of(nan, nonfinite_weights={"fc.bias": 2})).first[0]
    assert weights.site is None
    assert "fc.bias" in weights.says
    assert "checkpoint" in weights.remedies[0].title
    assert "1 site met them too" in weights.says


@pytest.mark.parametrize(
    ("reason", "option"),
    [
        ("never called: no batch reached it", "--skip-site 'a[[]0]'"),
        ("its feature axis has 4 units in one call and 5 in another", None),
        ("its pre-activation is a single number, which has no feature axis", "--skip-site 'a[[]0]'"),
        ("its pre-activation is a nested tensor", "--skip-site 'a[[]0]'"),
        ("fused into quantized::linear_relu: its pre-activation is never formed", None),
    ],
)
def test_a_skipped_site_gets_the_way_to_measure_it(reason: str, option: str | None) -> None:
    item = only(suggest(report_of(sick(0), skipped=(Skipped(id="a[0]", op="relu", reason=reason),))))
    assert (item.site, item.ailment) == ("a[0]", "skipped")
    assert reason in item.says
    assert commands(item) == ([f"deadrelu scan m.pt --data val.npz {option}"] if option else [])


def test_the_calls_of_one_module_are_swapped_together_and_the_leak_is_for_units_dead_in_all() -> None:
    calls = [
        replace(sick(n).site, id=f"b.relu#{c}", module="b.relu", call=c, calls=3) for c, n in ((1, 0), (2, 3), (3, 1))
    ]
    stats = [make_stats(call, [0.0] * n + [0.5] * (8 - n)) for call, n in zip(calls, (1, 3, 0), strict=True)]
    first, second = suggest(report_of(*stats)).items
    patch = "deadrelu patch m.pt --data val.npz --site 'b.relu#*'"
    assert commands(first)[0] == f"{patch} --slope 0.01 -o m.b-relu-1.leaky.pt"
    assert not [command for command in commands(first) if "--only-dead-units" in command or "--reinit" in command]
    assert "called 3 times" in first.remedies[0].why
    assert "own module" in first.remedies[0].why
    assert "together with `b.relu#1`" in second.remedies[0].title
    stats[2] = make_stats(calls[2], [0.0, 0.0] + [0.5] * 6)
    alone = suggest(report_of(*stats)).items[0].remedies[0]
    assert "--only-dead-units" in (alone.command or "")
    assert "1 of 8 units is dead in all 3 calls" in alone.why


def test_a_functional_call_gets_its_edit_with_the_other_sites_that_it_changes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef f(x):\n    return torch.relu(x)\n")
    source = Source(file="net.py", line=3, column=12, end_column=25)
    fields = {"source": source, "swappable": False}
    stats = [sick(n, name=f"b{n}:relu#1", **fields) for n in (0, 1)]
    item = only(suggest(report_of(*stats), root=tmp_path))
    (edit,) = item.remedies[0].edits
    assert (edit.old, edit.new) == ("torch.relu(x)", "torch.nn.functional.leaky_relu(x, 0.01)")
    assert "1 other site" in item.remedies[0].why
    assert commands(item) == []
    gone = only(suggest(report_of(*stats), root=tmp_path / "elsewhere")).remedies[0]
    assert gone.edits == ()
    assert "net.py:3" in gone.title


def test_a_live_module_gets_a_line_of_python_that_makes_the_swap() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU6(), nn.Linear(8, 4), nn.Hardswish())
    sites = [sick(1, name="1"), sick(1, name="3", op="relu6"), sick(1, name="5", op="hardswish")]
    advice = suggest(report_of(*sites, path=None), slope=0.1)
    for item in advice.items:
        exec(item.remedies[0].python or "", {"model": model, "nn": nn})
    z = torch.linspace(-9, 9, 37)
    leaky = torch.where(z > 0, z, 0.1 * z)
    assert torch.equal(model[1](z), leaky)
    assert torch.equal(model[3](z), leaky.clamp(max=6))
    assert torch.allclose(model[5](z), z * torch.sigmoid(z))
    assert not [command for item in advice.items for command in commands(item) if "patch" in command]


@pytest.mark.parametrize("op", [*(kind.name for kind in ACTIVATIONS if not kind.replacements), "unheard-of"])
@pytest.mark.parametrize("dead", [1, 5, 8])
def test_no_swap_is_suggested_where_none_makes_sense(op: str, dead: int) -> None:
    item = only(suggest(report_of(sick(dead, op=op))))
    assert item.remedies
    assert not [command for command in commands(item) if "patch" in command]


def caused(cause: Cause, stats: SiteStats, wakes: str | None = None, **evidence: float | str) -> SiteStats:
    """The site with this cause of all its dead units; `wakes` is the parameter that would wake them."""
    woken = None if wakes is None else Wakes(parameter=wakes, add=0.5, samples=3)
    found = (UnitCause(unit=unit, cause=cause, evidence=evidence, wakes=woken) for unit in stats.dead_units)
    return replace(stats, causes=tuple(found))


def test_relu6_keeps_its_cap_and_units_stuck_above_it_are_told_that_a_leak_does_not_help() -> None:
    below = sick(2, op="relu6")
    assert any("keep the cap at 6" in remedy.title for remedy in only(suggest(report_of(below))).remedies)
    first = only(suggest(report_of(caused("cap", below, min_preactivation=7.5, cap=6.0)))).remedies[0]
    assert "Scale down" in first.title
    assert "all values are above 6 (unit 0: at least 7.5)" in first.why
    assert "does not help" in first.why


@pytest.mark.parametrize(
    ("cause", "place", "title", "evidence"),
    [
        ("bias", 0, "Set the bias of `fc` to 0", {"bias": -2.0, "max_product": 1.5, "mean_product": 0.1}),
        ("norm", 0, "Make `fc` neutral", {"gamma": 0.001, "beta": -0.3}),
        ("input mean", 0, "mean is taken out of the data", {"mean_product": -9.0, "max_centred": 3.0}),
        ("input mean", 0, "mean is taken out of the data", {"mean_normalised": -9.0}),
        ("upstream", 0, "Mend the dead site before it first", {"site": "a"}),
        ("weights", -1, "Restart these units of `fc`", {"weight_norm": 1e-4, "usual_weight_norm": 0.6}),
        ("weights", -1, "Restart these units of `fc`", {"largest_weight": -0.2, "min_input": 0.0}),
        ("unknown", -1, "clip the gradients of `fc`", {"why": "nothing is known"}),
    ],
)
def test_each_cause_has_its_remedy_before_or_after_the_swaps(
    cause: Cause, place: int, title: str, evidence: dict[str, float | str]
) -> None:
    item = only(suggest(report_of(caused(cause, sick(2), **evidence))))
    assert title in item.remedies[place].title
    shown = [value for name, value in evidence.items() if name not in ("min_input", "mean_product") or place]
    figures = [f"{value:.3g}".replace("-", "−") for value in shown if isinstance(value, float) and value]
    assert [figure for figure in figures if figure not in item.remedies[place].why] == []
    assert len(commands(item)) == 5


def test_later_sites_get_a_batch_norm_in_place_of_other_data() -> None:
    evidence = {"mean_product": -9.0, "max_centred": 3.0}
    first, later = (caused("input mean", sick(2, name=name), **evidence) for name in "ab")
    assert "batch norm before `fc`" in suggest(report_of(first, later)).items[1].remedies[0].title


def test_the_statements_for_a_bias_and_a_norm_wake_the_units() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    with torch.no_grad():
        model[1].bias[[1, 5]], model[1].weight[5] = -40, 1e-6
        model[3].bias[2] = -60
    x = torch.randn(200, 3)
    report = deadrelu.scan(model, x)
    dead = [set(stats.dead_units) for stats in report.sites]
    assert dead[0] == {1, 5}
    assert 2 in dead[1]
    statements = [remedy.python for item in suggest(report).items for remedy in item.remedies[:1]]
    for statement in statements:
        assert statement is not None
        exec(statement, {"model": model})
    again = deadrelu.scan(model, x)
    assert not dead[0] & {*again.sites[0].dead_units}
    assert 2 not in again.sites[1].dead_units


def test_many_statements_are_left_to_the_sites() -> None:
    figures = {"bias": -2.0, "max_product": 1.5, "mean_product": 0.1}
    sites = [caused("bias", sick(1, name=f"l{n}", after=f"fc{n}"), f"fc{n}.bias", **figures) for n in range(6)]
    for number, lines in ((2, 2), (6, 0)):
        advice = suggest(report_of(*sites[:number]))
        assert len((advice.groups[0].remedies[0].python or "").splitlines()) == lines
        assert all("get_parameter" in (item.remedies[0].python or "") for item in advice.items)


def test_gradients_are_clipped_at_what_a_scan_measured() -> None:
    report = report_of(sick(2))
    assert only(suggest(report)).remedies[-1].python is None
    norms = GradientNorms(median=1.0, p95=2.2, max=3.0)
    found = Gradients(loss="mse", value=1.0, accuracy=None, norm=norms, clip=2.3, first_to_last=None)
    python = only(suggest(replace(report, gradients=found))).remedies[-1].python
    assert python == "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=2.3)"


def test_inputs_of_another_scale_come_before_everything() -> None:
    inputs = Inputs(layer="0", samples=64, mean=80.0, std=96.0, min=0.0, max=255.0)
    report = replace(report_of(sick(2), data=replace(DATA, samples=20)), inputs=inputs)
    assert suggest(report).first[0].ailment == "input scale"
    assert suggest(replace(report, data=replace(DATA, kind="synthetic"))).first[0].ailment == "synthetic data"


def test_commands_survive_a_shell() -> None:
    report = report_of(sick(1, name="it's [a]\nsite"), path="my models/m.pt")
    words = shlex.split(commands(only(suggest(report)))[0])
    assert words[2] == "my models/m.pt"
    assert words[words.index("--site") + 1] == "it's [[]a]?site"


def test_the_caution_says_that_a_swap_is_not_a_cure() -> None:
    assert suggest(report_of(sick(1))).caution == CAUTION
    assert "fine-tune" in CAUTION
    assert "Sokar et al. (2023)" in CAUTION


@pytest.mark.parametrize("slope", [0.0, 1.0, -0.1, math.nan])
def test_a_slope_that_does_not_leak_is_refused(slope: float) -> None:
    with pytest.raises(UsageError, match="--slope"):
        suggest(report_of(sick(1)), slope=slope)


def test_a_report_read_back_from_json_gives_the_same_advice(canonical: Report) -> None:
    advice = deadrelu.suggest(canonical)
    assert deadrelu.suggest(Report.from_json(canonical.to_json())) == advice
    assert len({item.ailment for item in (*advice.first, *advice.items)}) >= 5
    assert isinstance(canonical.model, ModelInfo)


def test_on_the_dying_sample_the_sick_layers_are_named_in_order() -> None:
    report = deadrelu.scan(SAMPLES / "dying.pt", SAMPLES / "digits.npz", device="cpu")
    advice = deadrelu.suggest(report)
    assert [(item.site, item.ailment) for item in advice.items] == [
        ("1", "mostly dead"),
        ("3", "mostly dead"),
        ("5", "mostly dead"),
    ]


def test_the_edits_of_the_sample_network_leave_no_functional_relu(tmp_path: Path) -> None:
    weights, data = SAMPLES / "cnn_weights.pt", SAMPLES / "digits.npz"
    report = deadrelu.scan(weights, data, arch=str(SAMPLES / "model.py"), device="cpu", samples=64)
    edits = [edit for item in deadrelu.suggest(report).items for r in item.remedies for edit in r.edits]
    assert [edit.new for edit in edits] == [
        "F.leaky_relu(self.hidden(x.flatten(1)), 0.01)",
        "F.leaky_relu(self.narrow(x), 0.01)",
    ]
    text = (SAMPLES / "model.py").read_text()
    for edit in edits:
        assert text.count(edit.old) == 1
        text = text.replace(edit.old, edit.new)
    (tmp_path / "leaky_net.py").write_text(text)
    after = deadrelu.scan(weights, data, arch=str(tmp_path / "leaky_net.py"), device="cpu", samples=64)
    before_ids, after_ids = ([stats.site.id for stats in r.sites] for r in (report, after))
    assert set(before_ids) - set(after_ids) == {"hidden:relu", "narrow:relu"}
    assert set(after_ids) - set(before_ids) == {"hidden:leaky_relu", "narrow:leaky_relu"}


@pytest.mark.parametrize("form", ["torchscript", "torch-export"])
def test_a_graph_gets_a_swap_of_single_calls_and_nothing_that_needs_modules(form: str) -> None:
    item = only(suggest(report_of(sick(2, name="act#2", calls=2), form=form)))
    patches = [command for command in commands(item) if "patch" in command]
    assert patches == ["deadrelu patch m.pt --data val.npz --site 'act#2' --slope 0.01 -o m.act-2.leaky.pt"]


def test_a_hugging_face_folder_is_patched_as_a_whole() -> None:
    advice = suggest(report_of(sick(2), form="huggingface"))
    item = only(advice)
    patches = [command for command in commands(item) if "patch" in command]
    assert patches == ["deadrelu patch m.pt --data val.npz --site all -o m.patched.pt"]
    assert [remedy.command for remedy in advice.whole] == patches
    for remedy in (advice.whole[0], item.remedies[0]):  # a ReLU that the code fixes, as in ResNet, cannot be swapped so
        assert "a site that no setting names stays unchanged, and `patch` lists it" in remedy.why


@pytest.mark.parametrize("path", [".", "..", "/", "a/", "b.", ".hidden"])
def test_any_name_of_a_model_gives_names_for_the_patched_ones(path: str) -> None:
    advice = suggest(report_of(sick(1), path=path))
    assert len({remedy.command for remedy in advice.whole}) == len(advice.whole) > 0
