"""Missing patterns: the rules that hide modalities, or damage them, in training and in testing.

A pattern turns *available* (what the data set has) into *visible* (what the model may look at), (N, M) bool both. Its
random numbers belong to the seed, the epoch and the sample's id, so the same seed gives the same pattern at any batch
size and in any order. Written in an experiment file as a name ("random_subset", "VA") or as a mapping of one name to
its options ({rates: {visual: 0.3, audio: 0.5}}).

A new pattern is one class in a file of this folder, decorated with its name.
"""

from aqa.missing.base import PATTERNS, Draws, MissingPattern, Videos, sample_keys
from aqa.missing.parsing import parse_pattern, parse_test_patterns

__all__ = [
    "PATTERNS",
    "Draws",
    "MissingPattern",
    "Videos",
    "parse_pattern",
    "parse_test_patterns",
    "sample_keys",
]
