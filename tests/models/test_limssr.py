"""LIMSSR: what the language model reads, what learns, what a checkpoint holds, and what is refused."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.models.language_model import embeddings_of
from aqa.runs.folder import RunFolder
from aqa.runs.run import run
from aqa.store.synthetic import make_synthetic
from tests.models.tiny_llm import NEEDS_LLM, save_tiny_llm, tiny_llm

pytestmark = NEEDS_LLM
WIDTHS = {"visual": 5, "audio": 3, "flow": 4}
ATTENTION = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "opt": ["q_proj", "k_proj", "v_proj", "out_proj"],
    "gpt2": ["c_attn"],
}
PROMPT = "A performance was recorded {visible} what is missing {missing} score:"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny language model of each family, by its name."""
    return {kind: save_tiny_llm(tmp_path_factory.mktemp(kind), kind) for kind in ATTENTION}


def model(folder=None, **options):
    torch.manual_seed(0)
    return build("limssr", widths=WIDTHS, llm=folder or tiny_llm().name, **{"prompt": PROMPT, **options}).eval()


def features(rows=4, clips=6):
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(rows, clips, width, generator=generator) for m, width in WIDTHS.items()}


def seen(*rows):
    return torch.tensor([[m[0] in row for m in WIDTHS] for row in rows])


def sequences(made, given, visible, lengths=None):
    """What the language model is given, a pair of embeddings and places read for each visible set in turn."""
    found = []
    handle = made.language_model.register_forward_pre_hook(lambda module, inputs: found.append(inputs))
    with torch.no_grad():
        made.score(given, visible, lengths)
    handle.remove()
    return found


def test_the_prompt_names_the_visible_streams_and_the_missing_ones():
    asked = []
    made = model()
    made.tokens(lambda text: asked.append(text) or {"input_ids": [0]}, PROMPT, (True, False, True))
    made.tokens(lambda text: asked.append(text) or {"input_ids": [0]}, PROMPT, (True, True, True))
    assert asked == [
        "A performance was recorded visual, flow what is missing audio score:",
        "A performance was recorded visual, audio, flow what is missing none score:",
    ]


def test_the_sequence_is_prompt_visible_streams_missing_tokens_and_fusion_tokens():
    made, given = model(n_fusion=2), features(rows=2)
    ((sequence, places),) = sequences(made, given, seen("af", "af"))
    assert places is None
    with torch.no_grad():
        streams = made.embed(given, seen("af", "af"), None)
    (prompt, start, end), (sets, special) = (
        (made.embeddings.detach()[i] for i in range(3)),
        (made.prompts, made.special),
    )
    assert not (streams["visual"]).any()
    assert not torch.equal(start, end)
    assert len(prompt)
    row, place = sequence[1], 0

    def taken(count):
        nonlocal place
        place += count
        return row[place - count : place]

    def embedding(*tokens):
        return made.embeddings.detach()[list(tokens)]

    prompted = sets[(False, True, True)]
    assert torch.equal(taken(len(prompted)), embedding(*prompted))
    for i, name in ((1, "audio"), (2, "flow")):
        assert torch.equal(taken(1), embedding(special.start[i]))
        assert torch.equal(taken(6), streams[name][1])
        assert torch.equal(taken(1), embedding(special.end[i]))
    assert torch.equal(taken(8), embedding(special.start[0], *[special.missing[0]] * 6, special.end[0]))
    assert torch.equal(taken(2), embedding(*special.fusion))
    assert place == len(row)


def test_each_visible_set_of_a_batch_is_read_once():
    found = sequences(model(), features(rows=5), seen("vaf", "v", "vaf", "v", "af"))
    assert sorted(len(sequence) for sequence, _ in found) == [1, 2, 2]


@pytest.mark.parametrize("kind", ATTENTION)
def test_padding_that_is_masked_changes_nothing_in_any_family(folders, kind):
    made = model(folders[kind], lora_targets=ATTENTION[kind], mask_padding=True)
    short, lengths = features(), {m: torch.tensor([6, 4, 3, 6]) for m in WIDTHS}
    for stream in short.values():
        stream *= (torch.arange(6) < lengths["visual"].unsqueeze(1)).unsqueeze(-1)
    long = {m: torch.cat([x, 7 * torch.ones(4, 5, x.shape[2])], dim=1) for m, x in short.items()}
    visible = seen("vaf", "vaf", "a", "f")

    def alone(i, clips):
        return made.score({m: x[i : i + 1, :clips] for m, x in short.items()}, visible[i : i + 1])

    with torch.no_grad():
        expected = torch.cat([alone(i, clips) for i, clips in enumerate((6, 4, 3, 6))])
        assert torch.allclose(made.score(short, visible, lengths), expected, atol=1e-6)
        assert torch.allclose(made.score(long, visible, lengths), expected, atol=1e-6)
    assert expected.std() > 1e-4


@pytest.mark.parametrize("kind", ATTENTION)
def test_adapters_learn_and_the_language_model_does_not(folders, kind):
    made = model(folders[kind], lora_targets=ATTENTION[kind], lora_rank=3).train()
    adapters = [name for name, _ in made.language_model.named_parameters()]
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in adapters} == set(ATTENTION[kind])
    assert len(adapters) == 2 * len(ATTENTION[kind])
    assert all(".lora_" in name for name in adapters)
    frozen = {name: x.clone() for name, x in made.language_model.named_buffers()}
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.01)
    for _ in range(2):  # the first step has no gradient for one of the two matrices of an adapter, which begins at 0
        before = {name: x.clone() for name, x in made.language_model.named_parameters()}
        optimizer.zero_grad()
        made.loss(features(), torch.rand(4), seen("vaf", "v", "af", "f"), seen(*["vaf"] * 4)).total.backward()
        optimizer.step()
    assert all(torch.equal(x, frozen[name]) for name, x in made.language_model.named_buffers())
    assert all(not torch.equal(x, before[name]) for name, x in made.language_model.named_parameters())


def test_tokens_that_the_table_has_begin_as_it_has_them_and_new_ones_near_its_mean():
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    found = embeddings_of(table, [4, 50, 51])
    assert torch.equal(found[0], table[4])
    assert torch.allclose(found[1:], table.mean(dim=0), atol=1e-3)
    assert not torch.equal(found[1], found[2])


def test_a_score_stays_in_the_unit_interval_where_the_weight_of_the_paths_does_not():
    made = model()
    with torch.no_grad():
        made.main_share.fill_(-50.0)
        made.auxiliary.regressor[-1].bias.fill_(5.0)
        assert (made.mixed(made.read(features(), seen(*["vaf"] * 4))) > 1).all()
        assert (made.score(features(), seen(*["vaf"] * 4)) == 1).all()


def test_missing_streams_weigh_less_by_a_learned_confidence():
    made, visible = model(), seen("vaf", "v", "af", "f")
    with torch.no_grad():
        made.auxiliary.confidence.fill_(-2.0)
        low = made.diagnostics(features(), visible)["stream_weights"]
        made.auxiliary.confidence.fill_(2.0)
        high = made.diagnostics(features(), visible)["stream_weights"]
    assert torch.equal(low[visible], high[visible])
    share = torch.tensor([-2.0, 2.0]).sigmoid()
    assert torch.allclose(low[~visible] / high[~visible], share[0] / share[1])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a small store and a language model whose vocabulary is larger than all else of it."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=16)
    save_tiny_llm(tmp_path / "llm", vocab_size=90_000)
    return tmp_path


def load_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save_weights(weights, folder):
    from safetensors.torch import save_file

    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def trained(**changes):
    settings = {
        "name": "r",
        "data": {"store": "tiny.h5", "target": "score", "clips": 6},
        "model": {"name": "limssr", "llm": "llm", "prompt": PROMPT},
        "missing": {"train": "random_subset", "test": ["VAF", "A"]},
        "train": {"epochs": 1, "batch_size": 8, "threads": 1, **changes},
    }
    return run(settings, show_progress=False)


def test_a_checkpoint_holds_what_learned_and_needs_the_same_language_model(here):
    found = trained().metrics
    checkpoint = RunFolder(here / "runs/r").load_checkpoint()
    weights = checkpoint["weights"]
    assert not [name for name in weights if "base_layer" in name or "mlp" in name or "lm_head" in name]
    assert sum(weight.numel() for weight in weights.values()) < 30_000
    assert checkpoint["options"]["llm"] == "llm"
    again = aqa.evaluate("runs/r").metrics["patterns"]
    for name, numbers in found["patterns"].items():
        assert again[name]["mse"] == pytest.approx(numbers["mse"], rel=1e-5)

    stored = load_weights(here / "llm")
    stored["model.norm.weight"] += 0.01
    save_weights(stored, here / "llm")
    with pytest.raises(AqaError, match=r"do not fit model 'limssr': they were trained on another language model, tok"):
        aqa.evaluate("runs/r")
    shutil.move("llm", "elsewhere")
    with pytest.raises(AqaError, match=rf"option 'llm': no folder at llm \(relative to {here}\)"):
        aqa.evaluate("runs/r")


def test_two_seeds_share_no_weights_that_learn(here):
    found = trained(ensemble=2).metrics
    assert found["model"] == "limssr"
    weights = RunFolder(here / "runs/r").load_checkpoint()["weights"]
    assert len([name for name in weights if name.endswith("fingerprint")]) == 2
    assert aqa.evaluate("runs/r").metrics["patterns"]["VAF"]["n"] == found["patterns"]["VAF"]["n"]


def test_a_folder_that_is_no_language_model_is_refused_in_one_line(folders, tmp_path):
    def refused(message, folder, **options):
        with pytest.raises(AqaError, match=message) as error:
            model(str(folder), **options)
        assert "\n" not in str(error.value)

    refused(r"^option 'llm': no folder at .*nowhere \(relative to ", tmp_path / "nowhere")
    refused("has no config.json", tmp_path)
    whole = shutil.copytree(folders["llama"], tmp_path / "whole")
    weights = load_weights(whole)

    def changed(name, content):
        folder = shutil.copytree(whole, tmp_path / name)
        save_weights(content, folder)
        return folder

    gate = "model.layers.0.mlp.gate_proj.weight"
    refused(f"lack '{gate}'", changed("less", {name: x for name, x in weights.items() if name != gate}))
    refused("hold NaN or infinite", changed("nan", {**weights, gate: weights[gate] * np.nan}))
    refused("cannot be read: ", changed("size", {**weights, gate: weights[gate][:3].clone()}))
    (changed("cut", weights) / "model.safetensors").write_bytes(b"cut")
    refused("cannot be read: ", tmp_path / "cut")
    (changed("adapters", weights) / "adapter_config.json").write_text("{}")
    refused("holds adapters of peft", tmp_path / "adapters")
    (changed("pickled", weights) / "model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    refused("no weights as safetensors; pytorch_model.bin is pickled, and not read", tmp_path / "pickled")
    (changed("mute", weights) / "tokenizer.json").unlink()
    refused("cannot be read: ", tmp_path / "mute")
    refused("n_head 5 must divide the language model's width 16", whole, n_head=5)
    refused(
        r"option 'lora_targets': the language model \(gpt2\) has no layers called q_proj, k_proj, v_proj, o_proj; "
        r"name those of its attention, of c_attn, c_fc, c_proj$",
        folders["gpt2"],
    )


def test_code_in_the_folder_is_not_run(tmp_path):
    folder = save_tiny_llm(tmp_path / "own")
    config = json.loads((tmp_path / "own/config.json").read_text())
    parts = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (tmp_path / "own/config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": parts}))
    (tmp_path / "own/own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(AqaError, match="cannot be read: "):
        model(folder)
    assert not (tmp_path / "was_run").exists()


def test_more_clips_than_the_language_model_reads_are_refused(folders):
    made = model(folders["gpt2"], lora_targets=["c_attn"])
    with pytest.raises(AqaError, match=r"the language model reads 256 places, a video takes 2\d\d\d; set data.clips"):
        made.score(features(rows=1, clips=700), seen("vaf"))


def test_many_modalities_are_refused():
    with pytest.raises(AqaError, match="takes at most 10 modalities, not 11"):
        build("limssr", widths={f"m{i}": 2 for i in range(11)}, llm=tiny_llm().name)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AqaError, match=r"^option 'llm' needs the package peft: pip install 'aqa-incomplete\[llm\]' \("):
        model()
