"""Small data sets in the layouts of the published ones; widths and file names are the real ones."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from aqa.data_prep.convert import Published, Stream

FISV_FILES = {"visual": ("FISV_rgb_VST", 1024), "audio": ("FISV_audio_AST", 768), "flow": ("FISV_flow_I3D", 1024)}
RG_FILES = {"visual": ("rgb_VST", 1024), "audio": ("audio_AST", 768), "flow": ("flow_I3D", 1024)}
FS1000_FOLDERS = {
    "visual": ("output_feature_fs1000_new", 768),
    "audio": ("ast_feature_fs1000_new", 768),
    "flow": ("i3d_avg_clip8_5s_fs1000", 1024),
}


def clips(rng, length, width):
    return rng.normal(size=(length, width)).astype(np.float32)


def save_mapping(path, samples):
    """As the benchmarks do: a dict in a 0-d object array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(samples, dtype=object), allow_pickle=True)


@pytest.fixture
def fisv(tmp_path):
    """A folder as downloaded, four train and two test videos, and the features in it by modality and id."""
    rng = np.random.default_rng(0)
    root = tmp_path / "Fis-V"
    features = {}
    for modality, (name, width) in FISV_FILES.items():
        # One video's streams differ by a clip, as the published ones do.
        features[modality] = {str(i): clips(rng, 3 + (i == 2 and modality == "audio"), width) for i in range(1, 7)}
        save_mapping(root / "Fis-feature" / f"{name}.npy", features[modality])
    (root / "train.txt").write_text("id TES PCS\n1 28.71 29.36\n2 28.79 27.89\n3 32.2 28.9\n5 20 21.5\n")
    (root / "test.txt").write_text("id TES PCS\n4 32.21 28.57\n6 24.76 25.11\n")
    return root, features


@pytest.fixture
def rg(tmp_path):
    rng = np.random.default_rng(1)
    root = tmp_path / "RG"
    features = {modality: {} for modality in RG_FILES}
    for apparatus in ("Ball", "Clubs", "Hoop", "Ribbon"):
        for modality, (name, width) in RG_FILES.items():
            samples = {f"{apparatus}_{i:03d}": clips(rng, 2, width) for i in range(3)}
            save_mapping(root / "RG-feature" / f"{apparatus}_{name}.npy", samples)
            features[modality] |= samples
    names = ("Ball", "Clubs", "Hoop", "Ribbon")
    train = [f"{name}_{i:03d} 6.5 7.1 {13 + i + len(name) / 10:.2f}" for name in names for i in range(2)]
    test = [f"{name}_002 5.0 8.0 13.0" for name in names]
    (root / "train.txt").write_text("\n".join(["name Difficulty Execution Total", *train]) + "\n")
    (root / "test.txt").write_text("\n".join(["name Difficulty Execution Total", *test]) + "\n")
    return root, features


@pytest.fixture
def fs1000(tmp_path):
    rng = np.random.default_rng(2)
    root = tmp_path / "FS1000"
    names = ("2018_Final_MF_Junhwan", "2018_Final_LF_Alina", "2019_GP_Pairs_Sui")
    features = {}
    for modality, (folder, width) in FS1000_FOLDERS.items():
        features[modality] = {}
        (root / folder).mkdir(parents=True)
        for name in names:
            array = rng.normal(size=(4, 5, width) if modality == "visual" else (4, width)).astype(np.float32)
            np.save(root / folder / f"{name}.npy", array)
            features[modality][name] = array.mean(axis=1) if modality == "visual" else array
    (root / "train_fs1000_new.txt").write_text(
        f"{names[0]} 80.5 84.2 8.5 8.25 8.4 8.6 8.5 2.0\n{names[1]} 75.1 60.8 9.25 9.0 9.5 9.4 9.3 1.6\n"
    )
    (root / "val_fs1000_new.txt").write_text(f"{names[2]} 110.25 70.4 9.1 8.9 9.0 9.2 9.1 1.6\n")
    return root, features


@pytest.fixture
def pom_arrays():
    """Ten videos of five rows, padded at the front: 0 lacks the face, 1 finds it a word late, 2 in one row only."""
    rng = np.random.default_rng(3)
    visual, audio = rng.normal(size=(10, 5, 41)), rng.normal(size=(10, 5, 43))
    for video in range(10):
        visual[video, : video % 4] = audio[video, : video % 4] = 0
    visual[0] = 0
    visual[1, :2] = 0
    visual[2, :4] = audio[2, :4] = 0
    labels = rng.integers(3, 15, size=(10, 17)) / 3
    split = np.array(["train"] * 6 + ["valid"] * 2 + ["test"] * 2)
    return visual.astype(np.float32), audio.astype(np.float32), labels.astype(np.float32), split


@pytest.fixture
def pom_h5(tmp_path, pom_arrays):
    visual, audio, labels, split = pom_arrays
    root = tmp_path / "pom"
    root.mkdir()
    for kind, array in (("video", visual), ("audio", audio), ("y", labels)):
        for name in ("train", "valid", "test"):
            with h5py.File(root / f"{kind}_{name}.h5", "w") as file:
                file["d1"] = array[split == name]
    return root


@pytest.fixture
def pom_npz(tmp_path, pom_arrays):
    path = tmp_path / "pom.npz"
    np.savez_compressed(path, **dict(zip(("visual", "audio", "labels", "split"), pom_arrays, strict=True)))
    return path


@pytest.fixture(params=["checked first", "checked while it is written"])
def published(request):
    """A function that makes a sound data set of four samples, with parts of it replaced.

    Its shapes are known before it is loaded, or not: nobody should see the difference.
    """
    rng = np.random.default_rng(4)
    visual = {i: clips(rng, 3, 4) for i in "abcd"}
    audio = {i: clips(rng, 3, 2) for i in "abcd"}

    def make(**parts):
        features = {"visual": visual | parts.pop("visual", {}), "audio": audio | parts.pop("audio", {})}
        for modality, i in parts.pop("without", ()):
            del features[modality][i]
        shapes = {m: None if "first" in request.param else (lambda i, m=m: features[m][i].shape) for m in features}
        streams = {
            "visual": Stream(
                4, features["visual"].keys(), features["visual"].__getitem__, "VST", 2.5, shapes["visual"]
            ),
            "audio": Stream(2, features["audio"].keys(), features["audio"].__getitem__, shape=shapes["audio"]),
        }
        labels = {"TES": {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0} | parts.pop("labels", {})}
        splits = {"train": ["a", "b", "c"], "test": ["d"]} | parts.pop("splits", {})
        return Published("mini", "made for a test", streams, labels, {"TES": (0.0, 10.0)}, splits, **parts)

    return make
