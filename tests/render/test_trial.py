"""A trial for a person: every arm is named, the intervals are true to scale, and nothing is claimed beyond the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from deadrelu.render.glyphs import ASCII, BLOCKS
from deadrelu.render.terminal import trial as terminal
from deadrelu.render.terminal.screen import Screen
from deadrelu.render.trial import words
from deadrelu.render.trial.figures import Digits, arm_figures, gradient_norm, p_value
from deadrelu.render.trial.promises import promised_of, promises
from deadrelu.render.trial.whiskers import WhiskerScale, whisker, whisker_axis, whisker_scale
from deadrelu.report.trial import Difference, Trial
from tests.render.trials import (
    by_loss,
    crowd,
    diverged_run,
    make_arm,
    make_run,
    make_trial,
    nothing_better,
    one_seed,
    unknown,
)

Golden = Callable[[str, str], None]
TRIALS = {f.__name__: f for f in (make_trial, nothing_better, by_loss, one_seed, unknown, crowd)}
VALIDATOR = Draft202012Validator(json.loads(files("deadrelu").joinpath("trial.schema.json").read_text("utf-8")))

every_trial = pytest.mark.parametrize("make", TRIALS.values(), ids=TRIALS)


def plain(text: str) -> str:
    """The text as one line."""
    return " ".join(text.split())


@every_trial
def test_the_schema_that_ships_fits_the_json_of_a_trial(make: Callable[[], Trial]) -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    assert list(VALIDATOR.iter_errors(json.loads(make().to_json()))) == []


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    data = json.loads(make_trial().to_json())
    arm = data["arms"][1]
    for place in (
        data,
        data["tool"],
        data["metric"],
        arm,
        arm["difference"],
        arm["runs"][0],
        arm["runs"][0]["curve"][0],
    ):
        for key in [*place]:
            kept = place.pop(key)
            missed = not VALIDATOR.is_valid(data)
            place[key] = kept
            assert missed, key
        place["other"] = 1
        assert not VALIDATOR.is_valid(data)
        del place["other"]
    assert VALIDATOR.is_valid(data)


@every_trial
def test_a_trial_reads_back_from_its_json(make: Callable[[], Trial]) -> None:
    assert Trial.from_json(make().to_json()) == make()


def test_a_trial_is_drawn(golden: Golden) -> None:
    golden("trial-80.txt", terminal.render(make_trial(), Screen(width=80)))
    golden("trial-120.txt", terminal.render(make_trial(), Screen(width=120)))
    golden("trial-80-ascii.txt", terminal.render(make_trial(), Screen(width=80, unicode=False)))
    golden("trial-80-color.txt", terminal.render(make_trial(), Screen(width=80, color=True)))
    golden("trial-nothing-better-80.txt", terminal.render(nothing_better(), Screen(width=80)))
    golden("trial-loss-100.txt", terminal.render(by_loss(), Screen(width=100)))
    golden("trial-one-seed-80.txt", terminal.render(one_seed(), Screen(width=80)))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("unicode", [True, False])
@every_trial
def test_no_line_but_the_command_is_wider_than_the_screen(make: Callable[[], Trial], width: int, unicode: bool) -> None:
    lines = terminal.render(make(), Screen(width=width, unicode=unicode)).splitlines()
    assert max(len(line) for line in lines if "deadrelu patch models" not in line) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_is_cut_and_still_told_apart(width: int) -> None:
    names = [f"leaky_relu:0.01+reinit+weight_decay:1e-{n}+norm" for n in range(4)]
    arms = tuple(make_arm(name, [make_run(seed, 0.9) for seed in range(2)]) for name in names)
    lines = terminal.render(make_trial(arms, winner=None), Screen(width=width)).splitlines()
    start = next(n for n, line in enumerate(lines) if "arm" in line.split())
    shown = [line.split()[0 if n == 0 else 1] for n, line in enumerate(lines[start + 1 : start + 5])]
    assert len(set(shown)) == 4


@pytest.mark.parametrize("color", [True, False])
def test_a_hostile_name_can_neither_colour_nor_break_the_text(color: bool) -> None:
    evil = "a\n\x1b[31m[bold]\u202e"
    trial = make_trial()
    arms = [replace(arm, name=f"{arm.name}{evil}", command=evil, recipe=evil) for arm in trial.arms]
    metric, data = replace(trial.metric, name=evil), replace(trial.data, train=evil, val=evil)
    model = replace(trial.model, path=evil, format=evil)
    evils = replace(trial, arms=tuple(arms), metric=metric, data=data, model=model, winner=arms[2].name, notes=(evil,))
    text = terminal.render(evils, Screen(width=300, color=color))
    assert "\x1b[31m[bold]" not in text
    assert "\u202e" not in text
    assert "\n\x1b[31m" not in text
    assert color or "\x1b" not in text
    assert r"\x1b[31m[bold]" in text


@given(
    estimates=st.lists(st.floats(-1, 1), min_size=2, max_size=6),
    half=st.floats(0, 0.5),
    width=st.integers(9, 60),
    plain_glyphs=st.booleans(),
)
def test_a_whisker_is_true_to_scale(estimates: list[float], half: float, width: int, plain_glyphs: bool) -> None:
    glyphs = ASCII if plain_glyphs else BLOCKS
    differences = [
        Difference(estimate=e, low=e - half, high=e + half, p=0.5, level=0.95, detectable=0.1, pairs=5, wins=3)
        for e in sorted(estimates)
    ]
    arms = [make_arm(str(n), []) for n in range(len(differences) + 1)]
    compared = [replace(arm, difference=d) for arm, d in zip(arms[1:], differences, strict=True)]
    scale = whisker_scale(make_trial((arms[0], *compared), winner=None))
    drawn = [whisker(difference, scale, width, glyphs) for difference in differences]
    points = set(glyphs.whisker[3:6])
    places = [next(n for n, sign in enumerate(text) if sign in points) for text, _ in drawn]
    assert places == sorted(places)
    for difference, (text, zero) in zip(differences, drawn, strict=True):
        assert len(text) == width
        assert zero == round(scale.place(0) * (width - 1))
        crosses = text[zero] not in (glyphs.whisker[6], *points)
        at = text[zero] in points
        assert crosses <= (difference.low <= 0 <= difference.high) or at  # type: ignore[operator]


def test_an_interval_that_leaves_out_zero_does_not_seem_to_touch_it() -> None:
    near = Difference(estimate=0.05, low=0.001, high=0.1, p=0.01, level=0.95, detectable=0.1, pairs=5, wins=5)
    scale = WhiskerScale(low=-0.1, high=0.1)
    assert whisker(near, scale, 21, BLOCKS) == ("          ┊├───●────┤", 10)
    below = replace(near, estimate=-0.05, low=-0.1, high=-0.001)
    assert whisker(below, scale, 21, BLOCKS) == ("├────●───┤┊          ", 10)


def test_an_arm_far_beyond_the_others_does_not_squeeze_them() -> None:
    trial = make_trial()
    collapsed = Difference(estimate=-0.8, low=-0.9, high=-0.7, p=0.001, level=0.95, detectable=0.1, pairs=5, wins=0)
    arms = (*trial.arms, make_arm("selu", []))
    with_it = replace(trial, arms=(*arms[:-1], replace(arms[-1], verdict="worse", difference=collapsed)))
    scale = whisker_scale(with_it)
    assert -0.4 < scale.low < scale.high < 0.1
    text, _ = whisker(collapsed, scale, 31, BLOCKS)
    assert text[0] == "◂"


def test_the_axis_names_both_ends_and_zero() -> None:
    scale = WhiskerScale(low=-0.1, high=0.1)
    assert whisker_axis(scale, 21, ("−10", "+10")) == "−10       0       +10"
    assert whisker_axis(scale, 5, ("−10", "+10")) == "     "


@every_trial
def test_every_arm_is_named_in_full_on_a_wide_screen(make: Callable[[], Trial]) -> None:
    text = terminal.render(make(), Screen(width=200))
    for arm in make().arms:
        assert arm.name in text


def test_the_winner_is_named_with_both_means_the_seeds_and_the_interval() -> None:
    assert words.trial_headline(make_trial()) == "BETTER"
    assert words.trial_mood(make_trial()) == "good"
    assert words.trial_conclusion(make_trial()) == (
        "reinit reaches 96.1% ± 0.6 accuracy where keep stays at 89.7%: better on 5 of 5 seeds,"
        " by 6.4 points (5.1 to 7.7 at 98.8% confidence). leaky_relu:0.01 (by 2.3 points) was worse than keep."
    )


def test_without_a_winner_the_power_is_said() -> None:
    assert words.trial_headline(nothing_better()) == "NOTHING BETTER"
    assert words.trial_conclusion(nothing_better()) == (
        "Nothing was better than keep (99.0%): leave the model as it is. With 5 seeds and 497 samples,"
        " a true difference of 0.8 points would have been found in 4 of 5 trials."
    )


def test_of_a_loss_less_is_better() -> None:
    assert words.trial_conclusion(by_loss()) == (
        "weight_decay:1e-4 gets down to a cross entropy of 0.3535 ± 0.0025 where keep stays at 0.4145:"
        " better on 3 of 3 seeds, by 0.0610 (0.0390 to 0.0830 at 98.8% confidence)."
        " elu (by 0.0430) was worse than keep."
    )
    text = terminal.render(by_loss(), Screen(width=120))
    assert "lower is better" in text
    assert "left is better" in plain(text)
    assert text.index("weight_decay:1e-4") < text.index("elu")


def test_a_single_seed_proves_nothing() -> None:
    assert words.trial_headline(one_seed()) == "ONE SEED"
    assert words.trial_conclusion(one_seed()) == (
        "One seed cannot tell a better arm from luck: reinit was 5.0 points better than keep this time,"
        " so run more seeds."
    )
    step = words.trial_step(one_seed())
    assert step is not None
    assert step.command is None


def test_a_winner_with_a_diverged_run_is_doubtful() -> None:
    trial = make_trial()
    arms = [replace(a, runs=(*a.runs[:4], diverged_run(4))) if a.name == "reinit" else a for a in trial.arms]
    shaken = replace(trial, arms=tuple(arms))
    assert words.trial_mood(shaken) == "doubtful"
    assert ", but 1 of its 5 runs did not finish." in words.trial_conclusion(shaken)
    assert "reinit: 1 of 5 runs diverged (seed 4 at step 200)." in words.trial_cautions(shaken)


def test_an_arm_without_a_difference_never_won() -> None:
    trial = make_trial()
    arms = tuple(replace(arm, difference=None) for arm in trial.arms)
    assert words.trial_headline(replace(trial, arms=arms)) == "NOTHING COMPARED"
    assert words.winner_of(replace(trial, winner="not an arm")) is None
    assert words.winner_of(replace(trial, winner="keep")) is None


def test_failed_diverged_and_dropped_runs_are_named() -> None:
    trial = make_trial()
    dropped = replace(trial, arms=(*trial.arms[:-1], replace(trial.arms[-1], dropped_after=2)))
    assert words.trial_cautions(dropped) == [
        "gelu: 1 of 5 runs diverged (seed 4 at step 200).",
        "leaky_relu:0.01+reinit+weight_decay:1e-4: 1 of 5 runs failed (seed 4): CUDA out of memory Tried to allocate"
        " 2.00 GiB.",
        "leaky_relu:0.01+reinit+weight_decay:1e-4 was dropped after 2 seeds: it was too far behind.",
    ]


def test_nothing_is_compared_without_results() -> None:
    assert words.trial_conclusion(unknown()) == "keep has no result, so nothing can be compared with it."
    assert words.trial_mood(unknown()) == "bad"
    alone = make_trial(make_trial().arms[:1], winner=None)
    assert words.trial_conclusion(alone) == "Only keep was trained: there is nothing to compare it with."
    assert promises(alone) == []
    terminal.render(alone)


def test_the_next_command_is_that_of_the_winner_and_what_patch_cannot_do_is_said() -> None:
    step = words.trial_step(make_trial())
    assert step is not None
    assert step.command == "deadrelu patch models/net.pt --reinit -o patched.pt"
    step = words.trial_step(by_loss())
    assert step is not None
    assert (step.command, step.purpose) == (
        None,
        "Train with the recipe weight_decay:1e-4",
    )
    assert words.trial_step(nothing_better()) is None


def test_the_four_promises_are_measured_on_the_purest_leaky_arm() -> None:
    assert promised_of(make_trial()) == "Four promises of leaky ReLU, measured with leaky_relu:0.01"
    assert [(promise.claim, promise.measured) for promise in promises(make_trial())] == [
        (
            "Shorter training",
            "on 1 of 5 seeds it reached the best accuracy of keep, after 540 steps or 2.8 s;"
            " keep itself took 470 steps or 2.5 s (median).",
        ),
        ("Better generalization", "training minus validation accuracy is +1.2 points, against +1.2 with keep."),
        ("Better accuracy", "−2.3 points (−3.4 to −1.2) from keep, ahead on 0 of 5 seeds: worse."),
        (
            "No exploding gradients",
            "gradient norm median 0.84 and at most 9.8, 0 of 5 runs diverged;"
            " with keep, gradient norm median 0.6 and at most 7, 0 of 5 runs diverged.",
        ),
    ]
    assert "(no arm was leaky)" in promised_of(by_loss())


def test_the_figures_of_an_arm_are_those_of_its_runs() -> None:
    arm = make_trial().arm("reinit")
    figures = arm_figures(arm)
    assert figures.average == pytest.approx(0.961)
    assert figures.spread == pytest.approx((sum((0.004 * n) ** 2 for n in (-2, -1, 0, 1, 2)) / 4) ** 0.5)
    assert (figures.complete, figures.reached, figures.steps) == (5, 5, 230)
    assert figures.largest_gradient == pytest.approx(0.9 * 7)
    assert arm_figures(make_trial().arm("gelu")).complete == 4


@given(st.floats(0, 1), st.integers(1, 2))
def test_a_share_below_one_is_never_said_to_be_all(share: float, decimals: int) -> None:
    text = Digits(percent=True, decimals=decimals).value(share)
    assert float(text[:-1]) < 100 or share > 0.99999999


def test_numbers_have_the_digits_that_matter() -> None:
    digits = Digits(percent=True, decimals=1)
    assert [digits.change(x) for x in (0.089, -0.021, 0.0, -0.0001)] == ["+8.9", "−2.1", "0.0", "0.0"]
    assert digits.value(0.99996) == "99.996%"
    assert [p_value(p) for p in (1e-9, 0.012, 0.5, 1.0)] == ["<0.001", "0.012", "0.50", "1.00"]
    assert [gradient_norm(x) for x in (0.0, 0.61, 8.3, 2345.6, 4.1e7, 1e-5)] == [
        "0",
        "0.61",
        "8.3",
        "2,346",
        "4.1e7",
        "1.0e−5",
    ]
