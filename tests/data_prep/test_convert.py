"""Every problem is found, reported by id, and either refused or left out; a store is whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from aqa.data_prep.convert import Problem, convert
from aqa.errors import AqaError
from aqa.store.store import FeatureStore

NAN = np.full((3, 4), np.nan, dtype=np.float32)
HUGE = np.full((3, 4), 1e300)
PROBLEMS = {
    "NaN": ({"visual": {"b": NAN}}, "b: NaN or inf in features (visual, 3 of 3 rows)"),
    "beyond float32": ({"visual": {"b": HUGE}}, "b: NaN or inf in features (visual, 3 of 3 rows)"),
    "width": ({"audio": {"b": np.ones((3, 5))}}, "b: features of wrong width (audio 5, not 2)"),
    "one dimension": (
        {"audio": {"b": np.ones(2)}},
        "b: features not of shape (clips, width) (audio (2,); save it as (1, 2) if it is one clip)",
    ),
    "three dimensions": ({"audio": {"b": np.ones((1, 3, 2))}}, "b: features not of shape (clips, width)"),
    "one stream absent": ({"without": [("audio", "b")]}, "b: label without features (audio)"),
    "all absent": ({"without": [("audio", "b"), ("visual", "b")]}, "b: label without features (visual, audio)"),
    "no clips": ({"audio": {"b": np.ones((0, 2))}}, "b: label without features (audio)"),
    "out of range": ({"labels": {"b": 10.5}}, "b: label outside its range (TES 10.5, range 0 to 10)"),
    "below range": ({"labels": {"b": -0.1}}, "b: label outside its range (TES -0.1, range 0 to 10)"),
    "NaN label": ({"labels": {"b": np.nan}}, "b: label outside its range (TES nan"),
    "two splits": ({"splits": {"test": ["d", "b"]}}, "b: in two splits (train, test)"),
    "labelled twice": ({"splits": {"train": ["a", "b", "c", "b"]}}, "b: labelled twice (in train)"),
    "found by the reader": ({"problems": [Problem("b", "odd", "very")]}, "b: odd (very)"),
}


@pytest.mark.parametrize(("parts", "line"), PROBLEMS.values(), ids=PROBLEMS)
def test_refused(published, tmp_path, parts, line):
    with pytest.raises(AqaError) as error:
        convert(published(**parts), tmp_path / "x.h5")
    first, *listed = str(error.value).splitlines()
    assert first.startswith("mini: 1 sample with problems (1 ")
    assert first.endswith("; nothing was written, --on-error skip (in Python: on_error='skip') leaves them out")
    assert len(listed) == 1
    assert listed[0].startswith(f"  {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("parts", "line"), PROBLEMS.values(), ids=PROBLEMS)
def test_skipped(published, tmp_path, parts, line):
    summary = convert(published(**parts), tmp_path / "x.h5", on_error="skip")
    assert [skipped.startswith(line) for skipped in summary.skipped] == [True]
    assert f"  {line}" in str(summary)
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.ids == ["a", "c", "d"]
        assert store.split("train").tolist() == [0, 1]
        assert store.split("test").tolist() == [2]
        assert store.targets["TES"].values.tolist() == [1.0, 3.0, 4.0]
        assert np.isfinite(store.read("visual")).all()


def test_features_without_a_label(published, tmp_path):
    parts = {"visual": {"z": np.ones((3, 4))}}
    with pytest.raises(AqaError, match=r"(?s)1 features without a label.*  z: features without a label \(visual\)"):
        convert(published(**parts), tmp_path / "x.h5")
    summary = convert(published(**parts), tmp_path / "x.h5", on_error="skip")
    assert summary.skipped == ["z: features without a label (visual)"]
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.ids == ["a", "b", "c", "d"]


def test_all_problems_at_once(published, tmp_path):
    with pytest.raises(AqaError) as error:
        convert(
            published(labels={"a": 99.0, "c": 98.0}, visual={"b": NAN}, without=[("audio", "b")]), tmp_path / "x.h5"
        )
    message = str(error.value)
    assert "3 samples with problems (2 label outside its range, 1 NaN or inf in features, 1 label without" in message
    assert len(message.splitlines()) == 5


def test_long_lists_are_cut(published, tmp_path):
    ids = [f"v{i:02d}" for i in range(25)]
    with pytest.raises(AqaError) as error:
        convert(published(splits={"extra": ids}), tmp_path / "x.h5")
    lines = str(error.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more"


def test_unreadable_features(published, tmp_path):
    sound = published()

    def load(i):
        if i == "b":
            raise AqaError("b.npy is cut off")
        return np.ones((3, 2))

    object.__setattr__(sound.streams["audio"], "load", load)
    summary = convert(sound, tmp_path / "x.h5", on_error="skip")
    assert summary.skipped == ["b: features that cannot be read (audio: b.npy is cut off)"]


def test_absence_is_normal_where_the_data_set_is_incomplete(published, tmp_path):
    convert(published(complete=False, without=[("visual", "b")]), tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.available.tolist() == [[True, True], [False, True], [True, True], [True, True]]
    with pytest.raises(AqaError, match=r"b: label without features \(visual, audio\)"):
        convert(published(complete=False, without=[("visual", "b"), ("audio", "b")]), tmp_path / "y.h5")


def test_summary(published, tmp_path):
    summary = convert(published(audio={"b": np.ones((5, 2))}), tmp_path / "x.h5")
    assert summary.unequal == 1
    assert str(summary).splitlines() == [
        f"mini -> {tmp_path / 'x.h5'}",
        "samples   train 3, test 1",
        "target    TES: 4 labelled, 1 to 4 (range 0 to 10)",
        "modality  visual: width 4, clips 3 / 3 / 3 (min / median / max)",
        "modality  audio: width 2, clips 3 / 3 / 5 (min / median / max)",
        "videos whose streams differ in length: 1",
    ]
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.lengths[1].tolist() == [3, 5]
        assert store.attributes["visual"] == {"extractor": "VST", "clip_seconds": 2.5}
        assert store.source == "made for a test"


def test_nothing_left(published, tmp_path):
    with pytest.raises(AqaError, match="no sample is left to write"):
        convert(published(labels=dict.fromkeys("abcd", -1.0)), tmp_path / "x.h5", on_error="skip")
    assert list(tmp_path.iterdir()) == []


def test_existing_file(published, tmp_path):
    out = tmp_path / "x.h5"
    out.write_text("precious")
    with pytest.raises(AqaError, match="--overwrite"):
        convert(published(), out)
    assert out.read_text() == "precious"
    with pytest.raises(AqaError, match="NaN"):
        convert(published(visual={"b": NAN}), out, overwrite=True)
    assert out.read_text() == "precious"
    convert(published(), out, overwrite=True)
    assert len(FeatureStore(out)) == 4


def counted_loads(published, **parts):
    """A data set, and how often each of its streams is loaded."""
    sound, loads = published(**parts), []
    for modality, stream in sound.streams.items():

        def load(i, modality=modality, load=stream.load):
            loads.append((modality, i))
            return load(i)

        object.__setattr__(stream, "load", load)
    return sound, loads


def test_streams_of_known_shape_are_loaded_once(published, tmp_path):
    sound, loads = counted_loads(published)
    known = sound.streams["audio"].shape is not None
    convert(sound, tmp_path / "x.h5")
    assert sorted(loads) == sorted((m, i) for m in sound.streams for i in "abcd" for _ in range(1 if known else 2))


def test_nothing_is_loaded_twice_to_say_that_a_label_is_wrong(published, tmp_path):
    sound, loads = counted_loads(published, labels={"b": 99.0})
    with pytest.raises(AqaError, match="b: label outside its range"):
        convert(sound, tmp_path / "x.h5")
    assert len(loads) == 8


@pytest.mark.parametrize("on_error", ["refuse", "skip"])
def test_faults_that_are_found_while_a_store_is_written_are_all_listed(published, tmp_path, on_error):
    faults = {"visual": {"b": NAN}, "audio": {"a": np.full((3, 2), -np.inf), "b": HUGE[:, :2]}}
    out = tmp_path / "new" / "deep" / "x.h5"
    expected = [
        "b: NaN or inf in features (visual, 3 of 3 rows)",
        "a: NaN or inf in features (audio, 3 of 3 rows)",
        "b: NaN or inf in features (audio, 3 of 3 rows)",
    ]
    if on_error == "refuse":
        with pytest.raises(AqaError) as error:
            convert(published(**faults), out)
        assert str(error.value).splitlines()[1:] == [f"  {line}" for line in expected]
        assert list(tmp_path.iterdir()) == []
    else:
        assert convert(published(**faults), out, on_error="skip").skipped == expected
        with FeatureStore(out) as store:
            assert store.ids == ["c", "d"]


def test_faulty_videos_are_listed_before_it_is_said_that_a_split_is_empty(published, tmp_path):
    parts = {"splits": {"test": []}, "complete": False, "ids": list("abcd")}
    with pytest.raises(AqaError, match="splits/test: empty; nothing was written"):
        convert(published(**parts), tmp_path / "x.h5")
    with pytest.raises(AqaError, match=r"(?s)with problems \(1 NaN or inf in features\).*  b: NaN or inf"):
        convert(published(**parts, visual={"b": NAN}), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_not_asked_twice(published, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    sound, loads = counted_loads(published)
    with pytest.raises(AqaError, match=r"x\.h5 cannot be written: No space left on device"):
        convert(sound, tmp_path / "x.h5")
    assert len(loads) == (0 if sound.streams["audio"].shape is not None else 8)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_is_not_of_the_shape_that_was_stated(published, tmp_path):
    """The file was changed after its header was read: what is in it by then counts."""
    sound = published(audio={"b": np.ones((5, 2))})
    if sound.streams["audio"].shape is not None:
        object.__setattr__(sound.streams["audio"], "shape", lambda i: (3, 2))
    convert(sound, tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.lengths[:, 1].tolist() == [3, 5, 3, 3]
        np.testing.assert_array_equal(store.read_sample("audio", 1), np.ones((5, 2)))


def test_unknown_on_error(published, tmp_path):
    with pytest.raises(AqaError, match="on_error 'skipp' is unknown: did you mean 'skip'"):
        convert(published(), tmp_path / "x.h5", on_error="skipp")


def test_folder_that_cannot_be_made(published, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AqaError, match="cannot be written"):
        convert(published(), tmp_path / "file" / "x.h5")


def test_killed_while_writing(tmp_path):
    """SIGKILL leaves no time to tidy up: what is left must not be mistaken for a store."""
    script = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from aqa.data_prep.convert import Published, Stream, convert

        loads = 0
        def load(i):
            global loads
            loads += 1
            if loads > 6:  # four checks, then the third sample that is written
                print("writing", flush=True)
                time.sleep(60)
            return np.ones((3, 2), dtype=np.float32)

        stream = Stream(2, list("abcd"), load)
        labels = {"TES": dict(zip("abcd", (1.0, 2.0, 3.0, 4.0)))}
        sound = Published("mini", "", {"audio": stream}, labels, {"TES": (0, 10)}, {"train": list("abcd")})
        convert(sound, sys.argv[1])
        """
    )
    out = tmp_path / "x.h5"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, cwd=root)
    try:
        assert process.stdout.readline() == b"writing\n"
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not out.exists()


@pytest.mark.parametrize("name", ["b\x1b[2J", "b\0", "b\u202e", "b" * 300], ids=ascii)
def test_a_name_that_no_store_may_hold(published, tmp_path, name):
    with pytest.raises(AqaError) as error:
        convert(published(splits={"train": ["a", "b", "c", name]}), tmp_path / "x.h5")
    shown = name[:250].encode("unicode_escape").decode()
    assert f"{shown}: name with control characters, or too long" in str(error.value)
    assert not (tmp_path / "x.h5").exists()
