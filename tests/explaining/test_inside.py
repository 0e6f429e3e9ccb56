"""Attention, routers and gates as the model has them."""

import pytest
import torch

from aqa.explaining.inside import curves, weights
from aqa.models.seeds import SeedEnsemble
from tests.models.test_contract import CLIPS, SUBSETS, WIDTHS, inputs, lengths, small


def first(tensors):
    return {m: x[:1] for m, x in tensors.items()}


def curves_of(model):
    return curves(model, first(inputs(7)), SUBSETS[:1], first(lengths(7)))


def test_attention_of_grade_decoders_and_routers_sum_to_one():
    found = curves_of(small("mcmoe"))
    assert [(c.kind, c.of) for c in found if c.kind == "attention"] == [("attention", "all")]
    (attention,) = (c for c in found if c.kind == "attention")
    assert attention.weights.shape == (CLIPS,)
    assert attention.weights.sum() == pytest.approx(1, abs=1e-5)
    routed = {c.to: c.weights for c in found if c.kind == "router" and c.of == "audio"}
    assert list(routed) == list(WIDTHS)
    assert sum(routed.values()) == pytest.approx(1, abs=1e-5)


def test_each_streams_own_decoder_is_named():
    assert [c.of for c in curves_of(small("late_fusion"))] == list(WIDTHS)
    assert curves_of(small("ridge")) == []


def test_of_several_seeds_the_mean():
    one, other = small("grade_decoder"), small("grade_decoder", n_query=3)
    (mean,) = curves_of(SeedEnsemble([one, other]))
    (a,), (b,) = curves_of(one), curves_of(other)
    assert mean.weights == pytest.approx((a.weights + b.weights) / 2)


def test_the_attention_is_what_the_decoder_computes_with():
    model = small("grade_decoder")
    attention = model.network.grades.decoder.layers[-1].multihead_attn
    queries, context = torch.randn(2, 4, attention.embed_dim), torch.randn(2, 5, attention.embed_dim)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    with torch.no_grad():
        found = attention.attention(queries, context, padding)
        mean = torch.nn.MultiheadAttention.forward(
            attention, queries, context, context, key_padding_mask=padding, average_attn_weights=False
        )[1]
    torch.testing.assert_close(found, mean)


def test_routers_and_gates_by_name():
    found = weights(small("mcmoe"), inputs(7), SUBSETS, lengths(7))
    assert len(found) == 7
    assert {(w.name, w.of) for w in found[0]} == {("router_weights", m) for m in WIDTHS}
    gates = weights(small("mome"), inputs(7), SUBSETS, lengths(7))
    assert sum(w.value for w in gates[0] if w.name == "gate_weights") == pytest.approx(1, abs=1e-5)
    hidden = {m for m, seen in zip(WIDTHS, SUBSETS[3].tolist(), strict=True) if not seen}
    assert not hidden & {w.to for w in gates[3] if w.name == "expert_scores"}
    assert weights(small("ridge"), inputs(7), SUBSETS, lengths(7)) == [[]] * 7


def test_levels_and_members_are_numbered_even_where_they_are_as_many_as_streams():
    found = weights(small("ensemble"), inputs(7), SUBSETS, lengths(7))
    assert [(w.name, w.to) for w in found[0]] == [("members", str(i)) for i in range(3)]
    policy = [w for w in weights(small("pamfn"), inputs(7), SUBSETS, lengths(7))[0] if w.name == "policy"]
    assert {w.of for w in policy} == {"0", "1", "2"}
