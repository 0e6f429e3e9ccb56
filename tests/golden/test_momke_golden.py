"""MoMKE against numbers of the authors' code: an output a clip, routers, losses and gradients of both stages."""

import json

import pytest
import torch

from aqa import load_published
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from tests.golden.vectors import gradients, load, losses, named_gradients, tensor, values

VECTORS = load("momke")
CONFIG = json.loads(str(VECTORS["config"]))
STREAMS = METHODS["momke"].streams
REAL = tensor(VECTORS["input.umask"]).bool()
LENGTHS = {name: REAL.sum(dim=1) for name in STREAMS.values()}
LABEL = tensor(VECTORS["input.label"])
ALL = torch.ones(5, 3, dtype=torch.bool)
SETS = ("atv", "at", "av", "tv", "a", "t", "v", "mixed")


def published():
    return load_published("momke", VECTORS, n_head=CONFIG["num_heads"], dropout=0.0)


def features():
    return {name: tensor(VECTORS[f"input.{initial}"]) for initial, name in STREAMS.items()}


def visible(name):
    return tensor(VECTORS[f"visible.{name}"]).bool()


def seen_clips(model, seen):
    return model.real_clips(features(), LENGTHS, seen)


def masked_error(out):
    """The published loss: squared errors of real clips, their mean."""
    return (out - LABEL).square()[REAL].mean()


def own_outputs(model):
    heard = model.listen(features(), ALL, seen_clips(model, ALL))
    heads = zip(model.own_scores.weight, model.own_scores.bias, strict=True)
    return {m: said @ weight + bias for (m, said), (weight, bias) in zip(heard.items(), heads, strict=True)}


def test_each_expert_on_its_own_stream():
    with torch.no_grad():
        for (initial, name), out in zip(STREAMS.items(), own_outputs(published()).values(), strict=True):
            assert values("momke", out[REAL], VECTORS[f"stage1.eval.out.{initial}"][REAL]), name
            assert losses("momke", masked_error(out), VECTORS[f"stage1.loss.{initial}"]), name


def test_gradients_of_the_first_stage():
    model = published()
    sum(masked_error(out) for out in own_outputs(model).values()).backward()
    assert gradients("momke", with_own_heads(model), VECTORS, "stage1.") == []


def with_own_heads(model):
    """Gradients by published names; the modalities' own heads are rows of one layer here."""
    found = named_gradients(model, Names(METHODS["momke"].names(STREAMS)).theirs)
    for part in ("weight", "bias"):
        joined = getattr(model.own_scores, part).grad
        found |= {f"nlp_head_{initial}.{part}": joined[i] for i, initial in enumerate(STREAMS) if joined is not None}
    return found


@pytest.mark.parametrize("name", SETS)
def test_outputs_of_every_set_and_what_leads_to_them(name):
    model, seen = published(), visible(name)
    with torch.no_grad():
        mixed = model.mix(features(), seen, seen_clips(model, seen))
        hidden = model.together(model.mixtures(mixed, seen))
        out = model.joint_score(hidden).squeeze(-1)
        score = model.score(features(), seen, LENGTHS)
    assert values("momke", hidden[REAL], VECTORS[f"stage2.eval.{name}.hidden"][REAL])
    assert values("momke", out[REAL], VECTORS[f"stage2.eval.{name}.out"][REAL])
    mean = (VECTORS[f"stage2.eval.{name}.out"] * VECTORS["input.umask"]).sum(1) / VECTORS["input.umask"].sum(1)
    assert values("momke", score, tensor(mean).sigmoid())
    routers = tensor(VECTORS[f"stage2.eval.{name}.router"])
    for i, m in enumerate(STREAMS.values()):
        if m in mixed:
            rows = seen[:, i]
            assert values("momke", mixed[m].weights[REAL[rows]], routers[rows][:, :, i][REAL[rows]])


@pytest.mark.parametrize("name", SETS)
def test_loss_and_gradients_of_the_second_stage(name):
    model, seen = published().train(), visible(name)
    mixed = model.mix(features(), seen, seen_clips(model, seen))
    out = model.joint_score(model.together(model.mixtures(mixed, seen))).squeeze(-1)
    loss = masked_error(out)
    loss.backward()
    assert losses("momke", loss, VECTORS[f"stage2.loss.{name}"])
    assert gradients("momke", with_own_heads(model), VECTORS, f"stage2.{name}.") == []
