"""A mistake on the command line is answered by what to type instead."""

import shlex
from pathlib import Path

import pytest

from aqa.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text("name: x\ndata: {store: s.h5, target: t}\n")


def said(command, capsys):
    assert main(shlex.split(command)[1:]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.rstrip("\n")


@pytest.mark.parametrize(
    ("option", "change"),
    [
        ("--epochs 5", "train.epochs=5"),
        ("--epochs=5", "train.epochs=5"),
        ("--train.epochs 5", "train.epochs=5"),
        ("--output X", "output=X"),
        ("--output --overwrite", "output=VALUE"),
        ("--seed", "train.seed=VALUE"),
        ("--learning-rate 1e-3", "train.learning_rate=1e-3"),
        ("--batch_size 8", "train.batch_size=8"),
        ("--target PCS", "data.target=PCS"),
        ("--model mome", "model.name=mome"),
        ("--split test", "select.split=test"),
        ("--wandb offline", "tracking.wandb=offline"),
        ("--name x", "name=x"),
    ],
)
def test_a_change_written_as_an_option_is_shown_as_a_change(capsys, option, change):
    name = option.split()[0].partition("=")[0]
    assert said(f"aqa run e.yaml {option}", capsys) == (
        f"aqa: No such option: {name}; a change to the experiment is written without dashes: {change}"
    )


def test_an_option_that_is_no_key_either_is_told_how_changes_are_written(capsys):
    assert said("aqa run e.yaml --lr 3", capsys) == (
        "aqa: No such option: --lr; a change to the experiment is written KEY=VALUE, such as train.epochs=5"
    )
    assert said("aqa run e.yaml --overwite", capsys).endswith("--overwite (Possible options: --overwrite)")
    assert said("aqa evaluate runs/x --epochs 3", capsys).startswith("aqa: No such option: --epochs")
    assert "without dashes" not in said("aqa evaluate runs/x --epochs 3", capsys)


@pytest.mark.parametrize(
    ("command", "right"),
    [
        ("aqa run e.yaml missing.train={rates: 0.3}", "missing.train='{rates: 0.3}'"),
        (
            "aqa run e.yaml train.seed=1 missing.test=[VA, {rates: {audio: 0.5}}] x=1",
            "missing.test='[VA, {rates: {audio: 0.5}}]'",
        ),
        ("aqa evaluate runs/x --patterns [VA, {rates: 0.5}]", "'[VA, {rates: 0.5}]'"),
        ("aqa evaluate runs/x --patterns {rates: 0.5} --split valid", "'{rates: 0.5}'"),
    ],
)
def test_a_value_that_the_shell_split_is_shown_in_quotes(capsys, command, right):
    assert said(command, capsys).endswith(f"the shell splits at spaces what is not quoted: write {right}")


def test_brackets_that_no_word_closes_are_left_to_the_parser(capsys):
    assert said("aqa run e.yaml missing.train={rates: train.seed=1", capsys).endswith("the value is not valid YAML")
