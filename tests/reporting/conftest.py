"""Finished runs, made without training, for what is reported of them."""

from __future__ import annotations

import shutil
from unittest.mock import patch

import numpy as np
import pytest

from aqa.config.load import load_experiment
from aqa.evaluation.intervals import Bounds
from aqa.evaluation.measures import Ranges, measured
from aqa.evaluation.metrics import summarize
from aqa.modalities import subsets
from aqa.runs.calibration import add_intervals, columns_beside
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.predictions import save_predictions
from aqa.system.files import plain

MODALITIES = ("visual", "audio", "flow")
N = 40


def truth_of(target: str, n: int = N) -> np.ndarray:
    return np.random.default_rng([n, *target.encode()]).uniform(0, 40, n)


@pytest.fixture
def finished(tmp_path, write_finished):
    """`write_finished` for runs below tmp_path / "runs"."""
    return lambda name, **about: write_finished(tmp_path / "runs" / name, **about)


@pytest.fixture(scope="session")
def write_finished():
    """A function that writes a finished run's folder and returns it.

    noise: how far its predictions are from the truth. absent: videos without flow. settings: dotted keys of the
    experiment. predictions, truth, ids: instead of made-up ones. metrics: changes to metrics.json. tested:
    the patterns that it was tested under, all subsets of its modalities by default. measures: further ones by name.
    level, half: intervals of the scores at this level, of so much to either side (a number, or one per video).
    """

    def write(
        path,
        *,
        data_set="fisv",
        target="TES",
        model="mcmoe",
        seed=0,
        noise=10.0,
        split="valid",
        absent=0,
        settings=(),
        predictions=None,
        truth=None,
        ids=None,
        router=True,
        metrics=None,
        modalities=MODALITIES,
        tested=None,
        measures=(),
        level=None,
        half=10.0,
    ):
        content = {
            "name": "{target}-{seed}",
            "data": {"store": f"{data_set}.h5", "target": target},
            "model": {"name": model},
            "train": {"seed": seed},
            "select": {"split": split},
        }
        with patch("aqa.runs.folder.all_options", return_value={}):  # a plugin's model may not be known here
            folder = RunFolder.start(path, load_experiment(content, list(settings)).resolved(), False)
        truth = truth_of(target) if truth is None else np.asarray(truth, dtype=float)
        names, rng = subsets(modalities), np.random.default_rng([seed, *path.name.encode()])
        if predictions is None:
            predictions = {k: truth + noise / sum(s) * rng.normal(size=len(truth)) for k, s in names.items()}
            predictions.get("F", truth)[:absent] = np.nan
            predictions = {k: predictions[k] for k in tested or predictions}
        incomplete = [k for k in predictions if k in names and not all(names[k])]
        found = summarize(predictions, truth, incomplete, 0, 40, resamples=50)
        ranges = Ranges((0, 40), (0, 40))
        for name, values in measured(measures, predictions, truth, ranges, intervals=False).items():
            found["patterns"][name] |= {"measures": values} if values else {}
        found |= {"ranges": ranges._asdict()} if measures else {}
        ids = [f"{data_set} {i}" for i in range(len(truth))] if ids is None else ids
        bounds = {k: Bounds(values - half, values + half) for k, values in predictions.items()}
        beside = {} if level is None else columns_beside(bounds, {})
        save_predictions(
            folder.path / PREDICTIONS, ids, np.arange(len(truth)), truth, target, predictions, beside=beside
        )
        if level is not None:
            levels = {
                each: {k: Bounds(v - each / level * half, v + each / level * half) for k, v in predictions.items()}
                for each in (0.5, 0.8)
            }
            calibrated = {"level": level, "calibrated_on": ["valid"], "videos": [30, 40], "selected_on_them": True}
            found = add_intervals(found, truth, {**levels, level: bounds}, {**calibrated, "normalized": []})
        about = {"data_set": data_set, "target": target, "model": model, "seed": seed, "modalities": modalities}
        selection = {"split": split, "metric": "srcc", "pattern": "complete", "epoch": 3, "value": 0.5, "epochs": 9}
        weights = (
            {k: rng.dirichlet([5] * len(modalities), size=len(modalities)).tolist() for k in predictions}
            if router
            else {}
        )
        folder.finish(plain({**found, **about, "selection": selection, "router_weights": weights, **(metrics or {})}))
        return folder.path

    return write


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser():
    """A Chromium; tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="session")
def visit(browser):
    """A function that opens a page, and records in `problems` what goes wrong and what it asks the network for."""

    def opened(page, **settings):
        tab = browser.new_page(**settings)
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("request", lambda request: tab.problems.append(request.url) if request.url != page.as_uri() else None)
        tab.goto(page.as_uri())
        return tab

    return opened
