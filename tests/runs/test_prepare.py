"""What is checked and said before a run begins: windows, batches, numbers at the edges."""

from __future__ import annotations

import numpy as np
import pytest

import aqa
from aqa.errors import AqaError
from aqa.evaluation.scorer import selection_patterns

WIDTHS = {"visual": 3, "audio": 2}


@pytest.fixture
def run(tiny_store, tmp_path):
    """A function that runs ridge, or another model, on 20 videos and returns its metrics and what was said."""

    def start(value=None, model=None, **data):
        def read(modality, row):
            clips = np.random.default_rng([row, len(modality)]).normal(size=(6, WIDTHS[modality]))
            if value is not None:
                clips[:, 0] = 0.0
                clips[0, 0] = value if row == 0 else 0.0
            return clips.astype(np.float32)

        store = tiny_store({m: [6] * 20 for m in WIDTHS}, read=read, overwrite=True)
        said = []
        settings = {"epochs": 1, "batch_size": data.pop("batch_size", 5)}
        found = aqa.run(
            {
                "name": "x",
                "data": {"store": str(store), "target": "TES", **data},
                "model": model or {"name": "ridge"},
                "missing": {"train": "none", "test": ["VA"]},
                "train": settings,
                "output": str(tmp_path / "run"),
            },
            say=said.append,
        )
        return found.metrics, said

    return start


def test_a_window_that_would_be_padding_is_as_long_as_the_longest_training_video(run):
    _, said = run(clips=100000)
    assert "data.clips: 100000 is taken as 6, the longest training video's; the rest would be padding" in said


def test_a_batch_of_many_times_the_training_videos_is_all_of_them(run):
    _, said = run(batch_size=100000)
    assert any(line.startswith("train.batch_size: 100000 is taken as 14, all training videos") for line in said)


def test_numbers_that_float32_cannot_standardize_are_one_line(run):
    with pytest.raises(AqaError, match=r"^data\.standardize: channel 0 of (visual|audio) has mean .* float32"):
        run(value=3e38, standardize=True)


def test_a_channel_of_zeros_and_one_denormal_is_constant(run):
    metrics, _ = run(value=1e-45, standardize=True)
    assert np.isfinite(metrics["patterns"]["VA"]["mse"])


def test_long_windows_say_what_a_step_takes(run, monkeypatch):
    monkeypatch.setattr("aqa.runs.cost.LONG", 6)
    small = {"name": "grade_decoder", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}
    _, said = run(model=small)
    line = next(line for line in said if line.startswith("a window has 6 clips, the median training video 6"))
    assert "a step of 5 videos takes about" in line
    assert "data.clips crops long videos" in line


def test_one_modality_has_no_incomplete_pattern_to_average():
    with pytest.raises(AqaError, match=r"^select\.pattern: average .* visual alone has none; use complete$"):
        selection_patterns("average", ("visual",))
