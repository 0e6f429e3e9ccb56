"""Numbers that others report."""

import pytest

from aqa.errors import AqaError
from aqa.evaluation.metrics import fisher_mean
from aqa.reporting.published import published_rows

COLUMNS = ["VAF", "VA", "VF", "AF", "V", "A", "F", "average"]
ROW = "rows: [{data_set: fisv, target: TES, label: theirs, source: a paper, selected_on: test, srcc: {VAF: 0.8%s}}]"


def test_the_projects_own_numbers_say_where_they_are_from():
    for row in published_rows():
        assert row.source
        assert row.selected_on in ("valid", "test")


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
