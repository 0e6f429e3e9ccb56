"""Tables of features: names or none, ids as they are written, row numbers that pandas adds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aqa.data_prep.tables import Table
from aqa.errors import AqaError

CLIPS = np.array([[1.5, 2, 1 / 3], [4, 5, 1e-30], [7, 8, 9]])


def test_lines_by_id_in_the_order_of_the_file(tmp_path):
    (tmp_path / "x.csv").write_text("a,video,b\n1,002,2\n3,001,4\n5,002,6\n7,,8\n")
    table = Table(tmp_path / "x.csv").by("video", "--stream")
    assert {i: clips.tolist() for i, clips in table.items()} == {"002": [[1, 2], [5, 6]], "001": [[3, 4]]}


def test_ids_in_parquet_are_texts_or_numbers():
    frame = pd.DataFrame({"video": [1.0, 2.0, 1.0], "a": [1, 2, 3]})
    table = Table("x.parquet", frame).by("video", "--stream")
    assert {i: clips.tolist() for i, clips in table.items()} == {"1": [[1], [3]], "2": [[2]]}


@pytest.mark.parametrize("names", [None, ["x", "y", "z"]])
def test_what_pandas_writes_is_read_to_the_bit(tmp_path, names):
    """Without names it writes 0, 1, 2 in their place, which is no clip."""
    pd.DataFrame(CLIPS, columns=names).to_csv(tmp_path / "x.csv", index=False)
    np.testing.assert_array_equal(Table(tmp_path / "x.csv").clips(), CLIPS)


def test_the_row_numbers_of_pandas_are_no_channel(tmp_path):
    pd.DataFrame(CLIPS).to_csv(tmp_path / "x.csv")
    with pytest.raises(AqaError, match=r"column 1 has no name; .* write the file without them, to_csv\(index=False\)"):
        Table(tmp_path / "x.csv")


def test_what_numpy_writes(tmp_path):
    np.savetxt(tmp_path / "x.txt", CLIPS)
    np.savetxt(tmp_path / "x.csv", CLIPS, delimiter=",")
    for name in ("x.txt", "x.csv"):
        np.testing.assert_array_equal(Table(tmp_path / name).clips(), CLIPS)


def test_not_a_number_is_kept_for_those_who_check(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,nan\n")
    assert np.isnan(Table(tmp_path / "x.csv").clips()[0, 1])


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "1,2\n3,4\n"])
def test_a_column_of_ids_that_is_not_there(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(
        AqaError,
        match=r"has no column 'video' with the ids: (known: a, b|its first line names none); say which after a colon",
    ):
        Table(tmp_path / "x.csv").by("video", "--stream")
