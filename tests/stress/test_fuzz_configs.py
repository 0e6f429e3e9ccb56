"""A sample of what the program tries by the thousand, and that its oracle can tell."""

from collections import Counter

import pytest

from aqa.config.schema import Experiment
from aqa.modalities import subsets
from aqa.models import MODELS
from aqa.registry import option_names
from stress.config_cases import KEYS, OPTIONS, REQUIRED, Case, names_of
from stress.config_mistakes import case_of, sweep_case_of
from stress.fuzz_configs import Outcome, _wrong_with_refusal, _wrong_with_run, run, try_case, try_sweep, workplace

# Of two numbers one is a right file, which takes a run; most of the time goes to the others.
NUMBERS = [*range(0, 60, 2), *range(1, 241, 2)]


@pytest.fixture(scope="module")
def folder():
    with workplace() as place:
        yield place


@pytest.mark.parametrize("part", range(5))
def test_right_files_run_and_the_others_are_one_clear_line(folder, part):
    wrong = {}
    for number in NUMBERS[part::5]:
        case = case_of(number, seed=7)
        problem = try_case(case, folder)[1]
        if problem is not None:
            wrong[number, case.kind] = problem
    assert not wrong


def test_sweeps_too(folder):
    wrong = {number: try_sweep(sweep_case_of(number, seed=7), folder)[1] for number in range(20)}
    assert not {number: problem for number, problem in wrong.items() if problem is not None}


def test_cases_come_by_their_number_and_are_of_every_kind():
    assert case_of(12) == case_of(12) != case_of(12, seed=1)
    kinds = Counter(case_of(number).kind.split(":")[0] for number in range(600))
    assert len(kinds) >= 18
    assert kinds["valid"] + kinds["valid with overrides"] == 300


def test_what_is_right_is_written_down_for_every_key_and_for_no_option_that_there_is_not():
    known = set()
    for name, field in Experiment.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        known |= {name} if inner is None else {f"{name}.{key}" for key in inner}
    apart = {
        "targets",
        "versions",
        "fingerprint",
        "store_was_at",
        "model_options",
        "imported",
        "data.synthetic",
        "data.modalities",
        "missing.train",
        "missing.test",
    }
    assert set(KEYS) == known - apart
    assert {key for key in REQUIRED if "." not in key} == {"name"}
    assert set(OPTIONS) <= set().union(*(option_names(MODELS.get(name).make) for name in MODELS.names()))
    for modalities in (["visual", "audio", "flow"], ["face", "flow"], ["pose"]):
        assert sorted(names_of(modalities)) == sorted(subsets(modalities))


RIGHT = Case("valid", "", "valid")
WRONG = Case("misspelt key", "", "invalid", hints=("train.epoch",))


@pytest.mark.parametrize(
    ("case", "outcome", "problem"),
    [
        (WRONG, Outcome(2, "", "aqa: e.yaml: unknown key 'train.epoch'\n", 0), None),
        (WRONG, Outcome(2, "", "aqa: unknown key\n", 0), "does not say"),
        (WRONG, Outcome(2, "", "aqa: train.epoch\nmore\n", 0), "not one line"),
        (WRONG, Outcome(2, "a table", "aqa: train.epoch\n", 0), "not one line"),
        (WRONG, Outcome(2, "", "aqa: train.epoch" + "x" * 2000, 0), "2016 characters"),
        (WRONG, Outcome(1, "", "aqa: train.epoch\n", 0), "status 1"),
        (RIGHT, Outcome(2, "", "aqa: train.epoch\n", 0), "a right file is refused"),
    ],
)
def test_the_oracle_knows_a_good_refusal(case, outcome, problem):
    said = _wrong_with_refusal(case, outcome, untouched=True)
    assert said is None if problem is None else problem in said


def test_the_oracle_knows_a_good_run():
    good = Outcome(0, "selected on valid", "run folder: x", 0)
    assert _wrong_with_run(RIGHT, good) is None
    assert "went through" in _wrong_with_run(WRONG, good)
    assert "warning" in _wrong_with_run(RIGHT, Outcome(0, good.out, good.err + "x.py:1: UserWarning: y", 0))
    assert "nothing" in _wrong_with_run(RIGHT, Outcome(0, "", "", 0))
    assert "left behind" in _wrong_with_refusal(WRONG, Outcome(2, "", "aqa: train.epoch", 0), untouched=False)


def test_a_traceback_and_no_end_are_caught(monkeypatch):
    def broken(arguments):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("stress.fuzz_configs.aqa_main", broken)
    found = run(["run"])
    assert found.status is None
    assert "ZeroDivisionError: by zero" in found.err

    def endless(arguments):
        while True:
            pass

    monkeypatch.setattr("stress.fuzz_configs.aqa_main", endless)
    monkeypatch.setattr("stress.fuzz_configs.SECONDS", 0.05)
    assert "no end after" in run(["run"]).err
