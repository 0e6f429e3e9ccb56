"""What is recommended for a store follows from measurements on sets of like size, and from no label of the store."""

import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.models import MODELS
from aqa.reporting.recommend import MEASURED, measurements, recommendation
from aqa.store.store import Modality, Target
from aqa.store.write import write_store


def write(path, train=100, clips=5, seed=0, groups=None, absent=0):
    """A store of random videos; `absent` of its training videos lack audio."""
    rng, count = np.random.default_rng(seed), train + 20
    lengths = {"visual": np.full(count, clips), "audio": np.full(count, clips)}
    lengths["audio"][:absent] = 0
    write_store(
        path,
        name="mine",
        source="random numbers",
        ids=[f"v{i}" for i in range(count)],
        modalities={m: Modality(3, each) for m, each in lengths.items()},
        targets={"score": Target(rng.random(count), 0.0, 1.0)},
        splits={"train": np.arange(train), "test": np.arange(train, count)},
        read=lambda modality, row: rng.random((lengths[modality][row], 3)),
        groups=groups,
    )
    return path


def entry(videos, gains, clips=5):
    """A measurement: by model, the difference from ridge and its interval."""
    models = {"ridge": {"complete": [0.5, 0.4, 0.6], "incomplete": 0.4, "seconds": 1.0}}
    for model, gain in gains.items():
        models[model] = {"complete": [0.5 + gain[0], 0.4, 0.6], "incomplete": 0.4, "seconds": 2.0, "beyond_ridge": gain}
    return {"set": f"set{videos}", "videos": videos, "groups": videos, "clips": clips, "target": "t", "models": models}


AHEAD, LEVEL, BEHIND = [0.1, 0.05, 0.15], [0.01, -0.05, 0.07], [-0.1, -0.15, -0.05]


def test_what_is_ahead_of_ridge_beyond_chance_comes_first(tmp_path):
    measured = [entry(n, {"mome": BEHIND, "gaussian_process": AHEAD}) for n in (80, 100, 120)]
    said = recommendation(write(tmp_path / "s.h5"), measured)
    assert "100 training videos, 2 streams, 5 clips" in said
    assert "Try first: gaussian_process, and ridge beside it.\nBeside ridge, in 3 measurements" in said
    assert "  gaussian_process: ahead beyond chance in 3, neither in 0, behind in 0; mean difference +0.100" in said
    assert "  mome: ahead beyond chance in 0, neither in 0, behind in 3; mean difference -0.100" in said
    assert "0.600 [0.400, 0.600]" in said
    assert "NO SET OF LIKE SIZE" not in said


def test_ridge_comes_first_where_nothing_is_shown_to_be_ahead_of_it(tmp_path):
    said = recommendation(write(tmp_path / "s.h5"), [entry(100, {"mome": LEVEL, "gaussian_process": BEHIND})])
    assert "Try first: ridge. Nothing is shown to be ahead of it in 1 measurements of like size (set100;" in said


def test_the_sets_that_are_nearest_in_size_are_looked_at(tmp_path):
    measured = [entry(n, {"mome": AHEAD if n < 200 else BEHIND}) for n in (90, 100, 110, 120, 2000, 3000)]
    assert "Try first: mome" in recommendation(write(tmp_path / "s.h5"), measured)
    said = recommendation(write(tmp_path / "small.h5", train=10), measured)
    assert "NO SET OF LIKE SIZE WAS MEASURED: the nearest has 90 videos." in said
    measured = [entry(100, {"mome": AHEAD}, clips) for clips in (1, 2, 4, 5, 6)]
    lines = recommendation(write(tmp_path / "clips.h5"), measured).splitlines()
    assert not any(line.startswith("set100") and line.split()[4] == "1" for line in lines)


def test_what_the_shape_asks_for_is_said(tmp_path):
    groups = {"athlete": [f"a{i % 7}" for i in range(120)], "video": [f"v{i}" for i in range(120)]}
    said = recommendation(write(tmp_path / "s.h5", clips=1, groups=groups, absent=25), [entry(100, {"mome": AHEAD})])
    assert "Groups: athlete (7). Test on groups that were not trained on" in said
    assert "25% of the training videos lack a stream" in said
    assert "Most videos are one clip" in said


def test_no_label_and_no_value_changes_a_word(tmp_path):
    said = [recommendation(write(tmp_path / f"{seed}.h5", seed=seed)) for seed in (0, 1)]
    assert said[0] == said[1]


def test_the_measurements_that_are_shipped_are_whole():
    found = measurements()
    assert found
    for each in found:
        assert each["videos"] >= each["groups"] > 1
        assert "ridge" in each["models"]
        assert set(each["models"]) <= set(MODELS.names())
        for model, figures in each["models"].items():
            value, low, high = figures["complete"]
            assert low < value < high
            if model != "ridge":
                gain, low, high = figures["beyond_ridge"]
                assert gain == pytest.approx(value - each["models"]["ridge"]["complete"][0], abs=0.002)
                assert low < high
    assert "python -m benchmarks.recommend" in MEASURED.read_text()


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "no.h5").write_text("no")
    with pytest.raises(AqaError, match=r"no\.h5"):
        recommendation(tmp_path / "no.h5")
