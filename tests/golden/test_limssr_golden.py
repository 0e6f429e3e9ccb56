"""LIMSSR against numbers of the authors' code, with a small random Qwen2: scores of both paths, loss and gradients."""

import itertools
import json

import numpy as np
import pytest
import torch

from aqa import AqaError, load_published
from aqa.models.limssr import LIMSSR, special_tokens
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from tests.golden.vectors import gradients, load, losses, named_gradients, state, tensor, values
from tests.models.tiny_llm import NEEDS_LLM, config_of, tokenizer_of

VECTORS = load("limssr_tiny")
CONFIG = json.loads(str(VECTORS["config"]))
SETS = ("vaf", "va", "vf", "af", "v", "a", "f")
NAMES = {"v": "visual", "a": "audio", "f": "flow"}
PROMPTS = {tuple(m in name for m in NAMES): VECTORS[f"prompt_ids.{name}"].tolist() for name in SETS}
LLM = "state.language_model.base_model.model."
pytestmark = NEEDS_LLM


def base_weights():
    """The language model's own weights by transformers' names, as before peft put its adapters in."""
    named = {key.removeprefix(LLM).replace(".base_layer", ""): x for key, x in VECTORS.items() if key.startswith(LLM)}
    return {name: tensor(x) for name, x in named.items() if ".lora_" not in name}


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """The folder of the language model, and of a tokenizer with as many words as come before the special tokens."""
    import transformers

    folder = tmp_path_factory.mktemp("qwen2")
    sizes = {
        "vocab_size": CONFIG["vocabulary"],
        "hidden_size": CONFIG["hidden"],
        "intermediate_size": CONFIG["intermediate"],
        "num_hidden_layers": CONFIG["layers"],
        "num_attention_heads": CONFIG["heads"],
        "num_key_value_heads": CONFIG["kv_heads"],
        "rope_theta": CONFIG["rope_theta"],
        "rms_norm_eps": CONFIG["rms_norm_eps"],
        "tie_word_embeddings": False,
    }
    model = transformers.Qwen2ForCausalLM(config_of("qwen2", **sizes))
    model.load_state_dict(base_weights())
    model.save_pretrained(folder)
    words = [f"word{i}" for i in range(2, int(VECTORS["token.video_start"]))]
    tokenizer_of(["<|endoftext|>", *words]).save_pretrained(folder)  # which Qwen2's tokenizers always have
    return str(folder)


@pytest.fixture
def published(llm, monkeypatch):
    """The authors' model, whose prompts have the tokens that theirs had."""
    monkeypatch.setattr(LIMSSR, "tokens", lambda self, tokenizer, prompt, seen: PROMPTS[seen])
    return load_published("limssr", VECTORS, llm=llm, dropout=0.0, lora_dropout=0.0, lora_alpha=CONFIG["lora_alpha"])


def inputs(name):
    features = {m: tensor(VECTORS[f"input.{m}"]) for m in NAMES.values()}
    return features, torch.tensor([[m in name for m in NAMES]] * len(VECTORS["input.score"]))


def test_special_tokens_are_numbered_as_published():
    made = special_tokens(3, CONFIG["fusion_tokens"], first=int(VECTORS["token.video_start"]))
    streams = ("video", "audio", "flow")
    assert made.start == [int(VECTORS[f"token.{s}_start"]) for s in streams]
    assert made.end == [int(VECTORS[f"token.{s}_end"]) for s in streams]
    assert made.missing == [int(VECTORS[f"token.missing_{s}"]) for s in streams]
    assert made.fusion == [int(VECTORS[f"token.feat_dim_{i}"]) for i in range(1, 5)]


@pytest.mark.parametrize("name", SETS)
def test_scores_of_every_set_and_what_leads_to_them(published, name):
    features, visible = inputs(name)
    with torch.no_grad():
        said, score = published.read(features, visible), published.score(features, visible)
    assert values("limssr", said.main, VECTORS[f"eval.{name}.output_main"])
    assert values("limssr", said.auxiliary, VECTORS[f"eval.{name}.output_aux"])
    assert values("limssr", said.fused, VECTORS[f"eval.{name}.embed"])
    assert values("limssr", score, VECTORS[f"eval.{name}.output"])


@pytest.mark.parametrize("name", SETS)
def test_loss_and_gradients(published, name):
    features, visible = inputs(name)
    target, model = tensor(VECTORS["input.score"]), published.train()
    statistics = {key: buffer.clone() for key, buffer in model.named_buffers()}
    with torch.no_grad():
        assert values("limssr", model.mixed(model.read(features, visible)), VECTORS[f"train.{name}.output"])
    for key, buffer in model.named_buffers():  # as they were before that pass in training mode
        buffer.copy_(statistics[key])
    total = model.loss(features, target, visible, visible).total
    total.backward()
    assert losses("limssr", total, VECTORS[f"train.{name}.loss"])
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in found]).norm()
    assert float(norm) == pytest.approx(float(VECTORS[f"train.{name}.grad_norm_total"]), rel=1e-4)
    if name in ("vaf", "va", "f"):  # the others have the norm of all alone
        ours = named_gradients(model, Names(METHODS["limssr"].names(NAMES)).theirs)
        assert gradients("limssr", ours, VECTORS, f"train.{name}.") == []


def test_what_learns_is_what_learns_there(published):
    theirs = Names(METHODS["limssr"].names(NAMES)).theirs
    head = "language_model.base_model.model.lm_head.weight"  # which no gradient reaches
    learning = {theirs(name) for name, _ in published.named_parameters()}
    assert learning == set(json.loads(str(VECTORS["trainable"]))) - {head}


def test_rows_of_different_sets_are_scored_as_each_alone(published):
    features, _ = inputs("vaf")
    for sets in itertools.islice(itertools.product(PROMPTS, repeat=4), 0, None, 800):
        with torch.no_grad():
            together = published.score(features, torch.tensor(sets))
        for row, seen in enumerate(sets):
            alone = VECTORS[f"eval.{''.join(m for m, s in zip(NAMES, seen, strict=True) if s)}.output"][row]
            assert np.isclose(together[row], alone, atol=1e-5)


def test_a_checkpoint_of_another_language_model_is_refused(llm, monkeypatch):
    monkeypatch.setattr(LIMSSR, "tokens", lambda self, tokenizer, prompt, seen: PROMPTS[seen])
    other = {**state(VECTORS), "language_model.base_model.model.model.norm.weight": torch.ones(CONFIG["hidden"])}
    with pytest.raises(AqaError, match=r"^checkpoint is not a whole LIMSSR checkpoint: its 'norm.weight' is not that"):
        load_published("limssr", other, llm=llm)
    lacking = {name: x for name, x in state(VECTORS).items() if "embed_tokens" not in name}
    with pytest.raises(AqaError, match=r"it lacks 'language_model.base_model.model.model.embed_tokens.weight'"):
        load_published("limssr", lacking, llm=llm)
    with pytest.raises(AqaError, match="option 'llm': it is missing"):
        load_published("limssr", VECTORS)
