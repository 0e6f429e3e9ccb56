"""Streams as they are named: by a template or in one file, with a table of labels or without."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from aqa.data_prep.streams import each_its_own, find_stream, make_stream, stream_words
from aqa.errors import AqaError

CLIPS = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("train/001", "train/002", "test/003"):
        (tmp_path / "v" / place).parent.mkdir(parents=True, exist_ok=True)
        np.save(f"v/{place}.npy", CLIPS)
    return tmp_path


def rows(**splits):
    return {i: {"video": i, "split": split} for i, split in splits.items()}


THREE = {"001": {"split": "train"}, "002": {"split": "train"}, "003": {"split": "test"}, "004": {"split": "test"}}


def found(given, table=THREE, column="video"):
    return find_stream(stream_words("v", given), table, column)


def test_fields_of_the_label_table(folder):
    stream = found("v/{split}/{id}.npy")
    assert list(stream.places) == ["001", "002", "003"]
    np.testing.assert_array_equal(stream.load("003"), CLIPS)


def test_files_that_belong_to_no_id_are_extra(folder):
    np.save("v/test/005.npy", CLIPS)
    (folder / "v/test/._003.npy").write_bytes(b"")  # which macOS adds
    assert found("v/{split}/{id}.npy").extra == ["v/test/005.npy"]
    problems = []
    make_stream(found("v/{split}/{id}.npy"), None, None, problems)
    assert [str(problem) for problem in problems] == ["v/test/005.npy: features without a label (v)"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_file_that_two_templates_fit_belongs_to_the_longer_one(folder, labelled):
    for name in ("001_flow", "003_flow", "005"):
        np.save(f"v/train/{name}.npy", CLIPS)
    table = {i: {} for i in ("001", "002", "003")} if labelled else None
    words = [("v/train/{id}.npy", "v"), ("v/train/{id}_flow.npy", "w")]
    visual, flow = each_its_own([find_stream(stream_words(n, given), table, "video") for given, n in words], labelled)
    assert list(flow.places) == ["001", "003"]
    assert list(visual.places) == (["001", "002"] if labelled else ["001", "002", "005"])
    assert list(visual.extra) == (["v/train/005.npy"] if labelled else [])
    np.testing.assert_array_equal(visual.load("001"), CLIPS)


def test_a_stream_whose_files_are_all_those_of_another_is_one_line(folder):
    np.save("v/train/001_flow.npy", CLIPS)
    words = [("v/train/{id}w.npy", "w"), ("v/train/{id}_flow.npy", "v")]
    with pytest.raises(
        AqaError, match=r"--stream w=v/train/\{id\}w.npy: every file that fits is one of another stream"
    ):
        each_its_own([find_stream(stream_words(name, given), None, "video") for given, name in words], False)


def test_a_name_that_no_file_can_have_is_not_there(folder):
    np.save("v/train/001_features.npy", CLIPS)
    long = "3" * 250
    assert list(found("v/train/{id}_features.npy", {long: {}, "001": {}}, "video").places) == ["001"]


def test_ids_are_read_from_the_names_of_files(folder):
    assert list(found("v/train/{id}.npy", None).places) == ["001", "002"]
    (folder / "v/003/visual").mkdir(parents=True)
    np.save("v/003/visual/003.npy", CLIPS)
    np.save("v/003/visual/other.npy", CLIPS)
    assert list(found("v/{id}/visual/{id}.npy", None).places) == ["003"]


def test_a_folder_per_video(folder):
    for i in ("a", "b"):
        (folder / i).mkdir()
        np.savez(f"{i}/features.npz", rgb=CLIPS, flow=CLIPS + 1)
    stream = found("{id}/features.npz:flow", None)
    assert list(stream.places) == ["a", "b"]
    np.testing.assert_array_equal(stream.load("b"), CLIPS + 1)


def test_special_characters_of_file_names_are_taken_as_they_are(tmp_path):
    (tmp_path / "a[1]").mkdir()
    np.save(tmp_path / "a[1]" / "x*y.npy", CLIPS)
    assert list(found(f"{tmp_path}/a[1]/{{id}}.npy", None).places) == ["x*y"]


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ("{}", "all.h5"),
        ("rgb/{}", "all.h5:rgb"),
        ("rgb/{}", "all.h5:rgb/{id}"),
        ("{}/rgb", "all.h5:{id}/rgb"),
        ("{}/only", "all.h5"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_one_file_with_all_videos(folder, names, given, labelled):
    with h5py.File("all.h5", "w") as file:
        for number, i in enumerate(("001", "003")):
            file[names.format(i)] = CLIPS + number
    stream = found(given, THREE if labelled else None)
    assert list(stream.places) == ["001", "003"]
    np.testing.assert_array_equal(stream.load("003"), CLIPS + 1)
    assert list(stream.extra) == []


def test_arrays_of_no_id_are_extra(folder):
    np.savez("all.npz", **{"001": CLIPS, "009": CLIPS})
    assert list(found("all.npz").extra) == ["009"]


def test_a_table_with_all_videos(folder):
    (folder / "all.csv").write_text("video,a,b\n001,1,2\n003,3,4\n001,5,6\n")
    stream = found("all.csv")
    np.testing.assert_array_equal(stream.load("001"), [[1, 2], [5, 6]])
    assert list(found("all.csv:video", None).places) == ["001", "003"]
    with pytest.raises(AqaError, match=r"all\.csv has no column 'name' with the ids: known: video, a, b"):
        found("all.csv", column="name")


def test_a_vector_is_one_clip(folder):
    np.savez("all.npz", **{"001": np.arange(5.0)})
    stream = make_stream(found("all.npz"), 25, "CLIP", [])
    assert (stream.width, stream.extractor, stream.clip_seconds) == (5, "CLIP", 0.04)
    assert stream.load("001").shape == (1, 5)


@pytest.mark.parametrize("array", [CLIPS, np.arange(5.0), np.ones((2, 3, 4)), np.asfortranarray(CLIPS)])
def test_the_shape_of_a_file_of_its_own_is_known_before_it_is_loaded(folder, array):
    np.save("v/train/001.npy", array)
    stream = make_stream(found("v/{split}/{id}.npy"), None, None, [])
    assert stream.shape("001") == stream.load("001").shape
    (folder / "v/train/001.npy").write_bytes(b"\x93NUMPY")
    assert stream.shape("001") is None


def test_no_shape_is_known_of_what_has_to_be_read_for_it(folder):
    np.savez("v/001.npz", a=CLIPS)
    np.savetxt("v/001.csv", CLIPS)
    np.savez("all.npz", **{"001": CLIPS})
    for given in ("v/{id}.npz", "v/{id}.npz:a", "v/{id}.csv", "all.npz"):
        assert make_stream(found(given), None, None, []).shape is None


def test_the_width_is_that_of_the_first_that_can_be_read(folder):
    (folder / "v/train/001.npy").write_bytes(b"\x93NUMPY")
    assert make_stream(found("v/{split}/{id}.npy"), None, None, []).width == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("w/{id}.npy", "no video has a file; there is no folder w"),
        ("v/train/{id}.npz", r"no video has a file; such as v/train/001\.npz; did you mean '001\.npy'"),
        ("v/train/x{id}.npy", r"no video has a file; such as v/train/x001\.npy; did you mean '001\.npy'"),
        ("all.h5", "there is no file all.h5"),
        ("v/train/001.npy", r"one array of shape \(2, 3\), without ids; write a file per video"),
        ("v/{splits}/{id}.npy", r"unknown field '\{splits\}': did you mean 'split'"),
        ("v/{id.npy", "a brace is not closed"),
    ],
)
def test_words_that_lead_nowhere(folder, given, message):
    with pytest.raises(AqaError, match=message) as error:
        found(given)
    assert "\n" not in str(error.value)


def test_ids_with_endings_that_files_have_not(folder):
    table = {f"{i}.mp4": cells for i, cells in THREE.items()}
    with pytest.raises(AqaError, match=r"'001\.npy' is there without the ending of its id; give ids as the files"):
        found("v/train/{id}.npy", table)


def test_ids_that_no_file_has(folder):
    np.savez("all.npz", **{"x001": CLIPS})
    with pytest.raises(AqaError, match="no id is in the file, such as '001': did you mean 'x001'"):
        found("all.npz")


def test_an_id_that_leads_out_of_the_folder_is_refused(folder):
    with pytest.raises(AqaError, match=r"the id '\.\./test/003' leads out of the folder"):
        found("v/train/{id}.npy", {"../test/003": {}})


def test_not_one_video_that_can_be_read(folder):
    for i in ("001", "002"):
        np.save(f"v/train/{i}.npy", np.ones((2, 3, 4)))
    with pytest.raises(
        AqaError, match=r"not one video can be read; the first: .*001\.npy has shape \(2, 3, 4\); expected"
    ):
        make_stream(found("v/train/{id}.npy"), None, None, [])
