"""Reports of cross-validations: rows, draws of whole groups, means of folds, and the corrected t test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.errors import AqaError
from aqa.evaluation.comparison import draw_videos
from aqa.evaluation.cross_validation import corrected_t_test
from aqa.evaluation.metrics import fisher_mean
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.sections import differences, target_section
from aqa.store.store import Modality, Target

N = 60
LABELS = np.random.default_rng(3).normal(size=N)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two ridge regressions on 60 videos of 30 patients, in three folds drawn twice."""
    folder = tmp_path_factory.mktemp("folds")
    rng = np.random.default_rng(0)
    clips = {m: rng.normal(size=(N, 2, 3)) + LABELS[:, None, None] for m in ("visual", "audio")}
    aqa.write_store(
        folder / "s.h5",
        name="clinic",
        source="a test",
        ids=[f"v{i:02d}" for i in range(N)],
        modalities={m: Modality(3, np.full(N, 2)) for m in clips},
        targets={"grade": Target(LABELS, -9, 9)},
        splits={"train": range(40), "test": range(40, N)},
        groups={"patient": [f"p{i // 2}" for i in range(N)]},
        read=lambda modality, row: clips[modality][row],
    )

    def run(name, alpha, folds):
        return aqa.run(
            {
                "name": name,
                "data": {"store": str(folder / "s.h5"), "target": "grade", "folds": folds},
                "model": {"name": "ridge", "alphas": [alpha]},
                "missing": {"train": "none", "test": ["VA", "V", "A"]},
                "train": {"threads": 1},
                "output": str(folder / name),
            }
        )

    folds = {"count": 3, "group": "patient", "repeats": 2}
    results = {"weak": run("weak", 1.0, folds), "strong": run("strong", 1000.0, folds)}
    results["split"] = run("split", 1.0, None)
    return folder, results


def section(folder, *names):
    by_place, _ = runs_by_model(find_runs([folder / name for name in names])[0])
    (place, own) = next(iter(by_place.items()))
    drawn = read_scores(own[0].first).drawn
    return target_section(place, own, draw_videos({place.target: drawn})[place.target])


def test_numbers_are_those_of_the_runs(runs):
    folder, results = runs
    row = section(folder, "weak").rows[0]
    stated = results["weak"].metrics["patterns"]["VA"]
    assert row.srcc["VA"].value == pytest.approx(stated["srcc"])
    assert row.folds.mean["VA"].value == pytest.approx(stated["srcc_folds"])
    assert row.folds.by_fold["VA"] == pytest.approx(
        {each["fold"]: each["srcc"]["VA"] for each in results["weak"].metrics["folds"]["each"]}
    )
    average = results["weak"].metrics["average_incomplete"]
    assert row.srcc["average"].value == pytest.approx(average["srcc"])
    assert row.folds.mean["average"].value == pytest.approx(average["srcc_folds"])
    assert row.n["VA"] == N


def test_models_are_compared_by_fold_with_the_corrected_t_test(runs):
    folder, results = runs
    found = section(folder, "weak", "strong")
    one, other, _ = differences(found, "VA")[0]
    by_fold = [[each["srcc"]["VA"] for each in results[name].metrics["folds"]["each"]] for name in ("weak", "strong")]
    if "1000" in one.label:
        by_fold.reverse()
    tested = one.folds.t_test(other.folds, "VA")
    assert tested == pytest.approx(corrected_t_test(np.subtract(*by_fold).tolist(), 1 / 2))
    assert tested.freedom == 5


def test_whole_groups_are_drawn(runs):
    folder, _ = runs
    by_place, _ = runs_by_model(find_runs([folder / "weak"])[0])
    scores = read_scores(next(iter(by_place.values()))[0].first)
    counts = draw_videos({"grade": scores.drawn})["grade"]
    assert (counts[0::2] == counts[1::2]).all()
    assert len(scores.repeats) == 2


def test_a_report_has_folds_apart_from_the_split(runs, tmp_path):
    folder, _ = runs
    aqa.report([folder / "weak", folder / "strong", folder / "split"], tmp_path / "report")
    text = (tmp_path / "report" / "tables.md").read_text()
    assert "## clinic, 3 folds by patient, 2 times: grade" in text
    assert "## clinic: grade" in text
    assert "intervals draw the 30 groups (patient)" in text
    assert "| t test p |" in text
    assert "### Mean of folds" in text
    table = pd.read_csv(tmp_path / "report" / "tables.csv")
    assert sorted(table["data_set"].unique()) == ["clinic", "clinic, 3 folds by patient, 2 times"]


def test_a_single_fold_is_not_reported(runs, tmp_path):
    folder, _ = runs
    with pytest.raises(AqaError, match="one fold of a cross-validation, left out; report the folder of all folds"):
        aqa.report([folder / "weak" / "fold0"], tmp_path / "report")


def test_scores_that_were_changed_are_refused(runs, tmp_path):
    folder, _ = runs
    import shutil

    shutil.copytree(folder / "weak", tmp_path / "weak")
    table = pd.read_csv(tmp_path / "weak" / "predictions.csv")
    table.loc[table.index[-1], "score"] += 3
    table.to_csv(tmp_path / "weak" / "predictions.csv", index=False)
    with pytest.raises(AqaError, match=r"does not go with metrics\.json: SRCC under A is"):
        aqa.report([tmp_path / "weak"], tmp_path / "report")


def test_the_mean_of_seeds_in_a_fold_goes_through_fisher(runs):
    folder, results = runs
    row = section(folder, "weak").rows[0]
    assert row.folds.by_fold["average"][0] == pytest.approx(
        fisher_mean(results["weak"].metrics["folds"]["each"][0]["srcc"][name] for name in ("V", "A"))
    )


def test_a_card_is_of_one_fold(runs, tmp_path):
    folder, _ = runs
    with pytest.raises(AqaError, match=r"weak is a cross-validation: a card is of one model, such as .*fold0$"):
        aqa.card(folder / "weak", tmp_path / "card.md")
    assert aqa.card(folder / "weak" / "fold0", tmp_path / "card.md").path.exists()
