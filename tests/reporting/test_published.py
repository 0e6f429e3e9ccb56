"""Numbers that others report."""

import pandas as pd
import pytest

from aqa.errors import AqaError
from aqa.evaluation.metrics import fisher_mean
from aqa.reporting.published import published_rows
from aqa.reporting.report import report

COLUMNS = ["VAF", "VA", "VF", "AF", "V", "A", "F", "average"]
ROW = "rows: [{data_set: fisv, target: TES, label: theirs, source: a paper, selected_on: test, srcc: {VAF: 0.8%s}}]"


def test_the_projects_own_numbers_say_where_they_are_from():
    for row in published_rows():
        assert row.source
        assert row.selected_on in ("valid", "test")
        assert row.kind in ("benchmark page", "secondary", "their code, run by this project")
        assert row.target is not None or row.note.startswith("mean over all")
        assert set(row.mse) <= set(row.srcc)


def test_the_three_benchmarks_have_the_numbers_of_mcmoe_and_of_what_it_is_compared_with():
    found = {
        (row.data_set, row.target, row.label, pattern): value
        for row in published_rows()
        for pattern, value in row.srcc.items()
    }
    assert found["fs1000", None, "MCMoE", "average"] == 0.782
    assert found["fs1000", None, "LIMSSR (ICML 2026)", "A"] == 0.687
    assert found["fisv", "TES", "MCMoE", "VAF"] == 0.759
    assert found["fisv", None, "MoMKE (as reported by MCMoE)", "average"] == 0.660
    assert found["rg", None, "MCMoE", "VAF"] == 0.842
    assert all(row.on_test for row in published_rows() if row.data_set != "pom")


def test_a_report_on_a_benchmark_shows_them_with_their_source(tmp_path, write_finished):
    for target in ("TES", "PCS"):
        write_finished(tmp_path / "runs" / target, data_set="fs1000", target=target, model="mome", router=False)
    page = report([tmp_path / "runs"], tmp_path / "out")
    table = pd.read_csv(page.parent / "tables.csv").set_index(["target", "model"]).sort_index()
    row = table.loc["mean of 2 targets", "LIMSSR (ICML 2026)"]
    assert (row["VAF"], row["average"], row["A_mse"], row["selected_on"]) == (0.891, 0.789, 15.51, "test")
    assert table.loc["TES", "MCMoE"]["VAF"] == 0.9
    for text in (page.read_text(), (page.parent / "tables.md").read_text()):
        assert "as copied in a public note on the paper (secondary)" in text
        assert "mean over all seven targets; trained on incomplete videos" in text
        assert "mome: after the abstract of its paper (Mixture-of-Modality-Experts with Holistic Token Learning" in text


def test_the_words_of_a_row_have_its_kind_and_mse(tmp_path):
    path = tmp_path / "p.yaml"
    more = "mse: {VAF: 4.5}, kind: secondary, note: other features, srcc"
    path.write_text((ROW % "").replace("srcc", more))
    assert published_rows(path)[0].words == "a paper (secondary); MSE VAF 4.5; other features"
    path.write_text(ROW % "")
    assert published_rows(path)[0].words == "a paper"


def test_the_average_is_worked_out_where_every_incomplete_pattern_is_given(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(ROW % ", VA: 0.7, VF: 0.6, AF: 0.5, V: 0.4, A: 0.3, F: 0.2, other: 0.1")
    (row,) = published_rows(path)
    found = row.by_column(["visual", "audio", "flow"], COLUMNS)
    assert found["average"] == pytest.approx(fisher_mean([0.7, 0.6, 0.5, 0.4, 0.3, 0.2]))
    assert "other" not in found
    path.write_text(ROW % ", VA: 0.7")
    assert published_rows(path)[0].by_column(["visual", "audio", "flow"], COLUMNS) == {"VAF": 0.8, "VA": 0.7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROW % ", VA: 7", "no correlation under VA"),
        ((ROW % "").replace("label", "lable"), "unknown key 'rows.0.lable'.*label"),
        ("rows: []\nmore: 1\n", "unknown key 'more'"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(AqaError, match=message) as error:
        published_rows(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
