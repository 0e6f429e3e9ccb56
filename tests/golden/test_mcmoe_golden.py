"""MCMoE against numbers of the published implementation (scores, losses, gradients, the state after a step)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aqa import load_published_mcmoe
from aqa.errors import AqaError
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from tests.golden.vectors import compare

HERE = Path(__file__).parent  # small models, part of the project
SHARED = Path(__file__).parents[3] / "shared" / "golden"  # models of the published widths, where they are at hand

SCORE, LOSS, GRADIENT = 1e-5, 1e-5, 1e-3  # tolerances: absolute, relative, relative
our_name = Names(METHODS["mcmoe"].names(METHODS["mcmoe"].streams)).ours
PATTERNS = ("vaf", "va", "vf", "af", "v", "a", "f")


class Vectors(dict):
    """The arrays of a file, which knows its name."""


@pytest.fixture(scope="module", params=["mcmoe_tiny", "mcmoe_tiny_deep", "mcmoe_fisv", "mcmoe_fs1000"])
def golden(request):
    path = (HERE if "tiny" in request.param else SHARED) / f"{request.param}.npz"
    if path.parent == SHARED and not path.is_file():
        pytest.skip(f"optional: the large golden vectors are not at {path}")
    with np.load(path) as archive:
        found = Vectors({name: archive[name] for name in archive.files})
    found.file = path.name
    return found


def published(golden, **options):
    config = json.loads(str(golden["config"]))
    settings = {"n_head": config["n_head"], "dropout": 0.0, "alpha": config["alpha"], "margin": config["margin"]}
    return load_published_mcmoe(golden, **{**settings, **options})


def inputs(golden, rows=slice(None)):
    return {m: torch.from_numpy(golden[f"input.{m}"][rows]) for m in ("visual", "audio", "flow")}


def visible(pattern, rows):
    return torch.tensor([[initial in pattern for initial in "vaf"]] * rows)


def one_by_one(model, golden, pattern):
    with torch.no_grad():
        rows = len(golden["input.score"])
        return torch.cat([model.score(inputs(golden, slice(i, i + 1)), visible(pattern, 1)) for i in range(rows)])


def close(golden, value, expected, relative=0.0, absolute=0.0):
    kind = "values" if absolute else "losses" if relative == LOSS else "gradients"
    return compare(f"mcmoe: {golden.file}", kind, value, expected, absolute or relative, relative=bool(relative))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scores_of_a_batch_and_of_single_videos(golden, pattern):
    model = published(golden)
    with torch.no_grad():
        batch = model.score(inputs(golden), visible(pattern, len(golden["input.score"])))
    assert close(golden, batch, golden[f"eval_batch.{pattern}"], absolute=SCORE)
    assert close(golden, one_by_one(model, golden, pattern), golden[f"eval_single.{pattern}"], absolute=SCORE)


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_loss_gradients_and_the_state_after_a_step(golden, pattern):
    model = published(golden).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    target = torch.from_numpy(golden["input.score"])
    everything = torch.ones(len(target), 3, dtype=torch.bool)
    total, parts = model.loss(inputs(golden), target, visible(pattern, len(target)), everything)
    total.backward()
    assert close(golden, total.item(), golden[f"train.{pattern}.loss"], relative=LOSS)
    assert close(
        golden, (parts["reconstruction"] + parts["kl"]).item(), golden[f"train.{pattern}.recon_kl"], relative=LOSS
    )
    assert close(golden, parts["mse"].item(), golden[f"train.{pattern}.mse"], relative=LOSS)

    parameters = dict(model.named_parameters())
    norm = torch.stack([p.grad.norm() for p in parameters.values() if p.grad is not None]).norm().item()
    assert close(golden, norm, golden[f"train.{pattern}.grad_norm_total"], relative=GRADIENT)
    prefix = f"train.{pattern}.grad_norm."
    checked = [name for name in golden if name.startswith(prefix)]
    assert checked
    for name in checked:
        gradient = parameters[our_name(name.removeprefix(prefix))].grad
        assert close(golden, gradient.norm().item(), golden[name], relative=GRADIENT), name

    optimizer.step()
    after = f"after_step.{pattern}.eval_single.vaf"
    if after in golden:
        # One Adam step moves every weight by the learning rate in the direction of its gradient's sign, so weights
        # whose gradient is rounding noise may differ; the scores hold all the same.
        assert close(golden, one_by_one(model.eval(), golden, "vaf"), golden[after], absolute=5 * SCORE)


@pytest.mark.parametrize("pattern", ["va", "v"])
def test_training_scores_are_those_of_batch_statistics(golden, pattern):
    model = published(golden).train()
    rows = len(golden["input.score"])
    everything = torch.ones(rows, 3, dtype=torch.bool)
    encoded = model.enhance(inputs(golden), everything, None)
    streams = model.complete(encoded, visible(pattern, rows), None)
    scores, _ = model.grades(model.join(model.mix(streams, None), None))
    assert close(golden, scores.detach(), golden[f"train.{pattern}.score"], absolute=SCORE)


def test_sizes_are_inferred(golden):
    config = json.loads(str(golden["config"]))
    model = published(golden)
    assert model.widths == {m: config[f"{m}_dim"] for m in ("visual", "audio", "flow")}
    assert model.grades.prototypes.shape == (config["n_query"], config["hidden_dim"])
    assert len(model.encoder.layers) == config["n_encoder"]
    assert len(model.grades.decoder.layers) == config["n_decoder"]


def test_by_query_a_published_model_scores_alike_in_any_batch(golden):
    model = published(golden, prototype_position="query")
    with torch.no_grad():
        batch = model.score(inputs(golden), visible("va", len(golden["input.score"])))
    assert close(golden, batch, one_by_one(model, golden, "va"), absolute=SCORE)


def test_files_and_mappings_are_read_alike(golden, tmp_path):
    state = {
        name.removeprefix("state."): torch.from_numpy(v) for name, v in golden.items() if name.startswith("state.")
    }
    torch.save(state, tmp_path / "best.pkl")
    expected = one_by_one(published(golden), golden, "vf")
    for checkpoint in (
        tmp_path / "best.pkl",
        str(tmp_path / "best.pkl"),
        state,
        {f"module.{k}": v for k, v in state.items()},
    ):
        model = load_published_mcmoe(checkpoint, n_head=2)
        assert torch.equal(one_by_one(model, golden, "vf"), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("state.router_mix.fc1.weight"),
            "is not a whole MCMoE checkpoint: it lacks 'router_mix.fc1.weight'",
        ),
        (lambda s: s.pop("state.prototype.weight"), "is not a whole MCMoE checkpoint: it lacks 'prototype.weight'"),
        (
            lambda s: s.update({"state.head.weight": np.zeros(3)}),
            "'head.weight' is not a parameter of the published MCMoE",
        ),
        (lambda s: s.update({"state.regressor.weight": np.zeros((3, 3))}), r"'regressor.weight' has shape \(3, 3\)"),
    ],
)
def test_what_is_not_a_published_checkpoint_is_refused(golden, change, message):
    spoiled = dict(golden)
    change(spoiled)
    with pytest.raises(AqaError, match=message):
        load_published_mcmoe(spoiled)
