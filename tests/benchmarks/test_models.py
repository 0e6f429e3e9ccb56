import pytest
import torch

from aqa.models import MODELS
from benchmarks import models
from benchmarks.steps import build_small, random_batch, small_shape

SHAPE = small_shape(3, 6, 8, 4)


def test_every_model_is_given_settings_and_the_wide_ones_the_same_width():
    settings = models.model_settings()
    assert set(settings) == set(MODELS.names()) - {"ensemble", "limssr"}
    assert {given["hidden_dim"] for name, given in settings.items() if not MODELS.get(name).make.closed_form} == {64}
    assert not any("name" in given for given in settings.values())


@pytest.mark.parametrize(
    ("name", "in_last_stage"),
    [
        ("dimml", lambda model: model.stage == "contrast"),
        ("momke", lambda model: model.mixing),
        ("pamfn", lambda model: model.stage == "mixed"),
        ("simmlm", lambda model: not model.experts_alone),
    ],
)
def test_models_trained_in_stages_are_timed_in_the_last(name, in_last_stage):
    model = build_small(name, SHAPE.widths, **models.model_settings()[name])
    step = models.learning(model, random_batch(SHAPE, torch.device("cpu"), padded=True))
    assert in_last_stage(model)
    step()


def test_a_model_in_closed_form_is_fitted():
    model = build_small("ridge", SHAPE.widths)
    models.learning(model, random_batch(SHAPE, torch.device("cpu")))()
    assert model.weight.abs().sum() > 0


def test_the_table_is_markdown_by_the_first_time():
    header = ["model", "parameters", "step"]
    table = models.markdown(header, [["`b`", "1", "12"], ["`a`", "2", "0.5"]])
    assert table.splitlines() == [
        "| model | parameters | step |",
        "| --- | --- | --- |",
        "| `a` | 2 | 0.5 |",
        "| `b` | 1 | 12 |",
    ]
