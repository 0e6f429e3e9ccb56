"""Names of files and anchors are short, and no two are alike."""

from aqa.reporting.naming import unique_names


def test_plain_names_are_kept():
    assert unique_names([("patterns", "fisv", "TES"), ("worth", "fisv", "TES")]) == [
        "patterns-fisv-TES",
        "worth-fisv-TES",
    ]


def test_names_that_would_be_alike_get_a_digest():
    keys = [("a", "b-c"), ("a-b", "c"), ("A", "b c"), ("**b**",), ("b",), ("...",), ("",), ("runs",)]
    names = unique_names(keys, taken=["runs"])
    assert len({name.lower() for name in [*names, "runs"]}) == len(keys) + 1
    assert all(names)


def test_long_names_are_cut():
    names = unique_names([("x" * 240 + end,) for end in "ab"] + [("\u6280" * 100,)])
    assert len(set(names)) == 3
    assert max(len(name.encode()) for name in names) < 80
