"""What a run says of the data that it takes."""

import numpy as np

from aqa.runs.notes import absence_notes, label_notes
from aqa.store.store import Target

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
