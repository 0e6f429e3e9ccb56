"""Named things find themselves, and their options are checked against their signatures."""

from __future__ import annotations

import sys
from typing import Literal

import pytest

from aqa.config.overrides import parse_override
from aqa.errors import AqaError, nearest
from aqa.models import MODELS, build
from aqa.registry import Natural, Positive, Registry, Several, Share, check_options, option_names


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose module registers a thing in the registry that this returns."""
    folder = tmp_path / "things_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("from aqa.registry import Registry\nTHINGS = Registry('thing', __name__)\n")
    (folder / "one.py").write_text(
        "from things_of_a_test import THINGS\n"
        "@THINGS.register('alpha', year=2025)\n"
        "class Alpha:\n"
        "    '''The first thing.\n\n    And more.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import things_of_a_test

    yield things_of_a_test.THINGS
    for name in [name for name in sys.modules if name.startswith("things_of_a_test")]:
        del sys.modules[name]


def test_a_module_of_the_package_is_found_without_being_imported_by_anyone(package):
    assert package.names() == ["alpha"]
    entry = package.get("alpha")
    assert entry.make.__name__ == "Alpha"
    assert entry.summary == "The first thing."
    assert entry.about == {"year": 2025}


def test_entries_are_sorted_by_name(package):
    package.register("zeta")(lambda: None)
    package.register("beta")(lambda: None)
    assert package.names() == ["alpha", "beta", "zeta"]
    assert [entry.summary for entry in package.entries()] == ["The first thing.", "", ""]


def test_an_unknown_name_is_a_mistake_with_the_nearest_one(package):
    with pytest.raises(AqaError, match=r"^unknown thing 'alhpa': did you mean 'alpha'\?$"):
        package.get("alhpa")
    with pytest.raises(AqaError, match=r"^unknown thing 'mcmoe': known: alpha$"):
        package.get("mcmoe")


def test_two_things_of_one_name_are_refused_and_a_reloaded_one_is_not():
    registry: Registry = Registry("thing", "aqa.errors")

    def first():
        """First."""

    registry.register("a")(first)
    registry.register("a")(first)
    with pytest.raises(ValueError, match="two things are called 'a'"):
        registry.register("a")(lambda: None)


class Thing:
    def __init__(self, widths, *, dim: int, rate: float = 0.1, kind: Literal["soft", "hard"] = "soft"):
        pass


def make_thing(*, names: list[str] | None = None, anything=3):
    pass


def test_options_get_their_types_and_defaults():
    assert check_options(Thing, {"dim": 8, "rate": "2e-4"}, "thing") == {"dim": 8, "rate": 2e-4, "kind": "soft"}
    assert check_options(make_thing, {"names": ["a"]}, "thing") == {"names": ["a"], "anything": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dmi": 8}, "thing 'x' has no option 'dmi': did you mean 'dim'?"),
        ({"widths": 8}, "thing 'x' has no option 'widths': known: dim, rate, kind"),
        ({3: 8}, "thing 'x' has no option '3': known: dim, rate, kind"),
        ({}, "thing 'x', option 'dim': it is missing"),
        ({"dim": 1.5}, "thing 'x', option 'dim': must be a whole number, got 1.5"),
        ({"dim": "many"}, "thing 'x', option 'dim': must be a whole number"),
        ({"dim": 8, "kind": "firm"}, "thing 'x', option 'kind': must be 'soft' or 'hard', got 'firm'"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line_that_names_the_option(options, message):
    with pytest.raises(AqaError) as error:
        check_options(Thing, options, "thing 'x'")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("tes", ["TES", "PCS"], "did you mean 'TES'?"),
        ("batchsize", ["batch_size", "epochs"], "did you mean 'batch_size'?"),
        ("xyz", ["visual", "audio"], "known: visual, audio"),
        ("dev", ["train", "valid", "train", "valid"], "known: train, valid"),
        ("AV", ["VAF", "A", "V", "VA", "AF"], "did you mean 'VA'?"),
        ("fva", ["VA", "VF", "VAF"], "did you mean 'VAF'?"),
        ("audio+visual", ["visual", "visual+audio"], "did you mean 'visual+audio'?"),
        ("xyz", [], "known: none"),
    ],
)
def test_the_hint_for_an_unknown_name(name, known, hint):
    assert nearest(name, iter(known)) == hint


class Base:
    def __init__(self, widths, *, width: int = 3, rate: float = 0.5):
        self.width, self.rate = width, rate


class Passing(Base):
    def __init__(self, widths, *, rate: float = 0.1, extra: bool = False, **options):
        super().__init__(widths, rate=rate, **options)


class Inheriting(Passing):
    """No `__init__` of its own."""


class Closed(Base):
    def __init__(self, widths, *, extra: bool = False):
        super().__init__(widths)


@pytest.mark.parametrize("make", [Passing, Inheriting])
def test_options_that_are_passed_on_are_those_of_the_base_class_as_well(make):
    assert check_options(make, {"width": 4}, "it") == {"rate": 0.1, "extra": False, "width": 4}
    with pytest.raises(AqaError, match="did you mean 'width'"):
        check_options(make, {"widht": 4}, "it")


def test_a_class_that_passes_nothing_on_has_its_own_options_alone():
    assert check_options(Closed, {}, "it") == {"extra": False}
    with pytest.raises(AqaError, match="it has no option 'rate'"):
        check_options(Closed, {"rate": 0.2}, "it")


class Bounded:
    def __init__(
        self,
        *,
        width: Positive | None = 4,
        layers: Natural = 0,
        grades: Several = 2,
        rate: Share = 0.1,
        weight: float = 1.0,
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "it, option 'width': must be 1 or more, got 0"),
        ({"layers": -1}, "it, option 'layers': must be 0 or more, got -1"),
        ({"grades": 1}, "it, option 'grades': must be 2 or more, got 1"),
        ({"rate": 1}, "it, option 'rate': must be less than 1, got 1"),
        ({"rate": -0.1}, "it, option 'rate': must be 0 or more, got -0.1"),
        ({"rate": float("nan")}, "it, option 'rate': must be "),
        ({"weight": float("nan")}, "it, option 'weight': must be a finite number, got nan"),
        ({"weight": float("inf")}, "it, option 'weight': must be a finite number, got inf"),
    ],
    ids=str,
)
def test_the_bounds_that_a_type_names_are_kept(options, message):
    right = {"width": None, "layers": 0, "grades": 2, "rate": 0.999, "weight": -3.0}
    assert check_options(Bounded, right, "it", finite=True) == right
    with pytest.raises(AqaError) as error:
        check_options(Bounded, options, "it", finite=True)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", MODELS.names())
def test_models_refuse_sizes_that_are_none(name):
    """A width of 0 would have stood for the default, or ended in a traceback."""
    widths = {"visual": 4, "audio": 3}
    taken = option_names(MODELS.get(name).make)
    given = {"llm": "folder"} if "llm" in taken else {}
    for option, value in {"hidden_dim": 0, "n_head": 0, "n_query": 1, "feedforward_dim": 0, "dropout": 1.5}.items():
        if option in taken:
            with pytest.raises(AqaError, match=option):
                build(name, widths=widths, **given, **{option: value})


@pytest.mark.parametrize(("given", "quoted"), [(7, '"7"'), (1.5, '"1.5"'), (True, '"true"')])
def test_a_number_where_an_option_is_text_is_told_how_to_write_it(given, quoted):
    def make(*, note: str = ""):
        return note

    with pytest.raises(AqaError, match=f"option 'note': must be text, got {given}; it is text in quotes: '{quoted}'$"):
        check_options(make, {"note": given}, "model 'own'")
    assert check_options(make, {"note": parse_override(f"note={quoted}")[1]}, "model 'own'") == {"note": quoted[1:-1]}
