"""The Gaussian process agrees with scikit-learn's, with brute force, and runs like any other model."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, WhiteKernel

import aqa
from aqa.errors import AqaError
from aqa.layers.covariance import covariance, each_with_each
from aqa.layers.process import Likelihood, through_basis
from aqa.models import build
from aqa.models.base import Example
from aqa.store.synthetic import make_synthetic
from aqa.system.torch_files import load_torch

WIDTHS = {"visual": 5, "audio": 3, "flow": 4}
ROWS, CLIPS = 60, 6
COMPLETE = (True, True, True)
SUBSETS = [subset for subset in itertools.product((True, False), repeat=3) if any(subset)]


def videos(seed, rows=ROWS, widths=WIDTHS, incomplete=True):
    """Videos whose score depends on every stream, with NaN in absent streams and in the padding."""
    rng = np.random.default_rng(seed)
    has = rng.random((rows, len(widths))) < (0.7 if incomplete else 2)
    has[~has.any(axis=1)] = True
    quality = rng.standard_normal(rows)
    lengths = {m: rng.integers(2, CLIPS + 1, rows) for m in widths}
    features = {}
    for i, (m, width) in enumerate(widths.items()):
        clips = rng.standard_normal((rows, CLIPS, width)) + 0.5 * quality[:, None, None]
        clips[np.arange(CLIPS) >= lengths[m][:, None]] = np.nan
        clips[~has[:, i]] = np.nan
        features[m] = torch.from_numpy(clips).float()
    target = torch.from_numpy(0.5 + 0.1 * quality + 0.03 * rng.standard_normal(rows)).float()
    lengths = {m: torch.from_numpy(length) for m, length in lengths.items()}
    return Example(features, target, torch.from_numpy(has), torch.from_numpy(has), lengths)


def part(example, rows):
    features, lengths = ({m: x[rows] for m, x in each.items()} for each in (example.features, example.lengths))
    others = None if example.others is None else example.others[rows]
    return Example(features, example.target[rows], example.visible[rows], example.available[rows], lengths, others)


def fitted(example=None, widths=WIDTHS, **options):
    model = build("gaussian_process", widths=widths, **options)
    model.fit([videos(0) if example is None else example])
    return model


def described(model, example):
    """Each channel's mean over real clips, standardized as in the model, (n, D) of one modality."""
    (stream,), (lengths,) = example.features.values(), example.lengths.values()
    means = np.stack([clips[:n].double().numpy().mean(0) for clips, n in zip(stream, lengths, strict=True)])
    return np.clip((means - model.centre.numpy()) * model.stretch.numpy(), -5, 5)


@pytest.mark.parametrize("kernels", [("linear",), ("rbf",), ("matern52",), ("linear", "rbf"), ("linear", "matern52")])
def test_mean_and_deviation_are_those_of_scikit_learn_with_the_same_kernel(kernels):
    widths = {"sound": 4}
    train, test = videos(0, widths=widths), videos(1, 9, widths=widths)
    model = fitted(train, widths, statistics=["mean"], kernel=kernels)
    known = model.predictor((True,))
    numbers = iter(np.exp(known.process.logs))
    kernel = None
    for name in kernels:
        amplitude = next(numbers)
        if name == "linear":
            one = ConstantKernel(amplitude / 4) * DotProduct(0, "fixed")
        elif name == "rbf":
            one = ConstantKernel(amplitude) * RBF(2 * next(numbers))
        else:
            one = ConstantKernel(amplitude) * Matern(2 * next(numbers), nu=2.5)
        kernel = one if kernel is None else kernel + one
    kernel = ConstantKernel(known.process.scale) * (kernel + WhiteKernel(next(numbers)))
    y = train.target.double().numpy()
    reference = GaussianProcessRegressor(kernel, alpha=0, optimizer=None)
    reference.fit(described(model, train), (y - y.mean()) / y.std())
    mean, deviation = reference.predict(described(model, test), return_std=True)
    found = model.posterior(test.features, test.visible, test.lengths)
    np.testing.assert_allclose(found.mean, y.mean() + y.std() * mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.deviation, y.std() * deviation, rtol=0, atol=1e-9)
    assert torch.equal(model.score(test.features, test.visible, test.lengths), found.mean.float())


@pytest.mark.parametrize("visible", [COMPLETE, (False, True, True), (True, False, False)])
def test_leaving_one_out_in_closed_form_is_leaving_one_out(visible):
    model = fitted()
    known, left_out = model.predictor(visible), model.leave_one_out(visible)
    kernel = torch.linalg.inv(known.process.explained / known.process.scale)  # with the noise
    middle, spread = model.target.mean(), model.target.std(correction=0)
    y = (model.target[known.rows] - middle) / spread
    for row in range(len(y)):
        others = torch.arange(len(y)) != row
        solved = torch.linalg.solve(kernel[others][:, others], kernel[others, row])
        variance = known.process.scale * (kernel[row, row] - kernel[row, others] @ solved)
        assert torch.allclose(left_out.mean[row], middle + spread * (solved @ y[others]), atol=1e-9)
        assert torch.allclose(left_out.deviation[row], spread * variance.sqrt(), atol=1e-9)


@pytest.mark.parametrize("names", [("linear", "rbf"), ("matern52",), ("linear", "rbf", "matern52")])
def test_the_gradient_of_the_likelihood_is_that_of_finite_differences(names):
    model = fitted(kernel=names, iterations=1)
    visible = (True, True, False)
    rows = model.predictor(visible).rows
    outputs = torch.cat([model.outputs, torch.from_numpy(np.random.default_rng(4).standard_normal((ROWS, 2)))], dim=1)
    likelihood = Likelihood.of(model._learned(rows, visible), names, outputs[rows])
    logs = likelihood.start + np.random.default_rng(3).standard_normal(len(likelihood.start))
    value, gradient = likelihood.negative(logs)
    numeric = approx_fprime(logs, lambda at: likelihood.negative(at)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)
    best = likelihood.maximized(iterations=200)
    least, flat = likelihood.negative(best)
    assert least < value
    assert np.abs(flat).max() < 1e-2 * np.abs(gradient).max()


def test_the_likelihood_is_the_density_of_the_labels_under_the_most_likely_variance():
    model, names = fitted(), ("linear", "rbf")
    known = model.predictor(COMPLETE)
    likelihood = Likelihood.of(model._learned(known.rows, COMPLETE), names, model.outputs[known.rows])
    value, _ = likelihood.negative(known.process.logs)
    covariance = known.process.scale * torch.linalg.inv(known.process.explained / known.process.scale)
    y = model.outputs[known.rows, 0]
    density = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y)
    penalty = 0.1 * np.square(known.process.logs - likelihood.start).sum()
    constant = 0.5 * len(y) * (1 + np.log(2 * np.pi))
    assert float(density) == pytest.approx(penalty - value - constant, abs=1e-6)


def test_the_score_is_the_sum_of_what_each_group_contributes_and_hidden_groups_contribute_nothing():
    model, test = fitted(), videos(1, 14)
    visible = torch.tensor(SUBSETS).repeat(2, 1) & test.available
    visible[~visible.any(dim=1)] = test.available[~visible.any(dim=1)]
    found = model.contributions(test.features, visible, test.lengths)
    assert found.shape == (14, 1 + 3 * 2)
    assert (found[:, 0] == model.target.mean()).all()
    assert torch.equal(found[:, 1:] != 0, visible.repeat_interleave(2, dim=1))
    mean = model.posterior(test.features, visible, test.lengths).mean
    assert torch.allclose(found.sum(dim=1), mean, rtol=0, atol=1e-12)
    said = model.diagnostics(test.features, visible, test.lengths)
    assert torch.equal(said["contributions"], found)


def test_a_visible_set_learns_from_the_videos_that_have_some_of_it_seen_through_it():
    train = videos(0)
    model = fitted(train)
    has_audio = train.available[:, 1]
    assert len(model.predictor((False, True, False)).rows) == int(has_audio.sum())
    alone = {m: x[has_audio] for m, x in train.features.items() if m == "audio"}
    rows = torch.ones(int(has_audio.sum()), 1, dtype=torch.bool)
    only = build("gaussian_process", widths={"audio": 3})
    only.fit([Example(alone, train.target[has_audio], rows, rows, {"audio": train.lengths["audio"][has_audio]})])
    test = videos(1, 20, incomplete=False)
    visible = torch.tensor([[False, True, False]]).expand(20, 3)
    scores = model.posterior(test.features, visible, test.lengths).mean
    theirs = only.posterior({"audio": test.features["audio"]}, visible[:, 1:2], {"audio": test.lengths["audio"]}).mean
    # The labels are centred and scaled by all training videos in one and by those with audio in the other.
    assert np.corrcoef(scores, theirs)[0, 1] > 0.98


def test_neither_order_nor_batches_nor_what_is_hidden_for_an_epoch_changes_a_bit():
    train, order = with_others(videos(0)), torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    shuffled = part(train, order)._replace(visible=torch.eye(3, dtype=torch.bool)[torch.arange(ROWS) % 3])
    one, other = fitted(train), build("gaussian_process", widths=WIDTHS)
    other.fit([part(shuffled, slice(0, 7)), part(shuffled, slice(7, None))])
    states = one.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(threads):
    def state():
        model = fitted(videos(0, 120))
        test = videos(1)
        return [*model.state_dict().values(), *model.posterior(test.features, test.visible, test.lengths)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = state()
        torch.set_num_threads(threads)
        assert all(torch.equal(one, other) for one, other in zip(alone, state(), strict=True))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_order_in_which_visible_sets_are_asked_for_changes_no_bit():
    test = videos(1, 20, incomplete=False)

    def scores(order):
        model, found = fitted(), {}
        for subset in order:
            found[subset] = model.score(test.features, torch.tensor(subset).expand(20, 3), test.lengths)
        return [found[subset] for subset in SUBSETS]

    assert all(map(torch.equal, scores(SUBSETS), scores(SUBSETS[::-1])))


def test_what_no_training_video_has_gives_the_mean_label_and_its_deviation():
    train = videos(0, incomplete=False)
    train.available[:, 2] = False
    model, test = fitted(train), videos(1, 4, incomplete=False)
    visible = torch.tensor([[False, False, True]]).expand(4, 3)
    found = model.posterior(test.features, visible, test.lengths)
    assert (found.mean == model.target.mean()).all()
    assert (found.deviation == model.target.std(correction=0)).all()
    assert len(model.leave_one_out((False, False, True)).mean) == 0


def test_a_channel_that_is_constant_in_training_says_nothing():
    train, test = videos(0), videos(1)
    train.features["visual"][..., 2] = torch.where(train.features["visual"][..., 2].isnan(), torch.nan, 0.1)
    model = fitted(train)
    before = model.score(test.features, test.visible, test.lengths)
    test.features["visual"][..., 2] += 100
    assert torch.equal(model.score(test.features, test.visible, test.lengths), before)


def test_equal_labels_are_scored_as_what_they_are():
    train = videos(0)
    model = fitted(train._replace(target=torch.full((ROWS,), 0.25)))
    assert torch.allclose(model.score(train.features, train.visible, train.lengths), torch.tensor(0.25))


def test_deviations_cover_what_they_say():
    model, test = fitted(videos(0, 150)), videos(1, 400)
    found = model.posterior(test.features, test.visible, test.lengths)
    share = ((test.target - found.mean).abs() < 1.645 * found.deviation).double().mean()
    assert 0.85 < share < 0.95


def test_a_video_of_which_less_is_visible_has_a_wider_deviation():
    model, test = fitted(videos(0, 150, incomplete=False)), videos(1, 100, incomplete=False)
    deviations = [
        model.posterior(test.features, torch.tensor(subset).expand(100, 3), test.lengths).deviation
        for subset in (COMPLETE, (False, True, False))
    ]
    assert deviations[1].mean() > 1.05 * deviations[0].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": ["rbf", "rbf"]}, "option 'kernel': rbf, rbf has one name twice"),
        ({"kernel": []}, "option 'kernel': needs at least 1 entry"),
        ({"kernel": ["rfb"]}, "option 'kernel.0': "),
        ({"statistics": ["median"]}, "option 'statistics.0': "),
        ({"learn_from": "test"}, "option 'learn_from': "),
        ({"components": 0}, "option 'components': "),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(AqaError) as error:
        build("gaussian_process", widths=WIDTHS, **options)
    assert str(error.value).startswith(f"model 'gaussian_process', {message}")


def with_others(example, seed=0, unknown=0.3):
    """The same videos with three more labels: one like the target, one unlike it, one that nobody has."""
    rng = np.random.default_rng(seed)
    target = example.target.double().numpy()
    like, unlike = target + 0.03 * rng.standard_normal(len(target)), rng.random(len(target))
    others = np.stack([like, unlike, np.full(len(target), np.nan)], axis=1)
    others[rng.random(others.shape) < unknown] = np.nan
    return example._replace(others=torch.from_numpy(others))


def test_other_labels_that_agree_with_the_target_make_its_scores_better():
    rng = np.random.default_rng(8)
    errors = {"alone": [], "joint": []}
    for seed in range(4):
        train, test = (videos(s, n, incomplete=False) for s, n in ((10 + seed, 80), (20 + seed, 300)))
        noisy = train.target + 0.15 * torch.from_numpy(rng.standard_normal(80)).float()
        judges = train.target.double().unsqueeze(1) + 0.15 * torch.from_numpy(rng.standard_normal((80, 5)))
        judges[::3, 0] = torch.nan
        train = train._replace(target=noisy)
        for name, example in {"alone": train, "joint": train._replace(others=judges)}.items():
            model = fitted(example)
            mean = model.posterior(test.features, test.visible, test.lengths).mean
            errors[name].append(float((mean - test.target).square().mean()))
    assert np.mean(errors["joint"]) < 0.9 * np.mean(errors["alone"])


@pytest.mark.parametrize("visible", [COMPLETE, (False, True, True)])
def test_leaving_a_video_out_of_several_processes_is_leaving_it_out_of_each(visible):
    model = fitted(with_others(videos(0)), components=2)
    known, left_out = model.predictor(visible), model.leave_one_out(visible)
    outputs, logs, loading = model.outputs[known.rows], known.process.logs, model.loading
    assert outputs.shape[1] == 3  # two components and what they leave of the target
    kernel = covariance(each_with_each(*[model._learned(known.rows, visible)] * 2), model.kernel, logs[:-3])
    kernel = kernel.view(len(outputs), -1)
    middle, spread = model.target.mean(), model.target.std(correction=0)
    for row in (0, 7, len(outputs) - 1):
        others, mean, variance = torch.arange(len(outputs)) != row, 0.0, 0.0
        for c, noise in enumerate(np.exp(logs[-3:])):
            noisy = kernel + noise * torch.eye(len(kernel))
            scale = outputs[:, c] @ torch.linalg.solve(noisy, outputs[:, c]) / len(outputs)
            solved = torch.linalg.solve(noisy[others][:, others], noisy[others, row])
            mean += loading[c] * (solved @ outputs[others, c])
            variance += loading[c] ** 2 * scale * (noisy[row, row] - solved @ noisy[others, row])
        assert torch.allclose(left_out.mean[row], middle + spread * mean, atol=1e-9)
        assert torch.allclose(left_out.deviation[row], spread * variance.sqrt(), atol=1e-9)


def test_a_checkpoint_keeps_what_other_labels_taught():
    model, test = fitted(with_others(videos(0)), components=2), videos(1)
    before = model.posterior(test.features, test.visible, test.lengths)
    again = build("gaussian_process", widths=WIDTHS, components=2)
    again.load_state_dict(model.state_dict())
    after = again.posterior(test.features, test.visible, test.lengths)
    assert all(map(torch.equal, before, after))
    found = again.contributions(test.features, test.visible, test.lengths)
    assert torch.allclose(found.sum(dim=1), before.mean, rtol=0, atol=1e-12)


def test_through_all_videos_as_a_basis_the_process_is_the_exact_one():
    model = fitted(with_others(videos(0)), components=2)
    known = model.predictor(COMPLETE)
    learned, y = model._learned(known.rows, COMPLETE), model.outputs[known.rows]
    same = through_basis(learned, learned, model.kernel, known.process.logs, y, model.loading)
    for name in ("weights", "explained", "scale", "noise"):
        np.testing.assert_allclose(getattr(same, name), getattr(known.process, name), rtol=1e-5, atol=1e-5)
    for one, other in zip(same.left_out, known.process.left_out, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)


def test_through_a_basis_errors_are_as_large_as_stated_also_where_it_explains_little():
    model = fitted(videos(10, 200))
    learned, seen, new = (model._learned(torch.arange(*ends), COMPLETE) for ends in ((0, 150), (0, 30), (150, 200)))
    everyone = model._learned(torch.arange(200), COMPLETE)
    logs = np.append(np.ones(model.logs.shape[1] - 1), -0.5)  # the noise is little beside what 30 videos leave
    kernel = covariance(each_with_each(everyone, everyone), model.kernel, logs[:-1]).view(200, 200)
    across = covariance(each_with_each(new, seen), model.kernel, logs[:-1]).view(50, -1)
    factor = torch.linalg.cholesky(kernel + np.exp(logs[-1]) * torch.eye(200))
    ratios = []
    for draw in (factor @ torch.randn(200, 40, generator=torch.Generator().manual_seed(0), dtype=torch.double)).T:
        known = through_basis(learned, seen, model.kernel, logs, draw[:150, None], torch.ones(1, dtype=torch.double))
        mean, variance = known.predict(across, kernel.diagonal()[150:])
        left_out, stated = known.left_out
        ratios.append([((draw[150:] - mean).square() / variance).mean()])
        ratios[-1] += [part.mean() for part in ((draw[:150] - left_out).square() / stated).split([30, 120])]
    of_new, of_basis, of_others = np.mean(ratios, axis=0)
    assert 0.75 < of_new < 1.25
    assert 0.75 < of_basis < 1.5
    assert 0.75 < of_others < 1.25


def test_a_larger_training_set_is_seen_through_some_of_its_videos():
    train, test = videos(10, 300), videos(11, 200)
    exact, through = fitted(train), fitted(train, most_videos=200, basis_videos=60)
    assert exact.notes(300) == []
    assert through.notes(300) == [
        "model 'gaussian_process' is exact up to 200 training videos (model.most_videos); these 300 are seen through "
        "60 of them (model.basis_videos)"
    ]
    assert [len(part) for part in (through.predictor(COMPLETE).rows, through.predictor(COMPLETE).basis)] == [300, 60]
    few = fitted(part(train, slice(0, 60)))
    errors = [
        float((model.posterior(test.features, test.visible, test.lengths).mean - test.target).square().mean())
        for model in (exact, through, few)
    ]
    assert errors[1] < 1.15 * errors[0] < errors[2]
    left_out = through.leave_one_out(COMPLETE)
    assert float((left_out.mean - through.target).square().mean()) < 1.5 * errors[1]
    again = build("gaussian_process", widths=WIDTHS, most_videos=200, basis_videos=60)
    again.load_state_dict(through.state_dict())
    posteriors = [model.posterior(test.features, test.visible, test.lengths) for model in (through, again)]
    assert all(map(torch.equal, *posteriors))


def test_no_training_videos_are_refused():
    with pytest.raises(AqaError, match=r"missing\.train leaves no training sample"):
        build("gaussian_process", widths=WIDTHS).fit([])


def test_a_damaged_state_is_refused():
    state = fitted().state_dict()
    with pytest.raises(RuntimeError, match="described and outputs are not of the same number of rows"):
        build("gaussian_process", widths=WIDTHS).load_state_dict({**state, "target": state["target"][1:]})
    with pytest.raises(RuntimeError, match="size mismatch for logs"):
        build("gaussian_process", widths=WIDTHS).load_state_dict({**state, "logs": state["logs"][:, 1:]})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("store") / "tiny.h5", samples=150)


def experiment(store, output, **changes):
    return {
        "name": "process",
        "data": {"store": str(store), "target": "score"},
        "model": {"name": "gaussian_process", **changes.pop("model", {})},
        "missing": {"train": "none"},
        "output": str(output),
        **changes,
    }


def test_a_run_keeps_the_predictor_of_every_visible_set_that_it_was_asked_for(store, tmp_path):
    result = aqa.run(experiment(store, tmp_path / "run"))
    for pattern, scores in result.metrics["patterns"].items():
        assert scores["srcc"] >= 0.7 * scores["ceiling"], pattern
    weights = load_torch(tmp_path / "run" / "checkpoint.pt")["weights"]
    assert {tuple(row) for row in weights["sets"].bool().tolist()} == set(SUBSETS)
    assert aqa.evaluate(tmp_path / "run").metrics["patterns"] == result.metrics["patterns"]


def test_the_seed_and_the_batches_change_no_bit_of_a_run(store, tmp_path):
    runs = [
        aqa.run(experiment(store, tmp_path / str(i), train=train)).metrics["patterns"]
        for i, train in enumerate([{"seed": 0}, {"seed": 1, "batch_size": 7}])
    ]
    assert [[s["srcc"], s["mse"]] for s in runs[0].values()] == [[s["srcc"], s["mse"]] for s in runs[1].values()]


def test_it_learns_from_the_validation_split_only_where_nothing_is_selected_on_it(store, tmp_path):
    both = {"model": {"learn_from": "train+valid"}}
    with pytest.raises(AqaError, match=r"^model\.learn_from: train\+valid leaves no videos of split 'valid'"):
        aqa.run(experiment(store, tmp_path / "refused", **both))
    said = aqa.run(experiment(store, tmp_path / "both", select={"split": "train"}, **both))
    alone = aqa.run(experiment(store, tmp_path / "alone"))
    samples = alone.metrics["samples"]
    assert said.metrics["samples"]["train"] == samples["train"] + samples["select"]
    assert "LEARNED FROM TRAIN AND VALID" in str(said)
    assert "LEARNED FROM TRAIN AND VALID" in str(aqa.evaluate(tmp_path / "both"))
    assert "LEARNED" not in str(alone)
