"""GDLT against numbers of the authors' code: `grade_decoder` with one stream, and each network of `late_fusion`."""

import json

import pytest
import torch
import torch.nn.functional as F

from aqa import load_published
from aqa.models import build
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from tests.golden.vectors import gradients, load, losses, named_gradients, state, tensor, values

VECTORS = load("gdlt")
CONFIG = json.loads(str(VECTORS["config"]))
THEIRS = Names(METHODS["gdlt"].names({"video": "visual"})).theirs
VISIBLE = torch.ones(6, 1, dtype=torch.bool)


def inputs():
    return {"visual": tensor(VECTORS["input.video"])}, tensor(VECTORS["input.score"])


def published(model="grade_decoder"):
    loaded = load_published("gdlt", VECTORS, n_head=CONFIG["n_head"], dropout=0.0)
    if model == "grade_decoder":
        return loaded
    sizes = {"hidden_dim": 32, "n_head": 2, "n_encoder": 1, "n_decoder": 2, "n_query": 4, "dropout": 0.0}
    late = build("late_fusion", widths={"visual": 24}, **sizes)
    late.load_state_dict({n.replace("network.", "networks.visual."): x for n, x in loaded.state_dict().items()})
    return late.eval()


@pytest.mark.parametrize("model", ["grade_decoder", "late_fusion"])
def test_scores_of_a_batch_and_of_single_videos(model):
    gdlt, (features, _) = published(model), inputs()
    with torch.no_grad():
        batch = gdlt.score(features, VISIBLE)
        single = torch.cat([gdlt.score({"visual": x.unsqueeze(0)}, VISIBLE[:1]) for x in features["visual"]])
    assert values(f"gdlt: {model}", batch, VECTORS["eval.score"])
    assert values(f"gdlt: {model}", single, VECTORS["eval_single.score"])


def test_decoded_queries():
    gdlt, (features, _) = published(), inputs()
    with torch.no_grad():
        assert values(
            "gdlt: grade_decoder", gdlt.grade(gdlt.encode(features, VISIBLE), VISIBLE)[1], VECTORS["eval.queries"]
        )


@pytest.mark.parametrize("model", ["grade_decoder", "late_fusion"])
def test_loss_and_gradients(model):
    gdlt, (features, target) = published(model).train(), inputs()
    total, parts = gdlt.loss(features, target, VISIBLE, VISIBLE)
    total.backward()
    name = f"gdlt: {model}"
    assert losses(name, total, VECTORS["train.loss"])
    assert losses(name, parts["mse"], VECTORS["train.mse"])
    assert losses(name, parts["triplet"], VECTORS["train.triplet"])
    found = named_gradients(gdlt, lambda ours: THEIRS(ours.replace("networks.visual.", "network.")))
    assert gradients(name, found, VECTORS, "train.") == []


def test_scores_in_training_are_those_of_batch_statistics():
    gdlt, (features, _) = published().train(), inputs()
    assert values("gdlt: grade_decoder", gdlt.score(features, VISIBLE), VECTORS["train.score"])


def test_a_numbered_prototype_is_another_model():
    numbered = load_published("gdlt", VECTORS, n_head=CONFIG["n_head"], dropout=0.0, position="query")
    features, target = inputs()
    with torch.no_grad():
        scores = numbered.score(features, VISIBLE)
    assert (scores - tensor(VECTORS["eval.score"])).abs().max() > 0.01
    assert torch.isfinite(F.mse_loss(scores, target))


def test_every_weight_of_the_checkpoint_is_in_the_model():
    names = Names(METHODS["gdlt"].names({"video": "visual"}))
    assert {names.ours(name) for name in state(VECTORS)} == set(published().state_dict())
