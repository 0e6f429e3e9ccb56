"""The mean of what several models say of the same videos."""

import numpy as np
import pandas as pd
import pytest

from aqa.errors import AqaError
from aqa.explaining.averaging import mean_tables, run_shares
from aqa.explaining.tables import ScoreExplanation, mean_explanation


def streams(audio, visual=1.0):
    return pd.DataFrame({"id": "a", "modality": ["audio", "visual"], "shapley": [audio, visual]})


def clips(end, value):
    columns = {"id": "a", "modality": "audio", "first": [0.0, end], "end": [end, 9.0], "occlusion": value}
    return pd.DataFrame({**columns, "gradients": np.nan})


def test_runs_count_alike_however_many_models_they_have():
    assert run_shares([1, 3]) == [1 / 2, 1 / 6, 1 / 6, 1 / 6]
    tables = [{"streams": streams(value)} for value in (6.0, 0.0, 0.0, 3.0)]
    means, unlike = mean_tables(tables, run_shares([1, 3]))
    assert unlike == []
    assert means["streams"]["shapley"].tolist() == pytest.approx([3.5, 1.0])
    assert tables[0]["streams"]["shapley"].tolist() == [6.0, 1.0]  # what was given stays as it was


def test_one_model_keeps_its_bits():
    only = {"streams": streams(0.1 + 0.2)}
    assert mean_tables([only], run_shares([1]))[0]["streams"] is only["streams"]


def test_tables_of_other_rows_have_no_mean():
    one, other = ({"streams": streams(1.0), "clips": clips(end, 1.0)} for end in (4.0, 5.0))
    means, unlike = mean_tables([one, other], run_shares([1, 1]))
    assert unlike == ["clips"]
    assert len(means["clips"]) == 0
    assert list(means["clips"]) == list(one["clips"])
    assert len(means["streams"]) == 2


def test_what_runs_that_see_other_clips_say_of_arrays_is_one_line():
    said = [ScoreExplanation(streams(1.0), clips(end, 1.0)) for end in (4.0, 5.0)]
    with pytest.raises(AqaError, match=r"the runs see different clips of a video .*; explain them one by one"):
        mean_explanation([[said[0]], [said[1]]])
    found = mean_explanation([[said[0]], [ScoreExplanation(streams(2.0), clips(4.0, 3.0))]])
    assert found.clips["occlusion"].tolist() == [2.0, 2.0]
    assert found.clips["gradients"].isna().all()
