"""Ridge regression is scikit-learn's on each video's channel statistics, and runs like any other model."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.models.base import Example
from aqa.models.ridge import ALPHAS
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 5, "audio": 3, "flow": 4}
ROWS, CLIPS = 80, 9


def videos(seed, rows=ROWS):
    """Videos with streams of different lengths, some of them hidden; NaN in hidden streams and in the padding."""
    rng = np.random.default_rng(seed)
    visible = rng.random((rows, 3)) < 0.7
    visible[~visible.any(axis=1)] = True
    quality = rng.standard_normal(rows)
    lengths = {m: rng.integers(1, CLIPS + 1, rows) for m in WIDTHS}
    features = {}
    for i, (m, width) in enumerate(WIDTHS.items()):
        clips = rng.standard_normal((rows, CLIPS, width)) + 0.5 * quality[:, None, None]
        clips[np.arange(CLIPS) >= lengths[m][:, None]] = np.nan
        clips[~visible[:, i]] = np.nan
        features[m] = torch.from_numpy(clips).float()
    target = 0.5 + 0.1 * quality + 0.02 * rng.standard_normal(rows)
    return Example(
        features,
        torch.from_numpy(target).float(),
        torch.from_numpy(visible),
        torch.from_numpy(visible),
        {m: torch.from_numpy(length) for m, length in lengths.items()},
    )


def statistics(example):
    """Each channel's mean and standard deviation by numpy, zeros where hidden, (n, P)."""
    rows = []
    for row in range(len(example.target)):
        parts = []
        for i, (m, width) in enumerate(WIDTHS.items()):
            clips = example.features[m][row, : example.lengths[m][row]].double().numpy()
            parts += [clips.mean(0), clips.std(0)] if example.visible[row, i] else [np.zeros(2 * width)]
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def part(example, rows):
    features, lengths = ({m: x[rows] for m, x in each.items()} for each in (example.features, example.lengths))
    return Example(features, example.target[rows], example.visible[rows], example.available[rows], lengths)


@pytest.mark.parametrize("alphas", [ALPHAS, (3.0,)])
def test_scores_are_those_of_scikit_learn(alphas):
    train, test = videos(0), videos(1)
    model = build("ridge", widths=WIDTHS, alphas=alphas)
    loss = model.fit([part(train, slice(0, 30)), part(train, slice(30, None))])["loss"]
    reference = make_pipeline(StandardScaler(), RidgeCV(list(alphas))).fit(
        statistics(train), train.target.double().numpy()
    )
    expected = reference.predict(statistics(test))
    assert expected.min() > 0
    assert expected.max() < 1
    assert np.abs(model.score(test.features, test.visible, test.lengths).numpy() - expected).max() < 1e-5
    assert float(model.alpha) == reference[-1].alpha_
    error = reference.predict(statistics(train)) - train.target.double().numpy()
    assert loss == pytest.approx(np.mean(error**2))


def test_scores_stay_in_the_unit_interval():
    model = build("ridge", widths=WIDTHS)
    model.fit([videos(0)])
    test = videos(1)
    for shift, end in ((-100, 0.0), (100, 1.0)):
        moved = {m: x + shift for m, x in test.features.items()}
        assert (model.score(moved, test.visible, test.lengths) == end).any()
    assert model.score(test.features, test.visible, test.lengths).dtype == torch.float32


def test_penalties_must_be_positive_and_some():
    for alphas, message in (((), "needs at least 1 entry"), ((1.0, 0.0), "must be more than 0, got 0.0")):
        with pytest.raises(AqaError, match=f"^model 'ridge', option 'alphas.*': {message}"):
            build("ridge", widths=WIDTHS, alphas=alphas)


def test_a_pattern_that_hides_everything_is_a_mistake():
    with pytest.raises(AqaError, match=r"missing\.train leaves no training sample"):
        build("ridge", widths=WIDTHS).fit([])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("store") / "tiny.h5", samples=300)


def experiment(store, output, **missing):
    return {
        "name": "ridge",
        "data": {"store": str(store), "target": "score"},
        "model": {"name": "ridge", "alphas": [1.0, 10.0, 100.0]},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}, **missing},
        "output": str(output),
    }


def test_it_runs_and_is_evaluated_and_predicts_like_any_model(store, tmp_path):
    result = aqa.run(experiment(store, tmp_path / "run"))
    complete = result.metrics["patterns"]["VAF"]
    assert complete["srcc"] >= 0.8 * complete["ceiling"]
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1
    assert result.metrics["selection"]["epoch"] == result.metrics["selection"]["epochs"] == 1
    again = aqa.evaluate(tmp_path / "run")
    assert again.metrics["patterns"] == result.metrics["patterns"]
    scores = aqa.predict(tmp_path / "run", store, split="test")["score"].to_numpy()
    written = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert np.allclose(scores, written[written["pattern"] == "VAF"]["score"], atol=1e-6)
    assert aqa.run(experiment(store, tmp_path / "run")).already_finished


def test_what_training_hides_is_what_it_learns_to_do_without(store, tmp_path):
    shown = aqa.run(experiment(store, tmp_path / "shown", train="none", test=["VAF", "A"])).metrics["patterns"]
    hidden = aqa.run(experiment(store, tmp_path / "hidden", test=["VAF", "A"])).metrics["patterns"]
    assert shown["VAF"]["srcc"] > hidden["VAF"]["srcc"]
    assert shown["A"]["mse"] > hidden["A"]["mse"]


@pytest.mark.parametrize("chosen", [(True, True, True), (True, False, True), (False, True, False)])
def test_a_video_left_out_is_scored_as_by_the_others_alone(chosen):
    example = videos(3)
    available = torch.ones_like(example.available)  # every video has every stream; the pattern hides some
    lengths = {m: x.clone() for m, x in example.lengths.items()}
    features = {m: torch.from_numpy(np.nan_to_num(x.numpy())) for m, x in example.features.items()}
    example = Example(features, example.target, example.visible, available, lengths)
    model = build("ridge", widths=WIDTHS)
    model.fit([example])
    (found,) = model.left_out([part(example, slice(0, 30)), part(example, slice(30, ROWS))], [chosen])
    alpha, subset = float(model.alpha), torch.tensor(chosen).expand(ROWS, -1)
    learned = ((model.describe(features, example.visible, lengths) - model.centre) / model.scale).numpy()
    looked = ((model.describe(features, subset, lengths) - model.centre) / model.scale).numpy()
    target = example.target.double().numpy()
    for row in (0, 7, 41, 79):
        others = np.arange(ROWS) != row
        known = Ridge(alpha).fit(learned[others], target[others]).predict(looked[row : row + 1])[0]
        assert float(found.score[row]) == pytest.approx(np.clip(known, 0, 1), abs=1e-9)
    np.testing.assert_array_equal(found.target, target)


def test_videos_that_lack_a_stream_of_a_set_are_not_left_out_under_it():
    example = videos(4)
    model = build("ridge", widths=WIDTHS)
    model.fit([example])
    sets = [(True, True, False), (False, False, True)]
    for chosen, found in zip(sets, model.left_out([example], sets), strict=True):
        has_all = example.available[:, list(chosen)].all(dim=1)
        np.testing.assert_array_equal(found.target, example.target[has_all].double())
        assert len(found.score) == int(has_all.sum()) > 0
