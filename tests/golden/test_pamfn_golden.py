"""PAMFN against numbers of the authors' code: branches, every level of the mixed branch, both stages, odd clips."""

import json

import pytest
import torch
import torch.nn.functional as F

from aqa import load_published
from aqa.models.pamfn import AdaptiveFusion
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from tests.golden.vectors import gradients, load, losses, named_gradients, tensor, values

VECTORS = load("pamfn_feats1")
CONFIG = json.loads(str(VECTORS["config"]))
STREAMS = {"V": "visual", "F": "flow", "A": "audio"}
THEIRS = Names(METHODS["pamfn"].names(METHODS["pamfn"].streams)).theirs
ALL, CLIPS = torch.ones(5, 3, dtype=torch.bool), torch.ones(5, 16, dtype=torch.bool)
TARGET = tensor(VECTORS["input.score"])
GRADIENT = 1e-3  # batch norm on few values


def published(**options):
    heads = {"specific_heads": CONFIG["ms_heads"], "cross_heads": CONFIG["cm_heads"]}
    return load_published("pamfn", VECTORS, **heads, dropout=0.0, **options)


def features(prefix="input"):
    return {name: tensor(VECTORS[f"{prefix}.{letter}"]) for letter, name in STREAMS.items()}


def drawn(monkeypatch):
    """Let PolicyNet draw with the file's noise, whatever the mode."""
    noise = {x.shape[2]: x.transpose(1, 2) for x in (tensor(VECTORS[f"gumbel.level{i}"]) for i in (1, 2, 3))}
    monkeypatch.setattr(AdaptiveFusion, "noise", lambda self, logits: noise[logits.shape[1]])


def check_levels(model, key, prefix="input"):
    """The mixed branch level by level, and its score."""
    given = features(prefix)
    rows, steps = given["visual"].shape[:2]
    seen, clips = ALL[:rows], torch.ones(rows, steps, dtype=torch.bool)
    shown = model.shown(model.branch_out(given, seen, clips)[0], seen)
    joined, found = model.mixed.levels(shown, clips, seen)
    for level, (after, (start, fused)) in enumerate(zip(joined, found, strict=True), start=1):
        assert values("pamfn", start, VECTORS[f"{key}.level{level}.start"])
        assert values("pamfn", after, VECTORS[f"{key}.level{level}.joined"])
        choice = fused.policy.detach().round().sum(dim=-1).long() - 1
        assert torch.equal(choice, tensor(VECTORS[f"{key}.level{level}.choice"]).long())


@pytest.mark.parametrize("letter", STREAMS)
def test_branches(letter):
    model, name = published(), STREAMS[letter]
    with torch.no_grad():
        levels, score = model.branches[name](features()[name], CLIPS)
    assert values("pamfn", score, VECTORS[f"branch.{letter}.score"])
    for level, found in enumerate(levels):
        expected = VECTORS[f"branch.{letter}.level{level}"]
        assert values("pamfn", found.reshape(expected.shape), expected)


def test_the_mixed_branch_with_the_likeliest_policy():
    model = published()
    with torch.no_grad():
        check_levels(model, "eval_likeliest")
        assert values("pamfn", model.score(features(), ALL), VECTORS["eval_likeliest.score"])


def test_the_mixed_branch_with_drawn_policies(monkeypatch):
    drawn(monkeypatch)
    model = published()
    with torch.no_grad():
        check_levels(model, "eval_drawn")
        assert values("pamfn", model.score(features(), ALL), VECTORS["eval_drawn.score"])


def test_an_odd_clip_is_dropped():
    model = published()
    with torch.no_grad():
        check_levels(model, "eval_odd", "input_odd")
        assert values("pamfn", model.score(features("input_odd"), ALL[:2]), VECTORS["eval_odd.score"])


def test_the_first_stage_of_a_branch():
    model = published().train()
    _, score = model.branches["visual"](features()["visual"], CLIPS)
    loss = F.mse_loss(score, TARGET)
    loss.backward()
    assert values("pamfn", score, VECTORS["train_branch_V.score"])
    assert losses("pamfn", loss, VECTORS["train_branch_V.loss"])
    found = {name.removeprefix("model_r."): x for name, x in named_gradients(model, THEIRS).items()}
    expected = {key.replace("grad_norm.model_r.", "grad_norm."): x for key, x in VECTORS.items()}
    assert gradients("pamfn", found, expected, "train_branch_V.", GRADIENT) == []


@pytest.mark.parametrize("mode", ["train_mixed", "train_mixed_branches_eval"])
def test_the_second_stage(monkeypatch, mode):
    """Gradients reach the mixed branch and the audio branch, and stop before the other two."""
    drawn(monkeypatch)
    model = published(branch_epochs=1)
    model.start_epoch(2)
    model.train()
    if mode == "train_mixed_branches_eval":
        model.branches.eval()
    total, parts = model.loss(features(), TARGET, ALL, ALL)
    total.backward()
    assert losses("pamfn", total, VECTORS[f"{mode}.loss"])
    assert parts["branch_mse"] == 0
    # The first level's convolutions see zeros: what reaches their biases through batch norm is rounding.
    found = named_gradients(model, THEIRS)
    assert gradients("pamfn", found, VECTORS, f"{mode}.", GRADIENT, rounding=2e-4) == []
    for name in ("visual", "flow"):
        assert all(p.grad is None for p in model.branches[name].parameters())
    assert any(p.grad is not None for p in model.branches["audio"].parameters())


def test_scores_in_the_second_stage_are_those_of_batch_statistics(monkeypatch):
    drawn(monkeypatch)
    model = published(branch_epochs=1)
    model.start_epoch(2)
    model.train()
    assert values("pamfn", model.score(features(), ALL), VECTORS["train_mixed.score"])
