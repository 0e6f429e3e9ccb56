"""Downloads as they are unpacked: what macOS adds is skipped, files of another kind are named as what they are."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from aqa.data_prep.files import find
from aqa.data_prep.npy import load_npy, load_npz
from aqa.data_prep.prepare import prepare
from aqa.errors import AqaError


def test_what_macos_adds_is_skipped_and_said(fs1000, tmp_path):
    root, _ = fs1000
    folder = root / "ast_feature_fs1000_new"
    (folder / "._2019_GP_Pairs_Sui.npy").write_bytes(b"\0\5\x16\7")
    (root / "__MACOSX" / folder.name).mkdir(parents=True)
    (root / "__MACOSX" / folder.name / "._2019_GP_Pairs_Sui.npy").write_bytes(b"\0\5\x16\7")
    said = prepare("fs1000", tmp_path / "x.h5", source=root)
    assert said.endswith("skipped: 2 files that macOS added to an archive (._NAME, __MACOSX)")


def test_copies_are_named(fs1000, tmp_path):
    root, _ = fs1000
    folder = root / "ast_feature_fs1000_new"
    (folder / "2019_GP_Pairs_Sui (1).npy").write_bytes((folder / "2019_GP_Pairs_Sui.npy").read_bytes())
    with pytest.raises(AqaError, match=r"1 sample.*\n  2019_GP_Pairs_Sui \(1\): features named like a copy"):
        prepare("fs1000", tmp_path / "x.h5", source=root)


@pytest.mark.parametrize(
    ("wanted", "there", "hint"),
    [
        ("FISV_audio_AST.npy", "FISV_rgb_VST.npy", "no file of a similar name is there"),
        ("FISV_audio_AST.npy", "FISV_audio_AST (1).npy", "'FISV_audio_AST (1).npy' is named like a copy"),
        ("FISV_audio_AST.npy", "FISV_audio_AST.npz", "'FISV_audio_AST.npz' is an .npz archive"),
        ("FISV_audio_AST.npy", "._FISV_audio_AST.npy", "no .npy is there"),
        ("Ball_rgb_VST.npy", "Hoop_rgb_VST.npy", "no file of a similar name"),
        ("train.txt", "test.txt", "no file of a similar name"),
        ("audio_train.h5", "y_train.h5", "no file of a similar name"),
        ("FISV_audio_AST.npy", "fisv_audio_ast.npy", "did you mean 'fisv_audio_ast.npy'"),
    ],
)
def test_hints(tmp_path, wanted, there, hint):
    (tmp_path / there).write_bytes(b"x")
    with pytest.raises(AqaError) as error:
        find(tmp_path, wanted)
    assert hint in str(error.value)


KINDS = {
    "is empty": b"",
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "is a web page": b"\n<!DOCTYPE html><html></html>",
    "is a zip archive that is damaged": b"PK\x03\x04abc",
    "is compressed with gzip": b"\x1f\x8b\x08",
    "is a plain pickle": pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("said", KINDS)
def test_a_file_of_another_kind_is_named(tmp_path, said):
    (tmp_path / "x.npy").write_bytes(KINDS[said])
    for load in (load_npy, lambda path: load_npz(path, ("a", "b"))):
        with pytest.raises(AqaError, match=rf"x\.npy {said}"):
            load(tmp_path / "x.npy")


def test_an_npz_archive_with_the_name_of_an_array(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, a=np.zeros((2, 3)))
    with pytest.raises(AqaError, match=r"x\.npy is an \.npz archive; write its array with numpy\.save"):
        load_npy(tmp_path / "x.npy")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    for load in (load_npy, lambda path: load_npz(path, ("a",))):
        with pytest.raises(AqaError, match="is a pipe, not a file"):
            load(tmp_path / "x")


def test_messages_name_the_words_of_the_command_line_and_of_python(tmp_path):
    with pytest.raises(AqaError, match=r"^aqa prepare fisv needs --source \(in Python: source=\), the folder of"):
        prepare("fisv", tmp_path / "x.h5")
    with pytest.raises(AqaError, match=r"^--source \(in Python: source=\): .*gone does not exist$"):
        prepare("fisv", tmp_path / "x.h5", source=tmp_path / "gone")
    with pytest.raises(AqaError, match=r"^--on-error \(in Python: on_error=\) is 'drop'"):
        prepare("fisv", tmp_path / "x.h5", source=tmp_path, on_error="drop")
