"""Retrieval fills hidden streams from the nearest training videos, and from nothing else."""

import numpy as np
import torch

import aqa
from aqa.models import build
from aqa.models.base import Example
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 5, "audio": 3, "flow": 4}
ROWS, CLIPS = 60, 6


def videos(seed, rows=ROWS, hidden=0.3):
    """Videos whose streams share two factors, so that one stream says something of another; NaN where one is absent."""
    rng = np.random.default_rng(seed)
    available = rng.random((rows, 3)) > hidden
    available[~available.any(axis=1)] = True
    factors = rng.standard_normal((rows, 2))
    features = {}
    for i, (m, width) in enumerate(WIDTHS.items()):
        clips = 0.3 * rng.standard_normal((rows, CLIPS, width))
        clips += (factors @ np.random.default_rng(i).standard_normal((2, width)))[:, None]
        clips[~available[:, i]] = np.nan
        features[m] = torch.from_numpy(clips).float()
    target = torch.from_numpy(0.5 + 0.1 * factors[:, 0]).float()
    lengths = {m: torch.full((rows,), CLIPS) for m in WIDTHS}
    has = torch.from_numpy(available)
    return Example(features, target, has, has, lengths)


def fitted(example, **options):
    model = build("retrieval_fill", widths=WIDTHS, **options)
    model.fit([example])
    return model


def statistics(stream):
    """Mean and deviation of each channel, (n, 2 D)."""
    clips = stream.double().numpy()
    return np.concatenate([clips.mean(1), clips.std(1)], axis=1)


def test_a_hidden_stream_is_the_mean_of_the_nearest_videos_that_have_it_and_all_that_is_visible():
    train, test = videos(0), videos(1, 8, hidden=0)
    model = fitted(train, neighbours=2)
    own = np.concatenate([statistics(train.features[m]) for m in WIDTHS], axis=1)  # NaN where absent
    centre, spread = np.nanmean(own, axis=0), np.nanstd(own, axis=0)
    memory = (own - centre) / spread
    looked = (np.concatenate([statistics(test.features[m]) for m in WIDTHS], axis=1) - centre) / spread
    seen = np.repeat([True, False, True], [10, 6, 8])
    donors = memory[train.available.all(dim=1).numpy()]
    expected = []
    for video in looked:
        cosine = donors[:, seen] @ video[seen] / np.linalg.norm(donors[:, seen], axis=1) / np.linalg.norm(video[seen])
        nearest = donors[np.argsort(-cosine)[:2]].mean(0)
        expected.append(np.where(seen, video, nearest) @ model.weight.numpy() + float(model.bias))
    visible = torch.tensor([[True, False, True]]).expand(8, 3)
    assert np.allclose(model.score(test.features, visible, test.lengths), np.clip(expected, 0, 1), atol=1e-6)


def standardized(model, example, visible):
    return model._standardized(model._raw(example.features, visible, example.lengths), visible)


def test_a_training_video_is_never_filled_from_itself():
    train = videos(0, hidden=0)
    visible = torch.ones(ROWS, 3, dtype=torch.bool)
    visible[:, 1] = torch.arange(ROWS) % 2 == 0
    model = fitted(train._replace(visible=visible), neighbours=1)
    whole, seen = (standardized(model, train, which) for which in (train.available, visible))
    filled, hidden = model._filled(seen, visible, torch.arange(ROWS)), ~visible[:, 1]
    assert torch.equal(filled[~hidden], whole[~hidden])
    assert not (filled == whole)[hidden].all(dim=1).any()
    assert torch.equal(model._filled(seen, visible, None), whole)  # a new video that is equal to one is filled from it


def test_filling_is_nearer_to_what_is_hidden_than_the_mean_where_streams_say_the_same():
    train, test = videos(0, 200, hidden=0), videos(1, 200, hidden=0)
    model, visible = fitted(train, neighbours=5), torch.tensor([[True, False, False]]).expand(200, 3)
    filled, whole = (
        model._filled(standardized(model, test, visible), visible, None),
        standardized(model, test, test.available),
    )
    means = slice(10, 13)  # of the audio channels
    assert (filled - whole)[:, means].square().mean() < 0.5 * whole[:, means].square().mean()


def test_what_training_hides_for_an_epoch_is_in_the_memory_and_what_is_absent_never_is():
    train = videos(0)
    hidden = train._replace(visible=train.available & torch.tensor([True, False, True]))
    hidden.visible[~hidden.visible.any(dim=1)] = train.available[~hidden.visible.any(dim=1)]
    model = fitted(train)
    assert torch.equal(fitted(hidden).memory, model.memory)
    assert torch.equal(model.present.bool(), train.available)
    absent = train.features["visual"].isnan()
    poisoned = {**train.features, "visual": train.features["visual"].masked_fill(absent, 9.0)}
    again = fitted(train._replace(features=poisoned))
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


def test_where_no_training_video_can_give_a_stream_it_is_the_mean():
    train, test = videos(0, hidden=0), videos(1, 4, hidden=0)
    train.available[:, 1] = torch.arange(ROWS) % 2 == 0
    train.available[:, 0] = ~train.available[:, 1]  # none has both
    model, visible = fitted(train._replace(visible=train.available)), torch.tensor([[True, False, False]]).expand(4, 3)
    filled = model._filled(standardized(model, test, visible), visible, None)
    assert (filled[:, 10:16] == 0).all()
    assert (filled[:, 16:] != 0).all()


def test_a_checkpoint_keeps_the_memory():
    train, test = videos(0), videos(1)
    model, again = fitted(train), build("retrieval_fill", widths=WIDTHS)
    again.load_state_dict(model.state_dict())
    scores = [m.score(test.features, test.visible, test.lengths) for m in (model, again)]
    assert torch.equal(*scores)


def test_more_neighbours_than_there_are_videos_are_all_of_them():
    train, test = videos(0, 12, hidden=0), videos(1, 5, hidden=0)
    visible = torch.tensor([[False, True, False]]).expand(5, 3)
    scores = [fitted(train, neighbours=k).score(test.features, visible, test.lengths) for k in (12, 500)]
    assert torch.equal(*scores)


def test_it_runs_from_end_to_end(tmp_path):
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=120)
    found = aqa.run(
        {
            "name": "retrieval",
            "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
            "model": {"name": "retrieval_fill"},
            "missing": {"train": "none"},
            "figures": False,
            "output": str(tmp_path / "run"),
        }
    )
    for pattern, scores in found.metrics["patterns"].items():
        assert scores["srcc"] >= 0.6 * scores["ceiling"], pattern
    assert aqa.evaluate(tmp_path / "run").metrics["patterns"] == found.metrics["patterns"]
