"""Files on disks that are full, read-only or gone, and what killed processes leave."""

import errno
import os
import signal
import socket
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

import aqa.store.write
from aqa.cli import main
from aqa.errors import AqaError
from aqa.runs.folder import RunFolder
from aqa.store.store import Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store
from aqa.system.files import (
    COMPLETE,
    STAGE,
    Sink,
    has_file,
    made,
    refuse_existing_together,
    write_text,
    written_together,
    written_whole,
)
from aqa.system.signals import Terminated, stoppable


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a file system of 4 MB and returns its folder; skips where nobody may."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=4m", *options]), "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError:
            pytest.skip("there is no mount here")
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True)


def big_store(path):
    write_store(
        path,
        name="big",
        source="",
        ids=[str(i) for i in range(40)],
        modalities={"visual": Modality(1000, np.full(40, 50))},
        targets={"score": Target(np.arange(40.0), 0, 50)},
        splits={"train": range(40)},
        read=lambda modality, row: np.ones((50, 1000), np.float32),
    )


WRITERS = {
    "text": lambda path: write_text(path, "x" * 5_000_000),
    "state": lambda path: RunFolder(path.parent)._save(path.name, {"weights": torch.zeros(2_000_000)}),
    "store": big_store,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(mounted, write):
    place = mounted()
    path = place / "file"
    with pytest.raises(AqaError) as error:
        write(path)
    assert str(error.value) == f"{path} cannot be written: No space left on device"
    assert os.listdir(place) == []
    assert not [link for link in _open_files() if str(place) in link]  # HDF5 would keep it, and crash in the end
    path.write_text("before")
    if write is not big_store:  # which does not replace
        with pytest.raises(AqaError):
            write(path)
        assert path.read_text() == "before"
        assert os.listdir(place) == ["file"]


def _open_files():
    handles = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [os.readlink(handle) for handle in handles if os.path.islink(handle)]


def test_a_disk_without_room_for_a_store_is_known_before_a_stream_is_read(mounted):
    with pytest.raises(AqaError, match="No space left on device"):
        write_store(
            mounted() / "x.h5",
            name="big",
            source="",
            ids=["a"],
            modalities={"visual": Modality(1000, [2000])},
            targets={},
            splits={},
            read=lambda modality, row: pytest.fail("read"),
        )


@pytest.mark.parametrize("failure", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_room_is_written_to_all_the_same(tmp_path, monkeypatch, failure):
    def refuse(*arguments):
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    big_store(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["features/visual/values"][()] == 1).all()


def test_bytes_go_to_their_place_and_nowhere_after_a_failure(tmp_path):
    with Sink(tmp_path / "x") as file:
        file.reserve(0, 8)
        file.write_at(4, np.array([7], np.uint32))
        file.write_at(0, b"abcd")
        file.failure = OSError(errno.EFBIG, "File too large")
        file.write_at(0, b"wxyz")
        with pytest.raises(OSError, match="File too large"):
            file.check()
    assert (tmp_path / "x").read_bytes() == b"abcd" + np.array([7], np.uint32).tobytes()


def test_a_disk_that_is_full_while_a_store_is_prepared_costs_no_crash(mounted):
    out = mounted() / "x.h5"
    command = [sys.executable, "-m", "aqa.cli", "prepare", "synthetic", "--preset", "fisv_small", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"aqa: {out} cannot be written: No space left on device\n"


def test_a_read_only_disk_is_one_line(mounted, capsys):
    place = mounted("ro")
    assert main(["prepare", "synthetic", "--preset", "tiny", "--out", str(place / "x.h5")]) == 2
    assert capsys.readouterr().err == f"aqa: {place}/x.h5 cannot be written: Read-only file system\n"


def test_folders_that_were_made_for_a_file_go_with_it(tmp_path):
    def fails(leaving=()):
        with made(tmp_path / "new" / "deep"):
            for name in leaving:
                (tmp_path / "new" / name).touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        fails(leaving=["other"])
    assert os.listdir(tmp_path / "new") == ["other"]
    with made(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_the_file(tmp_path):
    left = tmp_path / ".a[1].txt.x7_.partial"
    left.write_text("half")
    others = [tmp_path / ".b.txt.x7_.partial", tmp_path / ".a[1].txt.mine"]
    for other in others:
        other.write_text("not of this file")
    write_text(tmp_path / "a[1].txt", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a[1].txt", *others])


def test_what_somebody_is_still_writing_is_left_alone(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("first")
        write_text(path, "second")
        assert partial.exists()
    assert path.read_text() == "first"  # it was done last
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.fixture
def asked_in_writing(monkeypatch):
    """SIGTERM comes just as a library writes to a file."""
    write, asked = Sink.write, []

    def asked_and_written(self, data):
        if not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return write(self, data)

    monkeypatch.setattr(Sink, "write", asked_and_written)


@pytest.mark.parametrize("save", [RunFolder.save_state, RunFolder.save_checkpoint])
def test_a_signal_in_the_middle_of_a_checkpoint_is_no_failure_of_the_file(tmp_path, asked_in_writing, save):
    with pytest.raises(Terminated), stoppable():
        save(RunFolder(tmp_path), {"weights": torch.zeros(9)})
    assert not list(tmp_path.iterdir())


def test_a_signal_in_the_middle_of_a_store_stops_after_the_stream(tmp_path, asked_in_writing):
    written = []
    with pytest.raises(Terminated), stoppable():
        write_store(
            tmp_path / "store.h5",
            name="stopped",
            source="zeros",
            ids=[str(i) for i in range(9)],
            modalities={"audio": Modality(4, np.full(9, 100_000))},
            targets={},
            splits={},
            read=lambda modality, row: written.append(row) or np.zeros((100_000, 4), np.float32),
        )
    assert 0 < len(written) < 9
    assert not list(tmp_path.iterdir())


def test_a_store_is_the_same_file_as_hdf5_itself_would_write(tmp_path):
    big_store(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file, h5py.File(tmp_path / "plain.h5", "w") as plain:
        for name in file:
            file.copy(name, plain)
        plain.attrs.update(file.attrs)
        assert (file["features/visual/values"][()] == 1).all()
    assert (tmp_path / "x.h5").stat().st_size == pytest.approx((tmp_path / "plain.h5").stat().st_size, abs=10_000)


# What has the name of a file and is none


@pytest.fixture
def no_file(tmp_path):
    """A function that puts a pipe, a socket, a device or a folder at a place."""
    sockets = []

    def make(kind, path):
        if kind == "socket":
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[-1].bind(str(path))
        else:
            {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)

    yield make
    for each in sockets:
        each.close()


def test_only_a_file_is_one(tmp_path, no_file):
    assert not has_file(tmp_path / "x")
    (tmp_path / "y").write_text("")
    (tmp_path / "link").symlink_to("y")
    (tmp_path / "loop").symlink_to("loop")
    assert has_file(tmp_path / "y")
    assert has_file(tmp_path / "link")
    for nothing in ("loop", "y/z", "a\0b", "x" * 300):
        assert not has_file(tmp_path / nothing)


COMMANDS = {
    "run": ("x.yaml", lambda path: ["run", str(path)]),
    "sweep": ("x.yaml", lambda path: ["sweep", str(path)]),
    "inspect": ("x.h5", lambda path: ["inspect", str(path)]),
    "evaluate": ("config.yaml", lambda path: ["evaluate", str(path.parent)]),
    "card": ("config.yaml", lambda path: ["card", str(path.parent)]),
    "report": ("config.yaml", lambda path: ["report", str(path.parent), "--out", "out"]),
}


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize(("name", "arguments"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_what_is_no_file_and_does_not_wait(
    tmp_path, no_file, capsys, monkeypatch, kind, name, arguments
):
    monkeypatch.chdir(tmp_path)
    no_file(kind, tmp_path / name)
    assert main(arguments(tmp_path / name)) == 2
    said = capsys.readouterr().err
    assert f"{name} is a {kind}, not a file" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "sweep", "inspect"])
def test_a_folder_in_the_place_of_a_file_is_said(tmp_path, capsys, command):
    assert main([command, str(tmp_path)]) == 2
    assert f"{tmp_path} is a folder, not a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "checkpoint.pt", "state.pt", "log.txt"])
def test_a_run_whose_files_are_pipes_says_so(tmp_path, name):
    run = RunFolder.start(tmp_path / "run", {"name": "x"}, overwrite=False)
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    reads = {
        "config.yaml": lambda: run.is_run,
        "metrics.json": lambda: run.status,
        "state.pt": run.load_state,
        "checkpoint.pt": run.load_checkpoint,
        "log.txt": lambda: run.log("a line"),
    }
    with pytest.raises(AqaError, match=f"{name} is a pipe, not a file$"):
        reads[name]()


# Files that belong together


def write_both(folder, text="new"):
    with written_together(folder, last="a") as parts:
        (parts / "figures").mkdir()
        write_text(parts / "figures" / "z", text)
        write_text(parts / "a", text)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_that_belong_together_come_together(tmp_path):
    write_both(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep" / "out") == ["a", "figures/z"]
    assert os.listdir(tmp_path / "deep" / "out").count(STAGE) == 0


def test_where_one_of_them_cannot_be_written_none_comes(tmp_path):
    def fail(folder):
        with written_together(folder, last="a") as parts:
            write_text(parts / "a", "new")
            raise AqaError("no more")

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("before")
    for folder in (tmp_path / "new", tmp_path / "old"):
        with pytest.raises(AqaError, match="no more"):
            fail(folder)
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(tmp_path / "old") == ["a"]
    assert (tmp_path / "old" / "a").read_text() == "before"


def test_what_was_killed_over_moving_them_is_no_result_to_be_kept(tmp_path, monkeypatch):
    replace = os.replace

    def killed(source, target):
        if target == tmp_path / "a":
            raise SystemExit
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(SystemExit):
            write_both(tmp_path)
    assert names(tmp_path) == sorted([f"{STAGE}/{COMPLETE}", "figures/z"])
    refuse_existing_together(tmp_path, ["a", "figures"], overwrite=False)
    write_both(tmp_path, "again")
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ["again", "again"]
    with pytest.raises(AqaError, match="figures exists"):
        refuse_existing_together(tmp_path, ["figures"], overwrite=False)


def test_what_was_killed_before_or_after_moving_them_is_removed(tmp_path):
    (tmp_path / STAGE / "files").mkdir(parents=True)
    (tmp_path / STAGE / "files" / "a").write_text("half")
    (tmp_path / "a").write_text("whole")
    with pytest.raises(AqaError, match="a exists"):
        refuse_existing_together(tmp_path, ["a"], overwrite=False)
    assert names(tmp_path) == ["a"]


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    with written_together(tmp_path, last="a"), pytest.raises(AqaError, match="another process is writing to"):
        write_both(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_of_two_that_write_one_file_without_overwrite_the_first_to_end_has_it(tmp_path, monkeypatch, links):
    def refused(*paths):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # as on exFAT
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "a.txt"

    def second():
        with written_whole(path, overwrite=False) as partial:
            partial.write_text("second")
            write_text(path, "first", overwrite=False)

    with pytest.raises(AqaError, match=r"a\.txt exists: another process wrote it meanwhile; nothing was replaced$"):
        second()
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_store_that_another_process_prepared_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    make_synthetic("tiny", tmp_path / "other.h5", samples=2, seed=1)
    refuse = aqa.store.write.refuse_existing

    def looked(*arguments):
        refuse(*arguments)
        os.link(tmp_path / "other.h5", path)  # now: after the look, before the end

    monkeypatch.setattr("aqa.store.write.refuse_existing", looked)
    with pytest.raises(AqaError, match=r"x\.h5 exists: another process wrote it meanwhile"):
        make_synthetic("tiny", path, samples=2, seed=0)
    assert path.read_bytes() == (tmp_path / "other.h5").read_bytes()
