"""Benchmarks that are run whole, small: what they measure is in their records, with every sample."""

import json
import sys

import evaluation
import pytest
import seeds
import streaming

import data


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


def test_seeds_stacked(record):
    figures = record(seeds.main, "--stacking", "--sizes", "quickstart", "--seeds", "2")
    assert figures["a step in turn / stacked"]["n"] == 7
    assert figures["losses over 20 steps apart"]["value"] < 1e-3


def test_streaming(monkeypatch, record):
    monkeypatch.setattr(streaming, "in_a_process", lambda function, *given: function(*given))
    figures = record(streaming.main, "--store", "0.03", "--memory", "0.02", "--batch", "2")
    assert figures["peak memory of an epoch"]["value"] > 0
    assert figures["at need / ahead, with work"]["n"] == 7
