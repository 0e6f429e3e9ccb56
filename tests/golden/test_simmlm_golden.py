"""SimMLM against numbers of the authors' code: gate, mixture, the MoFe loss and its gradients, pairs drawn."""

import pytest
import torch

from aqa.models.simmlm import drawn_pair, mixture, pair_weights, paired_loss, shares
from tests.golden.vectors import compare, load, losses, tensor, values

VECTORS = load("simmlm")
DRAWS = 200_000


@pytest.mark.parametrize("classes", [1, 3])
def test_the_gate_weighs_what_is_there_and_the_answers_are_mixed(classes):
    """A class at a time: a score is one number."""
    prefix = f"gate.C{classes}"
    visible = tensor(VECTORS[f"{prefix}.visible"])
    for c in range(classes):
        logits, answers = (tensor(VECTORS[f"{prefix}.{kind}_logits"][:, :, c]) for kind in ("gate", "expert"))
        weights = shares(logits, visible)
        assert values("simmlm", weights, VECTORS[f"{prefix}.weights"][:, :, c])
        mixed = mixture(answers.masked_fill(~visible, 0.0), weights)
        assert values("simmlm", mixed, tensor(VECTORS[f"{prefix}.mixed"][:, c]).sigmoid())


@pytest.mark.parametrize("case", ["random", "more_is_better"])
def test_the_loss_of_pairs_and_its_gradients(case):
    more, fewer = (tensor(VECTORS[f"mofe.{case}.loss_{side}"]).requires_grad_() for side in ("more", "fewer"))
    total, parts = paired_loss(more, fewer, 0.1)
    total.backward()
    assert losses("simmlm", total, VECTORS[f"mofe.{case}.total"])
    assert values("simmlm", parts["mofe"], VECTORS[f"mofe.{case}.ranking"])
    for side, taught in (("more", more), ("fewer", fewer)):
        assert compare("simmlm", "gradients", taught.grad, VECTORS[f"mofe.{case}.grad_{side}"], 1e-4, relative=True)


def test_pairs_are_drawn_as_often_as_published():
    """Within three standard errors of the published draws and ours."""
    torch.manual_seed(0)
    pairs = drawn_pair(torch.ones(DRAWS, 3, dtype=torch.bool), pair_weights(3))
    for side, drawn in zip(("more", "fewer"), pairs, strict=True):
        number = (drawn.long() * torch.tensor([1, 2, 4])).sum(dim=1)
        share = number.bincount(minlength=8) / DRAWS
        assert torch.allclose(share.double(), tensor(VECTORS[f"pairs.share_as_{side}"]), atol=0.0045)
