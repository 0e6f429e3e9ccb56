"""DI-MML against numbers of the authors' code: contrast, ranking, weights of heads, the first stage's loss."""

import json

import pytest
import torch

from aqa.models import build
from aqa.models.dimml import certainty_weights, effective_dimensions, one_way_contrast, separability
from tests.golden.vectors import GRADIENT, compare, load, losses, state, tensor, values

VECTORS = load("dimml")
CONFIG = json.loads(str(VECTORS["config"]))
STREAMS = ("a", "v")
EVERY = torch.ones(8, 2, dtype=torch.bool)


def only(stream, width=24):
    """The dimensions that are effective in one stream alone, as a mask."""
    chosen = torch.zeros(width, dtype=torch.bool)
    chosen[tensor(VECTORS[f"duc.{stream}_only"])] = True
    return chosen


def gradients(feature, key):
    """Whether the gradient in a feature is the file's, and as long."""
    near = values("dimml", feature.grad, VECTORS[key])
    norms = feature.grad.norm(), tensor(VECTORS[key]).norm()
    return near and compare("dimml", "gradients", *norms, GRADIENT, relative=True)


@pytest.mark.parametrize("temperature", [1, 10, 50])
def test_the_contrast_and_its_gradients(temperature):
    a, v = (tensor(VECTORS[f"duc.{stream}"]).requires_grad_() for stream in STREAMS)
    loss = one_way_contrast(v, a, only("a"), temperature) + one_way_contrast(a, v, only("v"), temperature)
    loss.backward()
    prefix = f"duc.T{temperature}"
    assert losses("dimml", loss, VECTORS[f"{prefix}.loss"])
    assert gradients(a, f"{prefix}.grad_a")
    assert gradients(v, f"{prefix}.grad_v")


def test_the_dimensions_that_are_effective_in_one_stream_alone():
    label = tensor(VECTORS["rank.label"])
    found = [separability(tensor(VECTORS[f"rank.{stream}"]), label, CONFIG["classes"]) for stream in STREAMS]
    a, v = effective_dimensions(torch.stack(found))
    assert (a & ~v).nonzero().flatten().tolist() == VECTORS["rank.a_only"].tolist()
    assert (v & ~a).nonzero().flatten().tolist() == VECTORS["rank.v_only"].tolist()


class Given(torch.nn.Module):
    """An encoder that gives what it is given, a feature in the place of a clip."""

    def forward(self, stream, clips):
        return stream[:, 0]


def published(width, classes, heads, **options):
    """A model of two streams with the heads of a file, and encoders that pass features on."""
    model = build("dimml", widths=dict.fromkeys(STREAMS, width), hidden_dim=width, n_query=classes, **options)
    for name in STREAMS:
        model.encoders[name] = Given()
        model.own_heads[name].load_state_dict(heads(f"head_{name}."))
    return model


def features(prefix):
    return {name: tensor(VECTORS[f"{prefix}.{name}"]).unsqueeze(1).requires_grad_() for name in STREAMS}


@pytest.mark.parametrize("temperature", [1, 3])
def test_the_weights_of_heads_and_what_they_say_together(temperature):
    model = published(10, 6, lambda head: state(VECTORS, f"fuse.{head}"), certainty_temperature=temperature).eval()
    joined = state(VECTORS, "fuse.head_joint.")
    with torch.no_grad():
        # Ours also sees which streams are there: of complete videos, a constant.
        model.joined_head.weight.copy_(torch.cat([joined["weight"], torch.zeros(6, 2)], dim=1))
        model.joined_head.bias.copy_(joined["bias"])
        given, every = features("fuse"), torch.ones(7, 2, dtype=torch.bool)
        logits, weights = model.weighed(model.extract(given, every, None), every)
        score = model.score(given, every)
    prefix = f"fuse.T{temperature}"
    theirs = [VECTORS[f"fuse.logits_{head}"] for head in (*STREAMS, "joint")]
    for i, expected in enumerate(theirs):
        assert values("dimml", logits[:, i], expected)
    assert values("dimml", weights, VECTORS[f"{prefix}.weights"])
    mixed = (logits * weights.unsqueeze(-1)).sum(dim=1)
    assert values("dimml", mixed, VECTORS[f"{prefix}.logits"])
    assert values("dimml", score, tensor(VECTORS[f"{prefix}.probability"]) @ torch.linspace(0, 1, 6))
    stacked = torch.stack([tensor(x) for x in theirs], dim=1)
    alone = certainty_weights(stacked, torch.ones(7, 3, dtype=torch.bool), temperature)
    assert values("dimml", alone, VECTORS[f"{prefix}.weights"])


@pytest.mark.parametrize("epoch", [19, 20])
def test_the_whole_loss_of_the_first_stage_and_its_gradients(epoch):
    """Epochs count from 0 there; a class is taught as a target on its level is here."""
    temperature = CONFIG["stage1_temperature"]
    model = published(24, 6, lambda head: state(VECTORS, f"stage1.{head}"), contrast_temperature=temperature)
    model.shared_head.load_state_dict(state(VECTORS, "stage1.shared."))
    model.effective.copy_(torch.stack([only("a"), only("v")]))
    model.start_epoch(epoch + 1)
    given = features("duc")
    target = tensor(VECTORS["stage1.label"]).float() / 5
    loss = model.train().loss(given, target, EVERY, EVERY)
    loss.total.backward()
    prefix = f"stage1.epoch{epoch}"
    assert losses("dimml", loss.total, VECTORS[f"{prefix}.loss"])
    for name in STREAMS:
        assert losses("dimml", loss.parts[f"own_{name}"], VECTORS[f"{prefix}.loss_{name}"])
        given[name].grad.squeeze_(1)
        assert gradients(given[name], f"{prefix}.grad_{name}")
    assert values("dimml", loss.parts["contrast"], VECTORS[f"{prefix}.contrast"])
