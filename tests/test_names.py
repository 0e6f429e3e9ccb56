"""What things may be called."""

import pytest

from aqa.errors import AqaError
from aqa.names import as_file_name, check_file_name, check_id, check_key, check_modalities

ODD = ["NO", "null", "12", "~x", "<script>", "a b", "a: b", "[x]", "@", "`", "Judge #1", "得点", "*", "-", "{seed}"]
EMPTY, PATHS, CONTROL = ["", " "], ["/", "a/b", ".", ".."], ["a\nb", "\x1b[1m", "\ud800"]


def refusal(check, name):
    with pytest.raises(AqaError) as error:
        check(name, "x.h5: target")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_names(name):
    check_key(name, "x")
    check_id(name, "x")


@pytest.mark.parametrize("name", EMPTY)
def test_empty_names_are_refused(name):
    assert refusal(check_key, name).startswith(f"x.h5: target, '{name}', is empty")
    refusal(check_id, name)
    refusal(check_file_name, name)


@pytest.mark.parametrize("name", PATHS)
def test_paths_are_no_names_but_for_ids(name):
    assert "is a path; a name holds no '/'" in refusal(check_key, name)
    check_id(name, "x")


@pytest.mark.parametrize("name", CONTROL)
def test_what_a_terminal_would_obey_is_refused(name):
    assert "control characters" in refusal(check_key, name)
    refusal(check_id, name)


def test_very_long_names_are_refused():
    assert "has 251 characters; 250 are the most" in refusal(check_key, "x" * 251)


@pytest.mark.parametrize("name", ["rgb+flow", "a,b", "none", "Complete", "all_subsets", "average", "a/b", ""])
def test_modalities_whose_patterns_would_have_one_name_are_refused(name):
    with pytest.raises(AqaError, match=r"^x\.h5: modality, "):
        check_modalities(["rgb", name], "x.h5")


@pytest.mark.parametrize("name", ["a.b", "c d", "__class__", "forward", "training", "NO", "12", "[x]"])
def test_modalities_may_have_the_names_of_anything_else(name):
    check_modalities([name], "x.h5")


@pytest.mark.parametrize("name", ["../../outside", "/abs", "..", ".", "~", " ~", "a\\b", "得" * 67])
def test_a_folder_has_a_name_and_not_a_path(name):
    assert "name: '" in refusal(lambda given, _: check_file_name(given, "name"), name)


@pytest.mark.parametrize("text", [*ODD, *PATHS, "a\\b", "~", ".hidden", "%2F", "a\nb", "a|b?"])
def test_any_text_is_made_the_name_of_a_folder_that_is_its_own(text):
    safe = as_file_name(text)
    check_file_name(safe, "name")
    assert safe[0] not in ".~"
    assert [other for other in [*ODD, *PATHS, ".hidden", "%2F"] if as_file_name(other) == safe and other != text] == []


def test_ordinary_names_stay_as_they_are_in_names_of_folders():
    assert as_file_name("TES") == "TES"
    assert as_file_name("Judge #1 (é)") == "Judge #1 (é)"


def test_long_names_are_cut_between_letters():
    assert as_file_name("é" * 100, most_bytes=81) == "é" * 40
