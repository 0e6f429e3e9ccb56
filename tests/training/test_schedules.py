"""Learning rates: torch's own schedules, epoch by epoch; stages that begin with a new optimizer; exact resuming."""

import pytest
import torch

from aqa.config.schema import TrainConfig
from aqa.features.batches import Batch
from aqa.models import AQAModel, Loss
from aqa.training.loop import train
from aqa.training.schedules import scheduler_of, stage_of, stages_of

EPOCHS = 12
schedulers = torch.optim.lr_scheduler


def optimizer():
    """Two groups of parameters, the second at a tenth of the rate."""
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.01}], lr=0.1)


def rates(make):
    """The rates of both groups in each epoch."""
    own = optimizer()
    schedule, found = make(own), []
    for _ in range(EPOCHS):
        found.append([group["lr"] for group in own.param_groups])
        own.step()
        schedule.step()
    return torch.tensor(found, dtype=torch.float64)


def ours(**settings):
    config = TrainConfig(epochs=EPOCHS, learning_rate=0.1, **settings)
    return rates(lambda own: scheduler_of(own, config))


def warmed_up(own, after, warmup):
    rising = schedulers.LinearLR(own, start_factor=1 / warmup, total_iters=warmup - 1)
    return schedulers.SequentialLR(own, [rising, after], milestones=[warmup])


def cosine(own, epochs, lowest=0.001):
    return schedulers.CosineAnnealingLR(own, T_max=epochs, eta_min=lowest)


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({}, lambda own: cosine(own, EPOCHS)),
        ({"final_learning_rate": 0.2}, lambda own: cosine(own, EPOCHS, 0.02)),
        ({"schedule": "constant"}, lambda own: schedulers.ConstantLR(own, factor=1.0)),
        ({"schedule": "step", "steps": 5}, lambda own: schedulers.StepLR(own, 5, 0.1)),
        (
            {"schedule": "step", "steps": [3, 7], "step_factor": 0.5},
            lambda own: schedulers.MultiStepLR(own, [3, 7], 0.5),
        ),
        ({"warmup": 4}, lambda own: warmed_up(own, cosine(own, EPOCHS - 4), 4)),
        (
            {"warmup": 3, "schedule": "constant"},
            lambda own: warmed_up(own, schedulers.ConstantLR(own, factor=1.0), 3),
        ),
    ],
)
def test_rates_are_those_of_torchs_schedulers(settings, theirs):
    assert torch.allclose(ours(**settings), rates(theirs), rtol=1e-12)


def test_a_warm_up_rises_from_its_first_epoch_to_the_whole_rate_also_where_training_ends_before():
    assert ours(warmup=4)[:5, 0].tolist() == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert ours(warmup=24)[-1, 0] == pytest.approx(0.05)


class Staged(AQAModel):
    """score = sigmoid(weight), of a model that has a second stage after two epochs of five."""

    def __init__(self, starts=()):
        super().__init__({"visual": 1})
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.dropout = torch.nn.Dropout(0.5)  # draws random numbers, whose state must be resumed
        self.starts = starts

    def stage_starts(self):
        return self.starts

    def loss(self, features, target, visible, available, lengths=None):
        noise = self.dropout(torch.ones(8)).mean() * 1e-3
        return Loss((self.weight.sigmoid() + noise - target[0]).square().sum(), {})


TWO = {
    "epochs": 5,
    "learning_rate": 0.5,
    "optimizer": "sgd",
    "weight_decay": 0.0,
    "stages": [{"epochs": 2, "nesterov": True}, {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "constant"}],
}


def fit(model, saved=None, save=None, stop_after=None, **settings):
    torch.manual_seed(0)
    yes = torch.ones(4, 1, dtype=torch.bool)
    lengths = {"visual": torch.full((4,), 2)}
    batch = Batch(torch.arange(4), {"visual": torch.ones(4, 2, 1)}, lengths, yes, yes, (yes, yes))

    def on_epoch(row):
        if row["epoch"] == stop_after:
            raise KeyboardInterrupt

    progress = train(
        model,
        lambda epoch: iter([batch] * 2),
        torch.full((4,), 0.9),
        lambda: {"srcc": 0.5, "mse": 0.5},
        "srcc",
        "valid",
        TrainConfig(**settings),
        saved,
        save,
        on_epoch,
        False,
    )
    return model, progress


def test_each_stage_has_a_new_optimizer_and_its_own_schedule():
    model, progress = fit(Staged(), **TWO)
    assert [row["learning_rate"] for row in progress.history] == pytest.approx([0.5, 0.2525, 0.01, 0.01, 0.01])
    torch.manual_seed(0)
    other = Staged()
    target = torch.full((4,), 0.9)
    descent = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.9, nesterov=True)
    falling = cosine(descent, 2, 0.005)
    later = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.0)
    for epoch in range(5):
        for _ in range(2):
            other.zero_grad()
            other.loss(None, target, None, None).total.backward()
            (descent if epoch < 2 else later).step()
        if epoch < 2:
            falling.step()
    assert torch.allclose(model.weight, other.weight, atol=1e-6)


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_run_stopped_in_any_stage_resumes_to_the_same_bits(monkeypatch, states, epoch):
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    whole, expected = fit(Staged(), **TWO, warmup=1)
    with pytest.raises(KeyboardInterrupt):
        fit(Staged(), save=states.save, stop_after=epoch + 1, **TWO, warmup=1)
    assert states[-1]["progress"]["epoch"] == epoch
    resumed, progress = fit(Staged(), saved=states[-1], **TWO, warmup=1)
    assert progress.history == expected.history
    assert torch.equal(resumed.weight, whole.weight)


def lengths(model, **settings):
    return [(stage.first, stage.settings.epochs) for stage in stages_of(model, TrainConfig(**settings))]


def test_stages_are_those_of_the_experiment_else_those_of_the_model():
    assert lengths(Staged(), epochs=5) == [(1, 5)]
    assert lengths(Staged([3]), epochs=5) == [(1, 2), (3, 3)]
    assert lengths(Staged([1, 9]), epochs=5) == [(1, 5)]  # a stage that never comes, and one that is the first
    assert lengths(Staged([3]), epochs=9, stages=[{"epochs": 0.34}, {"epochs": 4}, {}]) == [(1, 3), (4, 4), (8, 2)]
    stages = stages_of(Staged([3]), TrainConfig(epochs=5))
    assert [stage_of(stages, epoch).first for epoch in (0, 1, 2, 3, 5)] == [1, 1, 1, 3, 3]


def test_a_stage_says_only_what_is_other_than_under_train():
    first, second = stages_of(Staged(), TrainConfig(**TWO, gradient_clip=2.0))
    assert (first.settings.optimizer, first.settings.nesterov, first.settings.learning_rate) == ("sgd", True, 0.5)
    assert (second.settings.optimizer, second.settings.learning_rate) == ("adamw", 0.01)
    assert first.settings.gradient_clip == second.settings.gradient_clip == 2.0
