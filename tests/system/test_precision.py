"""Precisions: what they set, put back, and leave in float32."""

import pytest
import torch
import yaml

import aqa
from aqa.errors import AqaError
from aqa.layers.grade_decoder import GradeDecoder
from aqa.layers.losses import channel_divergence, hardest_triplet, squared_error
from aqa.store.synthetic import make_synthetic
from aqa.system.precision import autocast, float32_products, require_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_allowed_for_tf32_alone_and_afterwards_as_before(precision, allowed):
    before = flags()
    with float32_products("tf32"):
        with pytest.raises(RuntimeError, match="broken off"), float32_products(precision):
            raise RuntimeError(f"broken off at {flags()}")
        assert flags() == (True, True)
        with float32_products(precision):
            assert flags() == (allowed, allowed)
    assert flags() == before


def test_tf32_leaves_the_products_of_a_cpu_alone():
    with float32_products("tf32"):
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
    assert require_precision("tf32", CPU) == ["train.precision tf32 is of GPUs: on this CPU it is float32"]
    assert require_precision("bf16", CPU) == require_precision("float32", CPU) == []


def test_a_gpu_without_such_products_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    for precision in ("tf32", "bf16"):
        with pytest.raises(AqaError, match=f"train.precision {precision}: Old GPU has none; use float32"):
            require_precision(precision, GPU)
    assert require_precision("float32", GPU) == []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert require_precision("bf16", GPU) == require_precision("tf32", GPU) == []


def test_losses_and_votes_are_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    queries, stream, other = torch.randn(5, 4, 16), torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    decoder = GradeDecoder(16, 4, 1, 1, 16, 0.0)

    def found():
        losses = squared_error(stream, other), channel_divergence(stream, other), hardest_triplet(queries, 1.0)
        return *losses, decoder.vote(queries)

    expected = found()
    with autocast("bf16", CPU):
        assert (stream @ other.mT).dtype == torch.bfloat16
        for value, exact in zip(found(), expected, strict=True):
            assert torch.equal(value, exact)
    with autocast("tf32", CPU):
        assert (stream @ other.mT).dtype == torch.float32


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment in bfloat16, and its finished run."""
    folder = tmp_path_factory.mktemp("bf16")
    make_synthetic("tiny", folder / "tiny.h5", samples=60)
    experiment = {
        "name": "small",
        "data": {"store": str(folder / "tiny.h5"), "target": "score"},
        "model": {"name": "grade_decoder", "hidden_dim": 8},
        "train": {"epochs": 2, "batch_size": 16, "precision": "bf16"},
        "output": str(folder / "run"),
    }
    return experiment, aqa.run(experiment)


def test_a_run_in_bfloat16_is_scored_in_float32(finished, monkeypatch):
    _, result = finished
    inside = []
    model = aqa.models.MODELS.get("grade_decoder").make
    fuse = model.fuse
    monkeypatch.setattr(
        model, "fuse", lambda *given: inside.append((torch.is_autocast_enabled("cpu"), *flags())) or fuse(*given)
    )
    with float32_products("tf32"):
        again = aqa.evaluate(result.folder)
    assert set(inside) == {(False, False, False)}
    assert again.metrics["patterns"] == result.metrics["patterns"]
    weights = torch.load(result.folder / "checkpoint.pt", weights_only=True)["weights"]
    assert torch.float32 in (kinds := {weight.dtype for weight in weights.values()})
    assert torch.bfloat16 not in kinds


def test_a_run_is_not_taken_up_in_another_precision(finished):
    experiment, result = finished
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["train"]["precision"] == "bf16"
    assert aqa.run(experiment).already_finished
    with pytest.raises(AqaError, match=r"another experiment \(train.precision is 'bf16' there, 'float32' here\)"):
        aqa.run(experiment, ["train.precision=float32"])
    with pytest.raises(AqaError, match=r"train.precision is 'half', not one of float32, tf32, bf16"):
        aqa.run(experiment, ["train.precision=half"])


def test_runs_from_before_the_choice_are_those_of_float32(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.runs.run.draw", lambda *_: None)  # figures, which take the longest
    experiment, _ = finished
    changes = ["train.precision=float32", f"output={tmp_path / 'old'}"]
    aqa.run(experiment, changes)
    path = tmp_path / "old" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["train"]["precision"], config["train"]["compile"]
    path.write_text(yaml.safe_dump(config))
    assert aqa.run(experiment, changes).already_finished
    with pytest.raises(AqaError, match=r"train.precision is 'float32' there, 'bf16' here"):
        aqa.run(experiment, changes[1:])


def test_the_log_says_that_tf32_is_nothing_on_a_cpu(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.runs.run.draw", lambda *_: None)
    experiment, _ = finished
    said = []
    aqa.run(experiment, ["train.precision=tf32", "train.device=cpu", f"output={tmp_path / 'run'}"], say=said.append)
    assert "train.precision tf32 is of GPUs: on this CPU it is float32" in said


def test_a_model_in_closed_form_has_no_precision_and_is_not_compiled(finished, tmp_path):
    experiment, _ = finished
    ridge = {**experiment, "model": {"name": "ridge"}, "output": str(tmp_path / "run")}
    with pytest.raises(AqaError, match=r"train.precision: model 'ridge' is fitted in closed form; leave it out"):
        aqa.run(ridge)
    with pytest.raises(AqaError, match=r"train.compile: model 'ridge' is fitted in closed form; leave it out"):
        aqa.run(ridge, ["train.precision=float32", "train.compile=true"])
    assert not (tmp_path / "run").exists()
