"""Tiny causal language models with random weights, and their tokenizers, as transformers saves them."""

import functools
import importlib.util
import tempfile

import pytest
import torch

from aqa.models import MODELS

LACKING = [name for name in ("transformers", "peft") if importlib.util.find_spec(name) is None]
NEEDS_LLM = pytest.mark.skipif(bool(LACKING), reason=f"the extra llm is not installed: no {' and '.join(LACKING)}")
#: The names of all models, as parameters of a test; a model is skipped where the packages that it needs are not there.
ALL_MODELS = [pytest.param(name, marks=NEEDS_LLM if name == "limssr" else ()) for name in MODELS.names()]
#: Words of prompts; all other words, names of modalities among them, are one token, the unknown one.
WORDS = ["A", "performance", "was", "recorded", "what", "is", "missing", "none;", "none.", "score:"]


def tokenizer_of(words=WORDS, unknown="<unk>"):
    """A tokenizer that takes each word between spaces for a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([unknown, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)


def config_of(kind, **changes):
    """A small configuration of a family of language models."""
    import transformers

    sizes = {"vocab_size": len(WORDS) + 1, "bos_token_id": None, "eos_token_id": None}
    if kind == "gpt2":
        return transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=256, **{**sizes, **changes})
    own = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    configs = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "opt": transformers.OPTConfig}
    return configs[kind](**{**sizes, **own, "num_key_value_heads": 1, **changes})


def save_tiny_llm(folder, kind="llama", seed=0, words=WORDS, **changes):
    """A randomly initialised language model in a folder, whose path is returned as text."""
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config_of(kind, **changes))
        for parameter in model.parameters():  # so that states differ from place to place as trained ones do
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer_of(words).save_pretrained(folder)
    return str(folder)


@functools.cache
def tiny_llm():
    """A folder with a tiny language model that lasts as long as the process; for tests that only read it."""
    folder = tempfile.TemporaryDirectory(prefix="tiny_llm")
    save_tiny_llm(folder.name)
    return folder


def without_default(name):
    """The options that a model cannot be built without."""
    return {"llm": tiny_llm().name} if name == "limssr" else {}
