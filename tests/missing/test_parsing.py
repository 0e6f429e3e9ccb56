"""From what an experiment file says to patterns, and one clear line where it says something wrong."""

from __future__ import annotations

import pytest

from aqa.errors import AqaError
from aqa.missing import parse_pattern, parse_test_patterns
from aqa.missing.parsing import patterns_of_text

BENCHMARK = ("visual", "audio", "flow")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("none", "none"),
        (None, "none"),
        ("VA", "VA"),
        ("complete", "VAF"),
        ({"VF": None}, "VF"),
        ("random_subset", "random_subset(incomplete, per batch)"),
        ("all_subsets", "random_subset(all, per batch)"),
        ({"random_subset": {"per": "sample", "only": ["V", "AF"]}}, "random_subset(V+AF, per sample)"),
        ({"only": ["VA", "V"]}, "random_subset(VA+V, per batch)"),
        ({"only": "V"}, "random_subset(V, per batch)"),
        ({"rates": 0.3}, "rates(0.3)"),
        ({"rates": {"visual": 0.3, "flow": 1}}, "rates(visual 0.3, audio 0, flow 1)"),
        ({"fixed": "VA"}, "fixed VA"),
        ({"fixed": {"pattern": {"rates": 0.5}, "seed": 7}}, "fixed rates(0.5)"),
        ({"combine": [{"fixed": {"rates": 0.5}}, "VA"]}, "fixed rates(0.5) & VA"),
        ({"gaps": {"fraction": 0.25}}, "gaps(0.25)"),
        ({"gaps": {"fraction": 0.25, "affected": ["visual", "flow"]}}, "gaps(0.25) of visual+flow"),
        ({"noise": {"std": 2}}, "noise(2)"),
        ({"shift": {"clips": -4}}, "shift(-4)"),
        ({"shift": {"clips": 4, "random": True, "affected": ["audio"]}}, "shift(+-4) of audio"),
    ],
    ids=str,
)
def test_names_of_patterns(spec, name):
    made = parse_pattern(spec, BENCHMARK, "missing.train")
    assert made.name == name
    assert parse_pattern(made, BENCHMARK, "missing.train") is made


def test_all_subsets_tests_the_seven_in_order():
    assert list(parse_test_patterns("all_subsets", BENCHMARK, "missing.test")) == [
        "VAF",
        "VA",
        "VF",
        "AF",
        "V",
        "A",
        "F",
    ]


def test_a_list_of_test_patterns_keeps_its_order_and_one_pattern_needs_no_list():
    assert list(parse_test_patterns(["F", "complete", {"rates": 0.5}], BENCHMARK, "t")) == ["F", "VAF", "rates(0.5)"]
    assert list(parse_test_patterns("VA", BENCHMARK, "t")) == ["VA"]


def test_the_same_damage_of_two_streams_makes_two_test_patterns():
    specs = [{"shift": {"clips": 2, "affected": [m]}} for m in ("visual", "audio")]
    assert list(parse_test_patterns(specs, BENCHMARK, "t")) == ["shift(2) of visual", "shift(2) of audio"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("randm_subset", "missing.train: unknown missing pattern 'randm_subset': did you mean 'random_subset'?"),
        ("va", "missing.train: unknown missing pattern 'va': did you mean 'VA'?"),
        ({"rate": 0.5}, "missing.train: unknown missing pattern 'rate': did you mean 'rates'?"),
        (
            {"zzz": {"a": 1}},
            "missing.train: unknown missing pattern 'zzz': "
            "known: combine, fixed, gaps, mar, mnar, noise, none, only, random_subset, rates, shift",
        ),
        ({3: 1}, "missing.train: unknown missing pattern '3': "),
        (5, "missing.train: unknown missing pattern '5': "),
        ({}, "missing.train: a missing pattern is a name or one name with its options, got {}"),
        (
            {"rates": 0.3, "only": ["V"]},
            "missing.train: a missing pattern is a name or one name with its options, got {'rates'",
        ),
        ({"only": ["VB"]}, "missing.train: unknown subset 'VB': "),
        ("only", "missing.train: unknown subset 'None': known: VAF, VA, VF, AF, V, A, F"),
        (
            {"random_subset": {"pre": "sample"}},
            "missing.train: missing pattern 'random_subset' has no option 'pre': did you mean 'per'?",
        ),
        ({"random_subset": {"per": "video"}}, "missing.train: missing pattern 'random_subset', option 'per': "),
        ({"random_subset": ["VA"]}, "missing.train: missing pattern 'random_subset' takes named options, got ['VA']"),
        ({"rates": {"visaul": 0.5}}, "missing.train: unknown modality 'visaul': did you mean 'visual'?"),
        ({"rates": 1.5}, "missing.train: missing pattern 'rates': visual is 1.5, not between 0 and 1"),
        ({"rates": {"audio": -0.5}}, "missing.train: missing pattern 'rates': audio is -0.5, not between 0 and 1"),
        (
            {"rates": {"audio": float("nan")}},
            "missing.train: missing pattern 'rates': audio is nan, not between 0 and 1",
        ),
        ({"rates": {"audio": "much"}}, "missing.train: missing pattern 'rates', option 'rates.audio': "),
        ({"fixed": {"pattern": "VA", "sed": 1}}, "missing.train: missing pattern 'fixed' has no option 'sed': did you"),
        (
            {"fixed": {"pattern": "VA", "seed": "x"}},
            "missing.train: missing pattern 'fixed', option 'seed': a whole number is needed, got 'x'",
        ),
        ({"fixed": "VX"}, "missing.train: missing pattern 'fixed': unknown missing pattern 'VX': "),
        ({"combine": []}, "missing.train: missing pattern 'combine' takes a list of patterns, got []"),
        ({"combine": "VA"}, "missing.train: missing pattern 'combine' takes a list of patterns, got 'VA'"),
        (
            {"combine": ["VA", "nnoe"]},
            "missing.train: missing pattern 'combine': unknown missing pattern 'nnoe': did you",
        ),
        ({"gaps": None}, "missing.train: missing pattern 'gaps', option 'fraction': it is missing"),
        ({"gaps": 0.3}, "missing.train: missing pattern 'gaps' takes named options, got 0.3"),
        ({"shift": {"clips": 1.5}}, "missing.train: missing pattern 'shift', option 'clips': "),
    ],
    ids=str,
)
def test_mistakes_are_one_line_that_says_where_and_what(spec, message):
    with pytest.raises(AqaError) as error:
        parse_pattern(spec, BENCHMARK, "missing.train")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_test_patterns_are_listed_once_and_not_none():
    with pytest.raises(AqaError, match=r"^missing\.test lists the pattern VA twice$"):
        parse_test_patterns(["VA", "V", "VA"], BENCHMARK, "missing.test")
    with pytest.raises(AqaError, match=r"^missing\.test lists no pattern; all_subsets takes every subset$"):
        parse_test_patterns([], BENCHMARK, "missing.test")


MANY = [f"m{i}" for i in range(12)]


@pytest.mark.parametrize("spec", ["none", "complete", "m0+m11", {"random_subset": {"only": ["m0", "m1+m2"]}}])
def test_patterns_of_more_modalities_than_have_their_subsets_listed(spec):
    assert parse_pattern(spec, MANY, "missing.test")


@pytest.mark.parametrize("spec", ["all_subsets", "random_subset"])
def test_all_subsets_of_very_many_modalities_are_refused(spec):
    with pytest.raises(AqaError, match="12 modalities have too many subsets to list; name the subsets to use"):
        parse_pattern(spec, MANY, "missing.train")


def test_a_shift_beyond_any_video_is_refused():
    with pytest.raises(AqaError, match="missing pattern 'shift', option 'clips': must be less than 2147483648"):
        parse_pattern({"shift": {"clips": 10**22}}, ["visual", "audio"], "patterns")


@pytest.mark.parametrize("given", [12, "12"])
def test_initials_may_be_digits(given):
    assert parse_pattern(given, ["1rgb", "2flow"], "missing.train").name == "12"
    assert list(parse_test_patterns([given, 1], ["1rgb", "2flow"], "missing.test")) == ["12", "1"]


@pytest.mark.parametrize(("typed", "names"), [("NO,N", ["NO", "N"]), ("[NO, O]", ["NO", "O"]), ("NO", ["NO"])])
def test_initials_that_spell_a_word_of_yaml_are_initials(typed, names):
    spec = patterns_of_text(typed, "patterns")
    assert list(parse_test_patterns(spec, ["neural", "optical"], "patterns")) == names


@pytest.mark.parametrize(("typed", "names"), [("12", ["12"]), ("[1, 2]", ["1", "2"]), ("2,1", ["2", "1"])])
def test_typed_initials_may_be_digits(typed, names):
    spec = patterns_of_text(typed, "patterns")
    assert list(parse_test_patterns(spec, ["1rgb", "2flow"], "patterns")) == names
