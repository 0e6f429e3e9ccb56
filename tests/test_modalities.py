"""Modalities by short names, and their subsets."""

import pytest

from aqa.errors import AqaError
from aqa.modalities import find_subset, subset_name, subsets

BENCHMARK = ("visual", "audio", "flow")


def test_subsets_go_from_the_complete_one_to_the_single_ones():
    assert list(subsets(BENCHMARK)) == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert subsets(BENCHMARK)["AF"] == (False, True, True)


def test_modalities_that_share_an_initial_are_written_in_full():
    assert list(subsets(["audio", "accelerometer"])) == ["audio+accelerometer", "audio", "accelerometer"]
    assert subset_name(["visual", "velocity", "audio"], [True, False, True]) == "visual+audio"


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_subsets_of_any_number_of_modalities(count):
    modalities = [f"{letter}stream" for letter in "abcde"[:count]]
    found = subsets(modalities)
    assert len(found) == len(set(found.values())) == 2**count - 1
    assert [sum(s) for s in found.values()] == sorted((sum(s) for s in found.values()), reverse=True)
    for name, subset in found.items():
        assert name == subset_name(modalities, subset)


def test_too_many_modalities_to_list_are_refused_in_words():
    with pytest.raises(AqaError, match="11 modalities have too many subsets"):
        subsets([f"m{i}" for i in range(11)])


def test_names_stand_for_initials_that_are_no_letters():
    assert list(subsets(["[x", "audio"])) == ["[x+audio", "[x", "audio"]
    assert list(subsets(["1rgb", "2flow"])) == ["12", "1", "2"]


@pytest.mark.parametrize("modalities", [["visual", "audio", "flow"], ["rgb", "rest", "flow"], ["1rgb", "2flow"]])
def test_a_subset_is_found_by_its_name(modalities):
    for name, subset in subsets(modalities).items():
        assert find_subset(modalities, name) == subset
    for other in ("", "complete", "AV" if modalities[0] == "visual" else "flow+rgb", "VV", "x"):
        assert find_subset(modalities, other) is None


def test_a_subset_of_very_many_modalities_is_found_without_listing_all():
    modalities = [f"m{i}" for i in range(64)]
    assert sum(find_subset(modalities, "m3+m60")) == 2
