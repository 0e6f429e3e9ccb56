"""Where a model is another one than its authors' on purpose: what this does to numbers, on the same random weights.

The models' docstrings say why. Each test fails where ours is no longer different, or where published behaviour, which
every one of them can be asked for, is no longer at hand.
"""

import torch

from aqa.models.dimml import certainty_weights
from tests.golden import test_actionmae_golden as actionmae
from tests.golden import test_dimml_golden as dimml
from tests.golden import test_mcmoe_golden as mcmoe
from tests.golden import test_pamfn_golden as pamfn
from tests.golden.vectors import deliberate, load, tensor


def test_a_score_of_mcmoe_does_not_depend_on_its_batch():
    for name in ("mcmoe_tiny", "mcmoe_tiny_deep"):
        golden = load(name)
        model = mcmoe.published(golden, prototype_position="query")
        rows = len(golden["input.score"])
        with torch.no_grad():
            ours = model.score(mcmoe.inputs(golden), mcmoe.visible("vaf", rows))
        what = "score, positions by query where they are by row of the batch (prototype_position)"
        assert deliberate("mcmoe", what, ours, golden["eval_batch.vaf"]) > 1e-3


def test_a_score_of_pamfn_does_not_change_from_call_to_call():
    model = pamfn.published()
    with torch.no_grad():
        ours = model.score(pamfn.features(), pamfn.ALL)
    what = "score, the likeliest policy where it is drawn in evaluation too"
    assert deliberate("pamfn", what, ours, pamfn.VECTORS["eval_drawn.score"]) > 1e-4


def test_actionmae_fuses_real_tokens():
    grades = torch.linspace(0, 1, 5)
    for subset in actionmae.SUBSETS:
        with torch.no_grad():
            ours = actionmae.published().score(actionmae.features(), actionmae.kept(subset))
        theirs = tensor(actionmae.VECTORS[f"keep.{subset}.published_logits.transformer"]).softmax(dim=1) @ grades
        what = "score, real tokens fused (Figure 3) where the code fuses the decoder's output for all"
        assert deliberate("actionmae", what, ours, theirs) > 1e-3


def test_heads_of_dimml_may_be_weighed_by_their_spread():
    logits = [tensor(dimml.VECTORS[f"fuse.logits_{head}"]) for head in ("a", "v", "joint")]
    weights = certainty_weights(torch.stack(logits, dim=1), torch.ones(7, 3, dtype=torch.bool), 1.0, "spread")
    what = "weights of heads, by inverse spread (certainty: spread, not the default)"
    assert deliberate("dimml", what, weights, dimml.VECTORS["fuse.T1.weights"]) > 0.1
