"""Tables of features: names or none, ids as they are written, row numbers that pandas adds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aqa.data_prep.tables import Table
from aqa.data_prep.words import split_columns
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


OPENFACE = "frame, face_id, timestamp, gaze_x, gaze_y, AU01_r, AU02_c, AU04_r, note\n"
FRAMES = OPENFACE + "2, 0, 0.04, 3, 4, 5, 6, 7, blink\n1, 0, 0.00, 13, 14, 15, 16, 17, \n"


def chosen(words):
    return split_columns(f"x.csv{words}", (".csv",), "--stream v=")[1]


@pytest.mark.parametrize(
    ("words", "clips"),
    [
        ("[gaze_x,AU01_r]", [[3, 5], [13, 15]]),
        ("[AU01_r,gaze_x by frame]", [[15, 13], [5, 3]]),  # in the order of the words
        ("[gaze_x..AU04_r by timestamp]", [[13, 14, 15, 16, 17], [3, 4, 5, 6, 7]]),
        ("[gaze_x..gaze_y, AU04_r]", [[3, 4, 7], [13, 14, 17]]),
    ],
)
def test_some_columns_are_channels_and_one_orders_the_rows(tmp_path, words, clips):
    (tmp_path / "x.csv").write_text(FRAMES)
    assert Table(tmp_path / "x.csv").choose(chosen(words)).clips().tolist() == clips
    frame = pd.read_csv(tmp_path / "x.csv", skipinitialspace=True)
    assert Table(tmp_path / "x.parquet", frame).choose(chosen(words)).clips().tolist() == clips


def test_all_columns_but_that_of_time_and_that_of_ids(tmp_path):
    (tmp_path / "x.csv").write_text("video,t,f0,f1\n002,1.5,1,2\n001,0,3,4\n002,0.5,5,6\n")
    table = Table(tmp_path / "x.csv").choose(chosen("[by t]")).by("video", "--stream")
    assert {i: clips.tolist() for i, clips in table.items()} == {"002": [[5, 6], [1, 2]], "001": [[3, 4]]}
    table = Table(tmp_path / "x.csv").choose(chosen("[f0..f1]")).by("video", "--stream")
    assert table["002"].tolist() == [[1, 2], [5, 6]]


def test_the_row_numbers_of_pandas_may_stay_where_columns_are_named(tmp_path):
    pd.DataFrame(CLIPS, columns=["f0", "f1", "f2"]).to_csv(tmp_path / "x.csv", index_label="row")
    np.testing.assert_array_equal(Table(tmp_path / "x.csv").choose(chosen("[f0..f2]")).clips(), CLIPS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("[gaze_z]", r"--stream v= x\.csv\[gaze_z\]: .*x\.csv has no column 'gaze_z': did you mean 'gaze_."),
        ("[AU01_r..AU04]", r"has no column 'AU04': did you mean 'AU04_r'"),
        ("[gaze_y..gaze_x]", r"'gaze_y\.\.gaze_x': a range of columns is two names that end in numbers"),
        ("[by time]", "has no column 'time': did you mean 'timestamp'"),
        ("[gaze_x,gaze_x]", "column 'gaze_x' is named twice"),
        ("[frame,gaze_x by frame]", "column 'frame' is named twice"),
        ("[gaze_x,note]", r"column 'note', row 1, is 'blink', not a number"),
        ("[gaze_x by note]", r"column 'note', row 1, is 'blink', not a number"),
        ("[gaze_x by face_id]", r"column 'face_id' has 0 twice in one video; rows are ordered by numbers that differ"),
        ("", r"column 'note', row 1, is 'blink', not a number; .* name those that are: x\.csv\[f0\.\.f127\]"),
    ],
)
def test_columns_that_cannot_be_channels(tmp_path, words, message):
    (tmp_path / "x.csv").write_text(FRAMES)
    table = Table(tmp_path / "x.csv")
    with pytest.raises(AqaError, match=message) as error:
        (table.choose(chosen(words)) if words else table).clips()
    assert "\n" not in str(error.value)


def test_columns_of_a_table_that_names_none(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    with pytest.raises(AqaError, match=r"x\.csv names no columns in its first line"):
        Table(tmp_path / "x.csv").choose(chosen("[f0]")).clips()


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("video,f0\na,1\n", "[video,f0]", "column 'video' of .* has the ids; it is no channel"),
        ("video,t\na,1\n", "[by t]", "has no other column, which could be a channel"),
        ("video,t,f0\na,,1\n", "[by t]", "column 't', row 1, is '', not a number"),
        ("video,t,f0\na,nan,1\n", "[by t]", "column 't' has an empty cell"),
        ("video,f0\na,1,2\n", "[f0]", "cannot be read as a table"),
    ],
)
def test_columns_of_a_table_with_all_videos_that_cannot_be_channels(tmp_path, text, words, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(AqaError, match=message):
        Table(tmp_path / "x.csv").choose(chosen(words)).by("video", "--stream")
