"""What a run says of the data that it takes."""

import numpy as np
import pytest

import aqa
from aqa.runs.notes import absence_notes, label_notes, unlearned_notes
from aqa.store.store import Target
from aqa.store.synthetic import make_synthetic

ROWS = {"train": np.array([0, 1, 2, 3]), "test": np.array([4, 5, 6, 7])}


def test_labels_for_which_no_correlation_is_defined_are_said():
    target = Target(np.array([3.0, 3, 3, 3, 5, 6, 7, 7]), 0, 10)
    parts = {"train": np.arange(4), "valid": np.array([4, 5]), "test": np.array([6, 7, 7])}
    assert label_notes(target, parts) == [
        "every label in 'train' is 3: there is nothing to learn",
        "2 labelled videos in 'valid': SRCC is undefined for fewer than 3",
        "every label in 'test' is 7: SRCC is undefined",
    ]
    assert label_notes(Target(np.arange(8.0), 0, 10), ROWS) == []


def test_a_modality_that_a_split_lacks_is_said():
    parts = {"train": np.array([[1, 0], [1, 0]], bool), "test": np.array([[0, 1], [0, 0]], bool)}
    assert absence_notes(("visual", "audio"), parts) == [
        "no video of 'train' has audio: a score by it alone is a guess",
        "no video of 'test' has visual: it cannot be scored by it alone",
    ]


def test_a_network_that_learned_no_more_than_the_mean_label_is_said():
    labels = np.array([0.2, 0.4, 0.6, 0.8])  # of variance 0.05
    stuck, learned = ([{"loss_mse": error} for error in errors] for errors in ([0.06] + [0.0495] * 9, [0.06, 0.03] * 5))
    assert unlearned_notes(stuck, labels, 0.01) == [
        "in no epoch was the training error below 98% of the labels' variance: little was learned; "
        "a smaller train.weight_decay than 0.01 may help"
    ]
    assert unlearned_notes(stuck, labels, 0.0)[0].endswith("little was learned")
    assert unlearned_notes(learned, labels, 0.01) == []
    assert unlearned_notes(stuck[:4], labels, 0.01) == []  # too few epochs to tell
    assert unlearned_notes([{"loss": 1.0}] * 9, labels, 0.01) == []  # a model that reports no squared error


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_whose_weight_decay_outweighs_its_gradient_says_so(tmp_path, seeds):
    store, said = tmp_path / "tiny.h5", []
    make_synthetic("tiny", store)
    settings = {"data.store": str(store), "output": str(tmp_path / "run"), "train.epochs": 5, "figures": False}
    settings["train.ensemble"] = seeds
    aqa.run("experiments/models/temporal_convolution.yaml", {**settings, "train.weight_decay": 10.0}, say=said.append)
    assert sum(line.endswith("a smaller train.weight_decay than 10 may help") for line in said) == seeds
