"""A few kills of the campaign: enough to see that it finds what it looks for, and that nothing is lost."""

import pytest

from stress import kills


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    return folder, kills.made(folder, epochs=3)


@pytest.mark.parametrize(
    ("name", "how", "count"),
    [("run", "kill", 2), ("run", "die", 1), ("tune", "kill", 1), ("prepare", "full", 1), ("report", "die", 2)],
)
def test_what_is_killed_goes_on_to_the_same_files(commands, capsys, name, how, count):
    folder, known = commands
    assert kills.campaign(name, known[name], folder / f"{name}-{how}", how, count, seed=0), capsys.readouterr().out
    assert f"identical {count} of {count}" in capsys.readouterr().out


def test_a_loss_would_be_found(tmp_path):
    (tmp_path / "a").write_text("1")
    expected = kills.left(tmp_path)
    (tmp_path / "a").write_text("2")
    (tmp_path / ".b.txt.x.partial").write_text("")
    assert kills.differences(kills.left(tmp_path), expected) == "differ: .b.txt.x.partial, a"
    assert kills.half_done(tmp_path)
