"""Search spaces: what may be searched, and between what."""

import pytest

from aqa.errors import AqaError
from aqa.sweeps.space import Choices, Range, described, parse_space


def parsed(content):
    return parse_space(content, lambda key: f"t.yaml, {key}")


def test_every_form_of_a_range_and_a_list():
    space = parsed(
        {
            "train.learning_rate": {"log": [1e-4, 1e-2]},
            "model.dropout": {"float": [0, 0.5]},
            "model.n_encoder": {"int": [1, 3]},
            "missing.train": ["none", {"rates": 0.3}],
        }
    )
    assert space["train.learning_rate"] == Range("log", 1e-4, 1e-2)
    assert space["model.n_encoder"].ends() == [1, 3]
    assert space["missing.train"] == Choices({"none": "none", "{rates: 0.3}": {"rates": 0.3}})
    assert described(space) == {
        "train.learning_rate": "0.0001 to 0.01 (log)",
        "model.dropout": "0 to 0.5",
        "model.n_encoder": "1 to 3",
        "missing.train": "one of none, {rates: 0.3}",
    }


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("train.learning_rat", [1], "train.learning_rat is not one of .*did you mean 'train.learning_rate'"),
        ("select.metric", ["srcc", "mse"], "select.metric is not one of the settings that a search may choose"),
        ("missing.test", ["VA"], "missing.test is not one of"),
        ("data.validation", [0.1, 0.2], "data.validation is not one of"),
        ("train.seed", [0, 1], "train.seed is not searched; list its values under seeds"),
        ("model.name", ["mome", "ridge"], "model.name is not searched; list its values under models"),
        ("train.epochs", [], "lists no value"),
        ("train.epochs", [5, 5], "lists a value twice"),
        ("train.epochs", 5, "expected a list of choices, {log: .low, high.}"),
        ("train.epochs", {"int": [1, 5], "step": 2}, "expected a list of choices"),
        ("train.epochs", {"itn": [1, 5]}, "unknown 'itn': did you mean 'int'"),
        ("train.epochs", {"int": [1.5, 5]}, "int needs two whole numbers"),
        ("train.epochs", {"int": 5}, "int needs two whole numbers"),
        ("train.epochs", {"int": [True, 5]}, "int needs two whole numbers"),
        ("train.learning_rate", {"log": [0, 1]}, "log needs numbers above 0"),
        ("train.learning_rate", {"log": [1e-2, 1e-4]}, "needs a low end below the high one"),
        ("train.learning_rate", {"float": [0.1, float("inf")]}, "float needs two numbers"),
        ("train.learning_rate", {"float": ["a", 1]}, "float needs two numbers"),
    ],
)
def test_what_is_no_space_is_one_line(key, value, problem):
    with pytest.raises(AqaError, match=rf"^t\.yaml, {key}: .*{problem}") as found:
        parsed({key: value})
    assert "\n" not in str(found.value)


def test_a_setting_and_a_part_of_it_are_not_searched_together():
    with pytest.raises(AqaError, match=r"missing.train and missing.train.rates cannot both be searched"):
        parsed({"missing.train": ["none", "random_subset"], "missing.train.rates": {"float": [0, 1]}})
