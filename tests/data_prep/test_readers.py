"""Each benchmark end to end: from files in the published layout to a store with the same values."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from aqa.data_prep import DATASETS
from aqa.data_prep.convert import convert
from aqa.data_prep.fs1000 import skater_of
from aqa.data_prep.npy import load_npy
from aqa.data_prep.prepare import prepare as prepare_named
from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def prepare(name, source, out, **options):
    return convert(DATASETS.get(name).make(Path(source)), out, **options)


def save_mapping(path, samples):
    np.save(path, np.array(samples, dtype=object), allow_pickle=True)


def assert_features(store, features):
    assert store.modalities == ("visual", "audio", "flow")
    for modality in store.modalities:
        for row, i in enumerate(store.ids):
            np.testing.assert_allclose(store.read_sample(modality, row), features[modality][i], rtol=1e-6)


def test_registered():
    assert {"fisv", "rg", "fs1000", "pom"} <= set(DATASETS.names())
    with pytest.raises(AqaError, match="unknown data set 'fs100': did you mean 'fs1000'"):
        DATASETS.get("fs100")


def test_fisv(fisv, tmp_path):
    root, features = fisv
    summary = prepare("fisv", root, tmp_path / "x.h5")
    assert summary.unequal == 1
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.ids == ["1", "2", "3", "5", "4", "6"]
        assert store.widths == {"visual": 1024, "audio": 768, "flow": 1024}
        assert store.attributes["flow"]["extractor"] == "I3D"
        assert store.targets["TES"].values.tolist() == [28.71, 28.79, 32.2, 20, 32.21, 24.76]
        assert store.targets["PCS"].values.tolist() == [29.36, 27.89, 28.9, 21.5, 28.57, 25.11]
        assert (store.targets["TES"].high, store.targets["PCS"].high) == (45, 40)
        assert store.split("test").tolist() == [4, 5]
        assert_features(store, features)
    assert inspect_store(tmp_path / "x.h5").usable


def test_fisv_original_annotation(fisv, tmp_path):
    root, _ = fisv
    for split in ("train", "test"):
        lines = (root / f"{split}.txt").read_text().splitlines()[1:]
        (root / f"{split}.txt").unlink()
        (root / f"{split}_dataset.txt").write_text("".join(f"{line} 1\n" for line in lines))
    prepare("fisv", root, tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.targets["PCS"].values.tolist() == [29.36, 27.89, 28.9, 21.5, 28.57, 25.11]


@pytest.mark.skipif(not (SHARED / "fisv_labels").is_dir(), reason="the Fis-V annotation is not on this machine")
def test_fisv_real_annotation(tmp_path):
    for file in (SHARED / "fisv_labels").glob("*.txt"):
        shutil.copy(file, tmp_path)
    ids = [line.split()[0] for file in tmp_path.glob("*.txt") for line in file.read_text().splitlines()]
    for name, width in (("FISV_rgb_VST", 1024), ("FISV_audio_AST", 768), ("FISV_flow_I3D", 1024)):
        save_mapping(tmp_path / f"{name}.npy", {i: np.full((1, width), float(i), dtype=np.float32) for i in ids})
    summary = prepare("fisv", tmp_path, tmp_path / "x.h5")
    assert {name: len(ids) for name, ids in summary.splits.items()} == {"train": 400, "test": 100}
    with FeatureStore(tmp_path / "x.h5") as store:
        row = store.ids.index("17")
        assert (store.targets["TES"].values[row], store.targets["PCS"].values[row]) == (24.76, 25.11)
        assert (store.read("audio")[:, 0] == np.array(store.ids, dtype=float)).all()


def test_rg(rg, tmp_path):
    root, features = rg
    prepare("rg", root, tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert list(store.targets) == ["Ball", "Clubs", "Hoop", "Ribbon"]
        assert len(store.split("train")) == 8
        assert len(store.split("test")) == 4
        hoop = store.targets["Hoop"]
        assert (hoop.low, hoop.high) == (0, 25)
        assert [i for i, score in zip(store.ids, hoop.values, strict=True) if score == score] == [
            "Hoop_000",
            "Hoop_001",
            "Hoop_002",
        ]
        assert store.targets["Ribbon"].values[store.ids.index("Ribbon_001")] == 14.6
        assert_features(store, features)
    assert inspect_store(tmp_path / "x.h5").usable


def test_rg_problems(rg, tmp_path):
    root, _ = rg
    with (root / "train.txt").open("a") as file:
        file.write("Rope_001 5 5 10\nBall_000 5 5 10\n")
    with pytest.raises(AqaError) as error:
        prepare("rg", root, tmp_path / "x.h5")
    assert "Rope_001: name without an apparatus (expected Ball, Clubs, Hoop, Ribbon)" in str(error.value)
    assert "Ball_000: labelled twice (in train)" in str(error.value)
    prepare("rg", root, tmp_path / "x.h5", on_error="skip")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert len(store) == 11
        assert "Ball_000" not in store.ids


def test_fs1000(fs1000, tmp_path):
    root, features = fs1000
    prepare("fs1000", root, tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.ids == ["2018_Final_MF_Junhwan", "2018_Final_LF_Alina", "2019_GP_Pairs_Sui"]
        assert set(store.targets) == {"TES", "PCS", "SS", "TR", "PE", "CO", "IN"}
        np.testing.assert_allclose(store.targets["PCS"].values, [42.1, 38.0, 44.0])
        assert store.targets["TES"].values.tolist() == [80.5, 75.1, 110.25]
        assert store.targets["IN"].values.tolist() == [8.5, 9.3, 9.1]
        assert [store.targets[t].high for t in ("TES", "PCS", "SS")] == [130, 60, 10]
        assert store.split("test").tolist() == [2]
        assert_features(store, features)
    assert inspect_store(tmp_path / "x.h5").usable


def test_fs1000_reads_each_file_once_though_it_looks_at_each_header_before(fs1000, tmp_path, monkeypatch):
    root, features = fs1000
    loaded = []
    monkeypatch.setattr("aqa.data_prep.fs1000.load_npy", lambda path: loaded.append(path) or load_npy(path))
    prepare("fs1000", root, tmp_path / "x.h5")
    assert len(loaded) == len(set(loaded)) == sum(map(len, features.values()))


def test_fs1000_visual_already_averaged(fs1000, tmp_path):
    root, features = fs1000
    for name, clips in features["visual"].items():
        np.save(root / "output_feature_fs1000_new" / f"{name}.npy", clips)
    prepare("fs1000", root, tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert_features(store, features)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{} 75.1 60.8 9.25 9.0 9.5 9.4 9.3 0", "{}: PCS factor that is not positive (0)"),
        ("{} 75.1 60.8 9.25 9.0 9.5 9.4 9.3", "{}: label line of another form (train_fs1000_new.txt line 2: 7 values)"),
        ("{} 75.1 x 9.25 9.0 9.5 9.4 9.3 1.6", "{}: label that is not a number (train_fs1000_new.txt line 2: PCS 'x')"),
        ("{} 75.1 60 9.25 9 9.5 9 nan 1.6", "{}: label that is not a number (train_fs1000_new.txt line 2: IN 'nan')"),
        ("{} 75.1 60.8 9.25 9.0 9.5 9.4 9.3 1.0", "{}: label outside its range (PCS 60.8, range 0 to 60)"),
    ],
)
def test_fs1000_label_problems(fs1000, tmp_path, line, message):
    root, _ = fs1000
    name = "2018_Final_LF_Alina"
    labels = root / "train_fs1000_new.txt"
    labels.write_text(labels.read_text().splitlines()[0] + "\n" + line.format(name) + "\n")
    with pytest.raises(AqaError) as error:
        prepare("fs1000", root, tmp_path / "x.h5")
    assert str(error.value).splitlines()[1:] == ["  " + message.format(name)]
    prepare("fs1000", root, tmp_path / "x.h5", on_error="skip")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.ids == ["2018_Final_MF_Junhwan", "2019_GP_Pairs_Sui"]


def test_fs1000_feature_problems(fs1000, tmp_path):
    root, _ = fs1000
    audio = root / "ast_feature_fs1000_new"
    (audio / "2019_GP_Pairs_Sui.npy").unlink()
    whole = (audio / "2018_Final_LF_Alina.npy").read_bytes()
    (audio / "2018_Final_LF_Alina.npy").write_bytes(whole[:5000])
    np.save(root / "i3d_avg_clip8_5s_fs1000" / "2018_Final_MF_Junhwan.npy", np.array({}, dtype=object))
    with pytest.raises(AqaError) as error:
        prepare("fs1000", root, tmp_path / "x.h5")
    message = str(error.value)
    assert message.startswith("fs1000: 3 samples with problems (2 features that cannot be read, 1 label without")
    assert "2018_Final_LF_Alina.npy is cut off" in message
    assert "2018_Final_MF_Junhwan.npy holds a dict" in message
    assert "2019_GP_Pairs_Sui: label without features (audio)" in message


def test_label_header_is_told_from_a_bad_first_line(fisv, tmp_path):
    root, _ = fisv
    (root / "test.txt").write_text("4 x y\n6 24.76 25.11\n")
    with pytest.raises(AqaError, match=r"4: label that is not a number \(test.txt line 1: TES 'x'\)"):
        prepare("fisv", root, tmp_path / "x.h5")


def test_label_files_that_cannot_be_read(fisv, tmp_path):
    root, _ = fisv
    (root / "test.txt").write_text("id TES PCS\n")
    with pytest.raises(AqaError, match=r"test\.txt holds no labels"):
        prepare("fisv", root, tmp_path / "x.h5")
    (root / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AqaError, match=r"test\.txt cannot be read as text"):
        prepare("fisv", root, tmp_path / "x.h5")


def test_missing_and_doubled_files(fisv, tmp_path):
    root, _ = fisv
    feature = root / "Fis-feature" / "FISV_audio_AST.npy"
    feature.rename(feature.with_name("FISV_audio_AST1.npy"))
    with pytest.raises(AqaError, match=r"FISV_audio_AST\.npy not found under .*; did you mean 'FISV_audio_AST1\.npy'"):
        prepare("fisv", root, tmp_path / "x.h5")
    (root / "train.txt").rename(root / "labels.txt")
    with pytest.raises(AqaError, match=r"train\.txt or train_dataset\.txt not found under"):
        prepare("fisv", root, tmp_path / "x.h5")
    (root / "labels.txt").rename(root / "train.txt")
    (root / "old").mkdir()
    shutil.copy(root / "train.txt", root / "old")
    with pytest.raises(AqaError, match=r"found 2 times: .*Fis-V/old/train\.txt, .*Fis-V/train\.txt"):
        prepare("fisv", root, tmp_path / "x.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AqaError, match=r"train\.txt or train_dataset\.txt not found under .*empty; no \.txt is there"):
        prepare("fisv", tmp_path / "empty", tmp_path / "x.h5")
    with pytest.raises(AqaError, match="nowhere is not a folder"):
        prepare("fisv", tmp_path / "nowhere", tmp_path / "x.h5")


def test_missing_folder(fs1000, tmp_path):
    root, _ = fs1000
    (root / "ast_feature_fs1000_new").rename(root / "ast_feature_fs1000")
    with pytest.raises(AqaError, match=r"ast_feature_fs1000_new not found under .*; did you mean 'ast_feature_fs1000'"):
        prepare("fs1000", root, tmp_path / "x.h5")


def test_what_is_no_file_is_not_waited_for(fisv):
    root, _ = fisv
    (root / "train.txt").unlink()
    os.mkfifo(root / "train.txt")
    with pytest.raises(AqaError, match=r"train\.txt is a pipe, not a file"):
        DATASETS.get("fisv").make(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id TES PCS\n" + b"1 2 3\n" * 2**4, r"train\.txt has 107 bytes; a label file has 64 at most"),
        (b"\xff\xfe1 2 3", r"train\.txt cannot be read as text"),
        (b"", r"train\.txt holds no labels"),
    ],
    ids=["large", "no text", "empty"],
)
def test_label_files_of_another_kind(fisv, monkeypatch, content, message):
    root, _ = fisv
    monkeypatch.setattr("aqa.data_prep.labels.MOST_BYTES", 64)
    (root / "train.txt").write_bytes(content)
    with pytest.raises(AqaError, match=message):
        DATASETS.get("fisv").make(root)


@pytest.mark.parametrize("line", ['"1 2 3', "=1+1 2 3", "1 " + "9" * 10_000 + " 3", "\x1b[2J 2 3"], ids=ascii)
def test_odd_lines_of_a_label_file_are_problems_in_words(fisv, tmp_path, line):
    root, _ = fisv
    (root / "train.txt").write_text(line + "\n")
    with pytest.raises(AqaError) as error:
        convert(DATASETS.get("fisv").make(root), tmp_path / "x.h5")
    assert "problems" in str(error.value)
    assert not set("\0\x1b") & set(str(error.value))


def test_a_label_file_with_zero_bytes_is_not_text(fisv, tmp_path):
    root, _ = fisv
    (root / "train.txt").write_text("1\0 2 3\n")
    with pytest.raises(AqaError, match=r"train\.txt is not text"):
        convert(DATASETS.get("fisv").make(root), tmp_path / "x.h5")


@pytest.mark.parametrize("name", ["fisv", "rg", "fs1000"])
def test_dumps_without_labels(name, request, tmp_path):
    root, features = request.getfixturevalue(name)
    for path in root.rglob("*.txt"):
        path.unlink()
    with pytest.raises(AqaError, match="not found under"):
        prepare_named(name, tmp_path / "x.h5", source=root)
    said = prepare_named(name, tmp_path / "x.h5", source=root, unlabelled=True)
    assert f"samples   {len(features['visual'])}, no splits" in said
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.targets == store.splits == {}
        assert sorted(store.ids) == sorted(features["visual"])
        assert_features(store, features)
    assert inspect_store(tmp_path / "x.h5").usable


def test_a_dump_that_has_its_labels_within(pom_npz, tmp_path):
    refused = r"--unlabelled \(in Python: unlabelled=\): data set 'pom' is read with its labels only"
    with pytest.raises(AqaError, match=refused):
        prepare_named("pom", tmp_path / "x.h5", source=pom_npz, unlabelled=True)


@pytest.mark.parametrize(
    ("name", "skater"),
    [
        ("2018_Final_MF_Junhwan", "M Junhwan"),
        ("2018_World_Cup_MS_Junhwan", "M Junhwan"),
        ("2019_GP_Pairs_Sui", "P Sui"),
        ("2021_R_PF_7", ""),
        ("17", ""),
    ],
)
def test_skaters_of_fs1000(name, skater):
    assert skater_of(name) == skater


def test_skaters_that_the_splits_of_fs1000_share_are_a_warning(fs1000, tmp_path):
    root, _ = fs1000
    for folder in root.iterdir():
        if folder.is_dir():
            (folder / "2019_GP_Pairs_Sui.npy").rename(folder / "2019_GP_MS_Junhwan.npy")
    text = (root / "val_fs1000_new.txt").read_text()
    (root / "val_fs1000_new.txt").write_text(text.replace("2019_GP_Pairs_Sui", "2019_GP_MS_Junhwan"))
    assert "group     skater: 2 labels" in prepare_named("fs1000", tmp_path / "x.h5", source=root)
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.groups == {"skater": ["M Junhwan", "L Alina", "M Junhwan"]}
    (warning,) = [line for line in inspect_store(tmp_path / "x.h5").warnings if line.startswith("groups")]
    assert warning.startswith("groups/skater: 1 of 2 is in more than one split")
    assert warning.endswith("M Junhwan (test, train)")
