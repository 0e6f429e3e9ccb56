"""Benchmarks that are run whole, small: what they measure is in their records, with every sample."""

import json
import sys

import pytest
import torch

from aqa.training import compiling as compiled
from benchmarks import compiling, data, evaluation, gpu, seeds, streaming


@pytest.fixture
def record(monkeypatch, tmp_path):
    """A function that runs a benchmark's main with arguments and returns the figures of its record by name."""

    def run(main, *given):
        monkeypatch.setattr(sys, "argv", ["bench.py", *given, "--out", str(tmp_path / "record.json")])
        main()
        figures = json.loads((tmp_path / "record.json").read_text())["figures"]
        return {figure["name"]: figure for figure in figures if "name" in figure}

    return run


def test_evaluation(record):
    figures = record(evaluation.main, "--videos", "2", "--clips", "3", "--batch", "2")
    assert all(figures[name]["n"] == 7 for name in ("seven / complete", "one by one / seven"))
    assert figures["largest difference, of the range of scores"]["value"] < 1e-5


def test_data(record):
    figures = record(data.main, "--videos", "3", "--only-loading")
    for plain in ("memory at hand", "fresh memory"):
        ratio, read = figures[f"loading / plain read into {plain}"], figures[f"plain read into {plain}"]
        expected = [a / b for a, b in zip(figures["loading"]["samples"], read["samples"], strict=True)]
        assert ratio["samples"] == pytest.approx(expected)


def test_seeds_stacked(monkeypatch, record):
    steps = (lambda: torch.tensor([1.0, 2.0])), (lambda: torch.tensor([1.0, 2.5]))
    monkeypatch.setattr(seeds, "training_steps", lambda size, count: steps)
    figures = record(seeds.main, "--stacking", "--sizes", "quickstart", "--seeds", "2")
    assert figures["a step in turn / stacked"]["n"] == 7
    assert figures["losses over 20 steps apart"]["value"] == 0.5


def test_seeds_by_commands(monkeypatch, record):
    memory = {"run_all": 100, "sweep": 150}
    for name, most in memory.items():
        monkeypatch.setattr(seeds, name, lambda *given, most=most: most)
    figures = record(seeds.main, "--sizes", "quickstart", "--seeds", "2", "--epochs", "1")
    assert figures["memory in one process / of one seed"]["samples"] == [1.5] * 7
    assert {name for name in figures if name.endswith("/ in one process")} == {
        "one alone, times the seeds / in one process",
        "aqa sweep without / in one process",
        "two at a time / in one process",
    }


def test_streaming(monkeypatch, record):
    monkeypatch.setattr(streaming, "in_a_process", lambda function, *given: function(*given))
    figures = record(streaming.main, "--store", "0.03", "--memory", "0.024", "--batch", "1")
    assert figures["peak memory of an epoch"]["value"] > 0
    assert figures["an epoch / plain read"]["n"] == 7


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_in_a_dry_run_says_what_needs_cuda_and_measures_the_rest(record, capsys):
    figures = record(gpu.main)
    assert (
        "dry run: torch sees no GPU here: small shapes on the CPU, whose figures mean nothing"
        in capsys.readouterr().out
    )
    needs_cuda = {name for name, figure in figures.items() if figure.get("unknown") == "needs CUDA"}
    assert needs_cuda == {"step as a CUDA graph", "data sheet / step", "of each of five, on a CUDA stream each"}
    assert all(figures[name]["n"] == 7 for name in ("step", "seven / complete", "five / five times one"))


def test_compiling(record, monkeypatch):
    """Traced, and run as it was traced: torch's own compiler takes minutes."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    figures = record(compiling.main, "--models", "mome")
    torch._dynamo.reset()
    assert 0 <= figures["first loss"]["value"] < 1e-6
    assert 0 < figures["weights after step 6"]["value"] < 1e-2
