"""The list of installed packages."""

import importlib.metadata

from aqa.system.packages import installed_packages


def test_it_is_what_python_itself_knows_in_the_same_order():
    found = installed_packages()
    assert found == [(each.metadata["Name"], each.version) for each in importlib.metadata.distributions()]
    assert ("torch", importlib.metadata.version("torch")) in found


def test_only_the_header_of_metadata_counts_and_what_has_none_is_left_out(tmp_path, monkeypatch):
    texts = {
        "good-1.0.dist-info/METADATA": b"name:  good\nVersion: 1.0 \n\nName: other\nVersion: 9\n",
        "old-2.egg-info/PKG-INFO": b"Metadata-Version: 1.0\r\nName: old\r\nVersion: 2\r\n\r\nName: none\r\n",
        "older-3.egg-info": b"Name: older\nVersion: 3\n",
        "nameless-1.0.dist-info/METADATA": b"Version: 1.0\n\nName: nameless\n",
        "empty-1.0.dist-info/METADATA": b"",
        "bytes-1.0.dist-info/METADATA": b"Name: \xff\nVersion: 1.0\n",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
    (tmp_path / "gone-1.0.dist-info").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert sorted(installed_packages()) == [("good", "1.0"), ("old", "2"), ("older", "3")]
