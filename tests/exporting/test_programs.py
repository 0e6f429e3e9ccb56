"""Programs of torch and ONNX: the scores of the run, for all visible sets, lengths and batches, without aqa."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import aqa
from aqa.cli import main
from aqa.errors import AqaError
from aqa.exporting.program import Program
from aqa.exporting.verify import largest_difference, random_batches, require_equal
from aqa.runs.averages import finished_run
from tests.models.tiny_llm import NEEDS_LLM, without_default


def videos_of(streams, lengths):
    """A batch of a program as a scorer takes it."""
    return [
        {m: streams[m][row, : int(n)].numpy() for m, n in zip(streams, own, strict=True) if n}
        for row, own in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("zero_fill", {}),
        ("zero_fill", {"data.clips": 4}),
        ("zero_fill", {"data.align": "time"}),
        ("zero_fill", {"data.align": "time", "data.clips": 6}),
        ("ridge", {"data.align": "none", "data.clips": 5}),
        ("ridge", {"data.align": "time", "data.standardize": False}),
        ("zero_fill", {"train.ensemble": 2}),
        ("ridge", {"data.folds": {"count": 2}}),
    ],
    ids=["shortest", "cropped", "time", "filled", "none", "time, raw", "seeds", "folds"],
)
def test_a_program_gives_the_scores_of_the_run(made, model, changes):
    run = made(model, **changes)
    program, scorer = Program(finished_run(run)), aqa.load(run, device="cpu")
    for streams, lengths in random_batches(program):
        with torch.inference_mode():
            found = program(streams, lengths).numpy()
        np.testing.assert_allclose(found, scorer.score(videos_of(streams, lengths)), atol=1e-4)


def test_a_video_without_any_stream_has_no_score(made):
    program = Program(finished_run(made()))
    streams, lengths = random_batches(program)[-1]
    lengths[1] = 0
    with torch.inference_mode():
        found = program(streams, lengths)
    assert found.isnan().tolist() == [False, True, False, False, False]


def test_a_file_with_other_scores_is_not_written(made):
    program = Program(finished_run(made()))
    with pytest.raises(AqaError, match=r"model\.onnx does not give the scores of the run \(they differ by 0\.0001 of"):
        require_equal(program, lambda *given: program(*given).numpy() + 0.001, "model.onnx")
    with pytest.raises(AqaError, match="they differ by nan"):
        require_equal(program, lambda *given: program(*given).numpy() * np.nan, "model.onnx")
    assert largest_difference(program, lambda *given: program(*given).numpy()) == 0


WITHOUT_AQA = """
import sys
sys.modules["aqa"] = None
import json, numpy as np
given = np.load(sys.argv[2])
streams, lengths = {m: given[m] for m in ("visual", "audio")}, given["lengths"]
if sys.argv[1].endswith(".onnx"):
    import onnxruntime
    found = onnxruntime.InferenceSession(sys.argv[1]).run(["score"], {**streams, "lengths": lengths})[0]
else:
    import torch
    program = torch.export.load(sys.argv[1]).module()
    streams = {m: torch.from_numpy(x) for m, x in streams.items()}
    found = program(streams=streams, lengths=torch.from_numpy(lengths)).numpy()
print(json.dumps(found.tolist()))
"""


@pytest.mark.parametrize(
    ("format", "file", "model"), [("torch", "model.pt2", "zero_fill"), ("onnx", "model.onnx", "ridge")]
)
def test_a_file_scores_without_aqa(made, tmp_path, format, file, model, capsys):
    run, out = made(model), tmp_path / "out"
    assert main(["export", str(run), "--format", format, "--out", str(out)]) == 0
    assert "largest difference from the run's own scores" in capsys.readouterr().err
    assert {each.name for each in out.iterdir()} == {"README.md", "config.json", file}
    assert json.loads((out / "config.json").read_text())["streams"] == {"visual": 3, "audio": 2}
    assert file in (out / "README.md").read_text()
    rng = np.random.default_rng(3)
    lengths = np.array([[9, 14], [0, 3], [12, 0], [1, 1]])
    streams = {"visual": rng.normal(size=(4, 12, 3)), "audio": rng.normal(size=(4, 14, 2))}
    streams = {m: x.astype(np.float32) for m, x in streams.items()}
    np.savez(tmp_path / "given.npz", **streams, lengths=lengths)
    command = [sys.executable, "-c", WITHOUT_AQA, str(out / file), str(tmp_path / "given.npz")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    tensors = {m: torch.from_numpy(x) for m, x in streams.items()}
    expected = aqa.load(run, device="cpu").score(videos_of(tensors, lengths))
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-4)


@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("retrieval_fill", "it looks up other videos for each visible set that a batch shows, set by set"),
        pytest.param("limssr", "it reads each visible set that a batch shows by a prompt of its own", marks=NEEDS_LLM),
    ],
)
def test_a_model_that_is_no_program_says_why(made, tmp_path, capsys, model, why, format):
    run, out = made(model, **without_program(model)), tmp_path / "out"
    capsys.readouterr()  # what a library says when it is first imported
    assert main(["export", str(run), "--format", format, "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert f"this model cannot be exported as a program: {why}" in printed
    assert "use safetensors" in printed
    assert printed.count("\n") == 1
    assert not (out / "model.pt2").exists()
    assert not (out / "model.onnx").exists()


def without_program(model):
    """Options of small models that are no programs."""
    if model != "limssr":
        return {}
    sizes = {"n_head": 2, "n_fusion": 2, "lora_rank": 2}
    return {f"model.{name}": value for name, value in {**without_default(model), **sizes}.items()}


@NEEDS_LLM
def test_an_exported_language_model_needs_the_same_one_beside_it(made, path, tmp_path):
    run = made("limssr", **without_program("limssr"))
    out = aqa.export(run, tmp_path / "out")
    np.testing.assert_array_equal(aqa.predict(out, path)["score"], aqa.predict(run, path)["score"])
    assert "needs the language model" in (out / "README.md").read_text()
    weights = load_file(out / "model.safetensors")
    assert not [name for name in weights if "mlp" in name]  # its frozen weights are not given away


def test_what_cannot_be_written_is_one_line(made, tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.exporting.onnx.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        AqaError, match=r"onnx needs onnxscript, which is not installed: pip install 'aqa-incomplete\[onnx\]'$"
    ):
        aqa.export(made(), tmp_path / "out", format="onnx")
    run = made("mcmoe", **{"model.prototype_position": "batch_row", "model.hidden_dim": 8, "model.n_encoder": 1})
    with pytest.raises(AqaError, match="scores depend on the place in the batch cannot be exported as a program"):
        aqa.export(run, tmp_path / "out", format="torch")
    assert not (tmp_path / "out").exists()
