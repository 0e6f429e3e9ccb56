"""The numbers of a report against the runs they come from."""

import json

import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.evaluation.comparison import draw_videos
from aqa.evaluation.metrics import fisher_mean, srcc
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.columns import AVERAGE
from aqa.reporting.sections import differences, mean_section, missing_curve, target_section, verdict
from aqa.reporting.writers import notes_of


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def sections_of(folder):
    by_place, _ = runs_by_model(find_runs([folder])[0])
    counts = draw_videos({place.target: read_scores(found[0].first).ids for place, found in by_place.items()})
    return {place.target: target_section(place, found, counts[place.target]) for place, found in by_place.items()}


@pytest.fixture
def section(finished, tmp_path):
    def make(target="TES"):
        return sections_of(tmp_path / "runs")[target]

    return make


def test_a_row_is_the_mean_over_its_seeds(finished, section):
    found = [metrics_of(finished(f"a{seed}", seed=seed)) for seed in range(3)]
    (row,) = section().rows
    for pattern in found[0]["patterns"]:
        values = [m["patterns"][pattern]["srcc"] for m in found]
        assert row.srcc[pattern].value == pytest.approx(fisher_mean(values))
        assert row.deviation(pattern) == pytest.approx(np.std(values, ddof=1))
        assert row.mse[pattern] == pytest.approx(np.mean([m["patterns"][pattern]["mse"] for m in found]))
        low, high, *_ = row.srcc[pattern].interval
        assert low <= row.srcc[pattern].value <= high
    averages = [m["average_incomplete"]["srcc"] for m in found]
    assert row.srcc[AVERAGE].value == pytest.approx(fisher_mean(averages))
    assert row.deviation(AVERAGE) == pytest.approx(np.std(averages, ddof=1))
    assert row.seeds == (0, 1, 2)


def test_one_seed_has_no_deviation(finished, section):
    finished("a")
    assert np.isnan(section().rows[0].deviation("VAF"))


def test_an_undefined_correlation_stays_undefined(finished, section):
    truth = np.arange(10.0)
    names = ("VAF", "VA", "VF", "AF", "V", "A", "F")
    finished("a", truth=truth, predictions={name: truth * 0 if name == "F" else truth for name in names})
    (row,) = section().rows
    assert np.isnan(row.srcc["F"].value)
    assert np.isnan(row.srcc[AVERAGE].value)
    assert row.srcc["VAF"].value == 1
    assert section().best("F") == set()


def test_what_a_modality_is_worth_is_on_the_videos_that_are_scored_both_ways(finished, section):
    truth = np.arange(20.0)
    rng = np.random.default_rng(0)
    noisy = truth + rng.normal(0, 8, 20)
    names = ("VAF", "VA", "VF", "AF", "V", "A", "F")
    predictions = {name: noisy.copy() for name in names}
    predictions["AF"][:8] = np.nan
    finished("a", truth=truth, predictions=predictions)
    (row,) = section().rows
    assert row.n["AF"] == 12
    assert row.worth["visual"].value == pytest.approx(0, abs=1e-12)  # the same scores where both are
    assert row.worth["visual"].value != pytest.approx(srcc(noisy, truth) - srcc(noisy[8:], truth[8:]))
    assert set(row.worth) == {"visual", "audio", "flow"}


def test_runs_on_different_videos_are_not_compared(finished, section):
    finished("a")
    finished("b", seed=1, ids=[f"other {i}" for i in range(40)])
    with pytest.raises(AqaError, match="do not compare on fisv TES: they were tested on different videos"):
        section()


def test_the_best_is_sought_among_rows_that_may_be_compared(finished, section):
    finished("good", noise=5)
    finished("bad", noise=30, settings=["model.kl_weight=0.0"])
    finished("best", noise=0.1, split="test")
    found = section()
    assert [row.selected_on for row in found.rows] == ["valid", "valid", "test"]
    good = next(i for i, row in enumerate(found.rows) if row.label == "mcmoe")
    assert found.best("VAF") == {good}  # a row alone in its group is no best
    pairs = [(one.label, other.label) for one, other, _ in differences(found, "VAF")]
    assert len(pairs) == 1
    (difference,) = (d for _, _, d in differences(found, "VAF"))
    one, other = found.rows[0].srcc["VAF"], found.rows[1].srcc["VAF"]
    assert difference.value == pytest.approx(one.value - other.value)


def test_a_mean_over_targets_has_the_models_of_every_target(finished, tmp_path):
    for target in ("TES", "PCS"):
        for seed in (0, 1):
            finished(f"{target}{seed}", target=target, seed=seed)
    finished("only", target="TES", model="late_fusion")
    by_target = sections_of(tmp_path / "runs")
    whole = mean_section(list(by_target.values()))
    assert [row.label for row in whole.rows] == ["mcmoe"]
    (row,) = whole.rows
    parts = [next(r for r in s.rows if r.label == "mcmoe") for s in by_target.values()]
    for column in ("VAF", "A", AVERAGE):
        assert row.srcc[column].value == pytest.approx(fisher_mean(part.srcc[column].value for part in parts))
        by_seed = [fisher_mean(part.by_seed[column][seed] for part in parts) for seed in (0, 1)]
        assert row.deviation(column) == pytest.approx(np.std(by_seed, ddof=1))
    assert whole.targets == 2
    assert row.mse == {}  # in units that differ
    assert row.worth["audio"].value == pytest.approx(np.mean([part.worth["audio"].value for part in parts]))
    np.testing.assert_allclose(row.router["VA"], np.mean([part.router["VA"] for part in parts], axis=0))


def test_the_curve_over_missing_modalities_is_by_count_or_by_tested_rate(finished, section, tmp_path):
    finished("a")
    (row,) = section().rows
    shares = [share for share, _ in missing_curve(row, ("visual", "audio", "flow"))]
    assert shares == pytest.approx([0, 1 / 3, 2 / 3])
    two = fisher_mean(row.srcc[name].value for name in ("VA", "VF", "AF"))
    assert missing_curve(row, ("visual", "audio", "flow"))[1][1].value == pytest.approx(two)

    truth = np.arange(15.0)
    rates = {f"rates({r})": truth + r * np.random.default_rng(0).normal(0, 30, 15) for r in (0.5, 0, 0.1)}
    finished("b", target="PCS", truth=truth, predictions=rates)
    found = section("PCS")
    curve = missing_curve(found.rows[0], found.modalities)
    assert [share for share, _ in curve] == [0, 0.1, 0.5]
    assert curve[0][1].value == 1
    assert AVERAGE not in found.columns


def test_seeds_tested_under_other_patterns_leave_cells_empty_and_say_so(finished, section):
    finished("a0", seed=0)
    finished("a1", seed=1, tested=["VAF", "V"])
    found = section()
    (row,) = found.rows
    assert found.columns == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert set(row.srcc) == {"VAF", "V"}
    assert row.untested == dict.fromkeys(["VA", "VF", "AF", "A", "F"], (1,))
    assert set(row.router) == {"VAF", "V"}
    assert notes_of(found, []) == ["mcmoe: seed 1 not tested under VA, VF, AF, A, F (cells with -)"]


def test_a_row_without_every_incomplete_pattern_has_no_mean_and_says_so(finished, section):
    finished("a")
    finished("b", model="late_fusion", tested=["VAF", "V"])
    notes = notes_of(section(), [])
    assert "late_fusion: not tested under VA, VF, AF, A, F (cells with -)" in notes
    assert "late_fusion: no mean of incomplete, which is over VA, VF, AF, V, A, F" in notes


def test_a_mean_names_the_tested_patterns_that_it_leaves_out(finished, section):
    truth = np.arange(15.0)
    noisy = {
        name: truth + np.random.default_rng(i).normal(0, 5, 15) for i, name in enumerate(("VAF", "V", "rates(0.3)"))
    }
    finished("a", truth=truth, predictions=noisy)
    assert notes_of(section(), []) == ["mean of incomplete: over V, without rates(0.3)"]


def test_runs_of_three_and_of_two_modalities_stand_in_one_table(finished, section):
    finished("three")
    finished("two", model="late_fusion", modalities=("visual", "flow"))
    found = section()
    assert found.modalities == ("visual", "audio", "flow")
    two = next(row for row in found.rows if row.label == "late_fusion")
    assert set(two.srcc) == {"VF", "V", "F"}
    assert np.isnan(two.router["V"][1]).all()  # it has no audio
    assert np.isfinite(two.router["V"][[0, 0, 2, 2], [0, 2, 0, 2]]).all()


def test_modalities_whose_patterns_have_other_meanings_do_not_compare(finished, section):
    finished("three")
    finished("two", model="late_fusion", modalities=("video", "flow"))
    with pytest.raises(AqaError, match="do not compare: patterns of visual, audio, flow and of video, flow"):
        section()


def test_labels_that_differ_between_runs_are_named(finished, section):
    truth = np.arange(12.0)
    finished("a", truth=truth)
    finished("b", seed=1, truth=truth + (np.arange(12) == 7))
    with pytest.raises(AqaError, match="the label of 'fisv 7' is 7 in one and 8 in the other; report them apart"):
        section()


def test_the_best_is_better_by_the_paired_test_and_not_by_a_digit(finished, section):
    truth = np.arange(60.0)
    noise = np.random.default_rng(3).normal(size=60)
    near = {"VAF": truth + 12 * noise}
    finished("a", truth=truth, predictions=near)
    finished(
        "b", truth=truth, predictions={"VAF": near["VAF"] + np.where(np.arange(60) < 4, 4, 0)}, model="late_fusion"
    )
    found = section()
    one, other = (row.srcc["VAF"].value for row in found.rows)
    assert 0 < abs(one - other) < 0.02
    assert found.best("VAF") == set()
    ((_, _, difference),) = differences(found, "VAF")
    assert verdict(difference) == "not told apart"
