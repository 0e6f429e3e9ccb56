"""The training loop: what it keeps, when it stops, and that it can go on exactly."""

import io
import math

import pytest
import torch
from tqdm import tqdm

from aqa.config.schema import TrainConfig
from aqa.errors import AqaError, NotANumber
from aqa.features.batches import Batch
from aqa.models import AQAModel, Loss
from aqa.training.loop import BAR, Diverged, shown_values, train


class Line(AQAModel):
    """score = sigmoid(weight): the smallest model that trains."""

    def __init__(self):
        super().__init__({"visual": 1})
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.dropout = torch.nn.Dropout(0.5)  # draws random numbers, whose state must be resumed

    def loss(self, features, target, visible, available, lengths=None):
        noise = self.dropout(torch.ones(8)).mean() * 1e-3
        mse = (self.weight.sigmoid() + noise - target).square().mean()
        return Loss(mse, {"mse": mse})


def batch(rows=4):
    yes = torch.ones(rows, 1, dtype=torch.bool)
    features, lengths = {"visual": torch.ones(rows, 2, 1)}, {"visual": torch.full((rows,), 2)}
    return Batch(torch.arange(rows), features, lengths, yes, yes, (yes, yes))


def fit(model=None, measures=None, metric="srcc", saved=None, save=None, stop_after=None, **settings):
    torch.manual_seed(0)
    model = model or Line()
    values = iter(measures) if measures is not None else None
    epochs = []

    def measure():
        value = next(values) if values is not None else float(model.weight.detach())
        return {"srcc": value, "mse": value}

    def on_epoch(row):
        epochs.append(row)
        if stop_after is not None and len(epochs) == stop_after:
            raise KeyboardInterrupt

    config = TrainConfig(**{"epochs": 6, "learning_rate": 0.1, "weight_decay": 0.0, **settings})
    target = torch.full((4,), 0.9)
    progress = train(
        model, lambda epoch: iter([batch()] * 2), target, measure, metric, "valid", config, saved, save, on_epoch, False
    )
    return model, progress


def test_the_weights_of_the_best_epoch_are_kept_by_srcc():
    _, progress = fit(measures=[0.1, 0.5, 0.3, math.nan, 0.5, 0.2])
    assert (progress.best_epoch, progress.best_value, progress.epoch) == (2, 0.5, 6)


def test_the_weights_of_the_best_epoch_are_kept_by_mse():
    _, progress = fit(measures=[3.0, math.nan, 1.0, 2.0, 5.0, 6.0], metric="mse")
    assert (progress.best_epoch, progress.best_value) == (3, 1.0)


def test_kept_weights_are_those_of_their_epoch_and_not_of_the_last():
    model, progress = fit(measures=[0.1, 0.9, 0.3, 0.2, 0.1, 0.0])
    assert not torch.equal(progress.best_weights["weight"], model.weight.detach())
    assert progress.best_weights["weight"] < model.weight  # still on its way up to the target


def test_an_always_undefined_metric_keeps_the_last_weights_and_says_so():
    model, progress = fit(measures=[math.nan] * 6)
    assert progress.best_epoch == 0
    assert math.isnan(progress.best_value)
    assert torch.equal(progress.best_weights["weight"], model.weight.detach())


def test_patience_stops_after_epochs_without_progress():
    _, progress = fit(measures=[0.1, 0.5, 0.4, 0.3, 0.6, 0.7], patience=2)
    assert progress.epoch == 4


def test_the_learning_rate_follows_a_cosine_to_its_final_share():
    _, progress = fit(epochs=4, final_learning_rate=0.01)
    rates = [row["learning_rate"] for row in progress.history]
    expected = [0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert rates == pytest.approx(expected)


def test_history_holds_loss_parts_and_measurements_by_split():
    _, progress = fit(epochs=2)
    assert [row["epoch"] for row in progress.history] == [1, 2]
    assert set(progress.history[0]) == {"epoch", "learning_rate", "loss", "loss_mse", "valid_srcc", "valid_mse"}
    assert progress.history[0]["loss"] == progress.history[0]["loss_mse"] > progress.history[1]["loss"] > 0


def test_gradient_clipping_limits_the_step_of_plain_descent():
    free, _ = fit(epochs=1, learning_rate=0.1)
    clipped, _ = fit(epochs=1, learning_rate=0.1, gradient_clip=1e-12)
    assert 0 < abs(clipped.weight.item()) < 1e-2 < abs(free.weight.item())


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_going_on_from_a_saved_state_is_exact(monkeypatch, epoch):
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    whole, expected = fit()
    states = []
    with pytest.raises(KeyboardInterrupt):
        fit(save=lambda state: states.append(_through_a_file(state)), stop_after=epoch + 1)
    torch.manual_seed(123)  # the saved random state has to win
    model, progress = fit(model=Line(), saved=states[-1])
    assert torch.equal(model.weight, whole.weight)
    assert progress.history == expected.history
    assert progress.best_epoch == expected.best_epoch


def _through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_a_loss_that_is_no_number_stops_with_its_epoch():
    model = Line()
    model.weight.data.fill_(float("nan"))
    with pytest.raises(AqaError, match="the loss is nan in epoch 1"):
        fit(model=model, measures=[0.1] * 6)


class Overflowing(Line):
    """Its loss stays a number while a buffer (`what`: weight or buffer) becomes none in epoch 3."""

    def __init__(self, what, number):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(2))
        self.what, self.number, self.epoch = what, number, 0

    def start_epoch(self, epoch):
        self.epoch = epoch

    def loss(self, *batch, **others):
        found = super().loss(*batch, **others)
        if self.epoch == 3 and self.what == "buffer":
            self.buffer[1] = self.number
        if self.epoch == 3 and self.what == "weight":
            self.weight.register_hook(lambda gradient: gradient * self.number)
        return found


@pytest.mark.parametrize("what", ["weight", "buffer"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_weight_that_is_no_number_stops_though_the_loss_is_one(what, number):
    with pytest.raises(Diverged, match=r"in epoch 3; a lower train\.learning_rate may help") as error:
        fit(model=Overflowing(what, number), measures=[0.1, 0.5, 0.2, 0.3, 0.4, 0.5])
    progress = error.value.progress
    assert (progress.epoch, progress.best_epoch, progress.best_value) == (2, 2, 0.5)
    assert len(progress.history) == 2
    assert all(weight.isfinite().all() for weight in progress.best_weights.values())


def test_a_score_that_is_no_number_stops_with_its_epoch():
    def measures():
        yield 0.3
        raise NotANumber("the model's score of 'a' under VA is not a number")

    with pytest.raises(Diverged, match="score of 'a' under VA is not a number in epoch 2") as error:
        fit(measures=measures())
    assert error.value.progress.best_epoch == 1


def test_an_epoch_without_batches_is_a_mistake_in_the_pattern():
    config = TrainConfig(epochs=1)
    with pytest.raises(AqaError, match=r"missing\.train leaves no training sample"):
        train(Line(), lambda epoch: iter([]), torch.zeros(4), lambda: {"srcc": 0.0}, "srcc", "valid", config)


class Staged(Line):
    """Knows which epoch it is in, as models that are trained in stages do."""

    def start_epoch(self, epoch):
        self.seen = [*getattr(self, "seen", []), epoch]


def test_a_model_is_told_each_epoch_and_a_resumed_one_those_that_are_left(monkeypatch):
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    model, _ = fit(Staged(), epochs=3)
    assert model.seen == [1, 2, 3]
    states = []
    with pytest.raises(KeyboardInterrupt):
        fit(Staged(), save=states.append, stop_after=3, epochs=5)
    resumed, _ = fit(Staged(), saved=states[-1], epochs=5)
    assert states[-1]["progress"]["epoch"] == 2
    assert resumed.seen == [3, 4, 5]


class Mean(AQAModel):
    """Predicts the mean target."""

    closed_form = True

    def __init__(self):
        super().__init__({"visual": 1})
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, batches):
        self.mean.copy_(torch.cat([example.target for example in batches]).mean())
        return {"loss": 0.0}


def test_a_model_in_closed_form_is_fitted_once():
    model, progress = fit(Mean(), measures=[0.5], epochs=7)
    assert float(model.mean) == pytest.approx(0.9)
    assert (progress.epoch, progress.best_epoch, progress.best_value) == (1, 1, 0.5)
    assert len(progress.history) == 1
    assert float(progress.best_weights["mean"]) == pytest.approx(0.9)


def test_the_progress_bar_can_be_read_at_100_columns_with_loss_and_validation():
    row = {"epoch": 127, "loss": 0.0123456, "loss_mse": 0.01, "valid_srcc": 0.61234, "valid_mse": 12.0}
    values = shown_values(row, "valid", "srcc")
    assert values == "loss 0.0123, valid SRCC 0.612"
    line = tqdm.format_meter(
        n=127, total=460, elapsed=754, ncols=100, prefix="training", unit="epoch", bar_format=BAR, postfix=values
    )
    assert len(line) == 100
    assert "127/460" in line
    assert values in line
    drawn = line.removeprefix("training").partition("127/460")[0].strip("| ")
    assert len(line.partition("127/460")[0]) >= 40
    assert drawn.startswith("\N{FULL BLOCK}" * 5)
