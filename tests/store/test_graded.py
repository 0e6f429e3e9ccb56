"""What can be known of graded labels, against simulation of the best predictions."""

import numpy as np
import pytest
from scipy import stats

from aqa.store.grade_ceilings import accuracies, print_grade_ceilings
from aqa.store.graded import best_accuracy, best_srcc, expected_grade_accuracy, grade_of
from aqa.store.store import FeatureStore
from aqa.store.synthetic import PRESETS, ceilings, make_synthetic, quality_correlation


def test_grades_have_equal_shares():
    grades = grade_of(np.random.default_rng(0).standard_normal(40_000), 4)
    assert sorted(set(grades)) == [0, 1, 2, 3]
    assert np.bincount(grades.astype(int)) / 40_000 == pytest.approx([0.25] * 4, abs=0.01)
    assert grade_of(np.array([-0.1, 0.1]), 2).tolist() == [0, 1]


@pytest.mark.parametrize("grades", [2, 4, 7])
def test_nothing_is_known_without_correlation_and_everything_close_to_one(grades):
    assert best_accuracy(0.0, grades) == pytest.approx(1 / grades, abs=1e-6)
    assert best_srcc(0.0, grades) == pytest.approx(0.0, abs=1e-6)
    assert best_accuracy(1 - 1e-9, grades) == pytest.approx(1.0, abs=1e-3)
    # Even a perfect prediction does not order videos of one grade as they are ordered: they all have one rank.
    assert best_srcc(1 - 1e-9, grades) == pytest.approx(np.sqrt(1 - 1 / grades**2), abs=1e-3)


def test_two_grades_are_known_as_well_as_sheppard_says():
    # P(both of one sign) = 1/2 + asin(rho) / pi for two standard normal numbers.
    for rho in (0.3, 0.8):
        assert best_accuracy(rho, 2) == pytest.approx(0.5 + np.arcsin(rho) / np.pi, abs=1e-6)
        assert expected_grade_accuracy(rho, 2) == pytest.approx(best_accuracy(rho, 2), abs=1e-3)


def test_predictions_of_a_million_videos_reach_what_is_possible_and_no_more():
    rng, rho, grades, count = np.random.default_rng(1), 0.85, 4, 1_000_000
    z, rest = rng.standard_normal((2, count))
    truth = grade_of(rho * z + np.sqrt(1 - rho**2) * rest, grades)
    cuts = stats.norm.ppf([0.25, 0.5, 0.75])
    chances = np.diff(stats.norm.cdf((cuts - rho * z[:, None]) / np.sqrt(1 - rho**2)), axis=1, prepend=0.0, append=1.0)
    assert (chances.argmax(axis=1) == truth).mean() == pytest.approx(best_accuracy(rho, grades), abs=0.002)
    rounded = np.floor(chances @ np.arange(grades) + 0.5)
    assert (rounded == truth).mean() == pytest.approx(expected_grade_accuracy(rho, grades), abs=0.002)
    assert expected_grade_accuracy(rho, grades) < best_accuracy(rho, grades)
    assert stats.spearmanr(z, truth)[0] == pytest.approx(best_srcc(rho, grades), abs=0.002)


def test_a_graded_store_has_grades_and_their_ceilings(tmp_path):
    preset = PRESETS["graded"]
    with FeatureStore(make_synthetic("graded", tmp_path / "graded.h5", samples=100)) as store:
        target = store.target("grade")
        assert set(target.values) == {0.0, 1.0, 2.0, 3.0}
        assert (target.low, target.high) == (0.0, 3.0)
        assert target.ceiling == pytest.approx(ceilings(preset, "grade"))
    found = accuracies(preset, "grade")
    assert found["VAF"][0] == best_accuracy(quality_correlation(preset, "grade", list(preset.streams)), 4)
    assert list(found) == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert max(found.values()) == found["VAF"]
    assert min(found.values()) == found["A"]


def test_the_command_prints_the_limits_of_graded_presets_only(capsys):
    print_grade_ceilings()
    said = capsys.readouterr().out
    assert "graded, grade: 4 grades" in said
    assert "tiny" not in said
