"""The seeds of a model taken together, against single seeds."""

from __future__ import annotations

import numpy as np
import pytest

from aqa.evaluation.comparison import draw_videos
from aqa.evaluation.metrics import fisher_mean, srcc
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.columns import AVERAGE
from aqa.reporting.sections import target_section
from aqa.reporting.tables import ensembles_table, further_tables


@pytest.fixture
def section(tmp_path):
    """A function that makes the one section of the runs that were made."""

    def make():
        ((place, found),) = runs_by_model(find_runs([tmp_path / "runs"])[0])[0].items()
        counts = draw_videos({place.target: read_scores(found[0].first).ids})
        return target_section(place, found, counts[place.target])

    return make


def test_an_ensemble_is_the_srcc_of_the_mean_scores(finished, section):
    folders = [finished(f"a{seed}", seed=seed) for seed in range(3)]
    made = section()
    (row,) = made.rows
    runs = [read_scores(run) for run in find_runs(folders)[0]]
    expected = {p: srcc(np.mean([one.by_pattern[p] for one in runs], axis=0), runs[0].truth) for p in made.patterns}
    assert {p: row.ensemble[p].value for p in made.patterns} == pytest.approx(expected)
    average = fisher_mean(expected[p] for p in made.averaged)
    assert row.ensemble[AVERAGE].value == pytest.approx(average)

    table = ensembles_table(made)
    (line,) = table.lines
    assert line[0].text == "mcmoe: ensemble of seeds"
    assert line[1].text == "3"
    assert line[2].value == pytest.approx(expected["VAF"])
    assert line[3].value == pytest.approx(expected["VAF"] - row.srcc["VAF"].value)
    assert line[3].value > 0  # the noise of the seeds is independent
    assert line[5].text == "higher"
    low, high = (row.ensemble["VAF"] - row.srcc["VAF"]).interval[:2]
    assert line[4].text == f"[{low:+.3f}, {high:+.3f}]"
    assert line[7].value == pytest.approx(average - row.srcc[AVERAGE].value)
    assert "Ensembles of seeds" in [each.title for each in further_tables(made)]


def test_one_seed_is_no_ensemble(finished, section):
    finished("a")
    assert section().rows[0].ensemble == {}
    assert "Ensembles of seeds" not in [each.title for each in further_tables(section())]


def test_random_patterns_hide_other_streams_by_each_seed_and_are_left_out(finished, section):
    truth = np.arange(20.0)
    for seed in range(2):
        finished(f"a{seed}", seed=seed, truth=truth, predictions={"VAF": truth, "rates(0.5)": truth})
    (row,) = section().rows
    assert set(row.ensemble) == {"VAF"}
    assert len(ensembles_table(section()).lines[0]) == len(ensembles_table(section()).headings)
