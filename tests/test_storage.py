"""Files and folders are replaced atomically, no temporary files stay, and errors of a full disk name the file."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from cohortlib.engine import files
from cohortlib.errors import CohortlibError, SettingError, SourceError

pytestmark = pytest.mark.disk

posix = pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked there")


@pytest.fixture
def tmp_path(disk_folder):
    """Durability is tested on a disk, not in memory."""
    return disk_folder


def has_manifest(folder):
    return (folder / "manifest").is_file()


def put(path, text, is_ours=has_manifest):
    with files.atomic_folder(path, is_ours) as folder:
        (folder / "manifest").write_text(text)
        (folder / "parts").mkdir()
        (folder / "parts" / "one").write_text(text)


def contents(path):
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def names(folder):
    return sorted(one.name for one in folder.iterdir())


NEW = {"manifest": "new", "parts/one": "new"}


# ------------------------------------------------------------------------------------------------------------ files


def test_a_file_is_replaced_at_the_end(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    file.chmod(0o640)
    with files.atomic_write(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "old"
        assert len(names(tmp_path)) == 2
    assert file.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]
    if os.name != "nt":
        assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_file_stays_after_an_error(tmp_path, error):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail():
        with files.atomic_write(file) as stream:
            stream.write(b"new")
            raise error("x")

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == {"a.txt": "old"}


def test_the_target_of_a_link_to_a_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    with files.atomic_write(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "there") == {"a.txt": "new"}


def test_commit(tmp_path):
    files.commit(tmp_path, "manifest.json", "old")
    files.commit(tmp_path, "manifest.json", "né")
    assert (tmp_path / "manifest.json").read_bytes() == "né".encode()
    assert names(tmp_path) == ["manifest.json"]


def test_a_file_is_on_disk_before_it_is_moved(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace

    def spy(opened):
        calls.append((Path(f"/proc/self/fd/{opened}").readlink() if sys.platform == "linux" else None, "disk"))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(Path, "replace", lambda one, other: calls.append((None, "place")) or replace(one, other))
    with files.atomic_write(tmp_path / "a.txt") as stream:
        stream.write(b"new")
    assert [call for _, call in calls] == ["disk", "place", "disk"]
    if sys.platform == "linux":
        assert calls[0][0].name.endswith(".part")
        assert calls[2][0] == tmp_path


# ---------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_made_at_the_end(tmp_path):
    path = tmp_path / "out"
    with files.atomic_folder(path, has_manifest) as folder:
        (folder / "manifest").write_text("new")
        assert not path.exists()
        assert folder.parent == tmp_path
    assert contents(path) == {"manifest": "new"}
    assert names(tmp_path) == ["out"]


def test_a_folder_is_replaced_at_once(tmp_path):
    path = tmp_path / "out"
    put(path, "old")
    (path / "more").write_text("old")
    path.chmod(0o750)
    put(path, "new")
    assert contents(path) == NEW
    assert names(tmp_path) == ["out"]
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o750


def test_the_target_of_a_link_to_a_folder_is_replaced(tmp_path):
    put(tmp_path / "there", "old")
    (tmp_path / "out").symlink_to(tmp_path / "there")
    put(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink()
    assert contents(tmp_path / "there") == NEW


@pytest.mark.skipif(sys.platform != "linux", reason="the exchange of Linux")
@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOSYS, None])
def test_without_an_exchange(tmp_path, monkeypatch, answer):
    """An old kernel, a file system that cannot, or a C library that does not know it."""

    class Old:
        if answer:

            def renameat2(self, *_):
                ctypes.set_errno(answer)
                return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Old())
    put(tmp_path / "out", "old")
    put(tmp_path / "out", "new")
    assert contents(tmp_path / "out") == NEW
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform != "linux", reason="the exchange of Linux")
def test_an_exchange_that_fails(tmp_path, monkeypatch):
    class Broken:
        def renameat2(self, *_):
            ctypes.set_errno(errno.EIO)
            return -1

    put(tmp_path / "out", "old")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Broken())
    with pytest.raises(OSError, match="out") as caught:
        put(tmp_path / "out", "new")
    assert caught.value.errno == errno.EIO
    assert contents(tmp_path / "out")["manifest"] == "old"
    assert names(tmp_path) == ["out"]


def test_the_old_folder_is_restored_after_a_kill_between_renames(tmp_path):
    path = tmp_path / "out"
    put(path, "old")
    path.rename(tmp_path / ".out.0a1b2c3d.old")
    with pytest.raises(ValueError, match="x"), files.atomic_folder(path, has_manifest):
        raise ValueError("x")
    assert contents(path)["manifest"] == "old"
    # the second rename was done, the third not
    shutil.copytree(path, tmp_path / ".out.0a1b2c3d.old")
    put(path, "new")
    assert names(tmp_path) == ["out"]
    assert contents(path) == NEW


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [True, False])
def test_a_folder_stays_after_an_error(tmp_path, error, old):
    path = tmp_path / "out"
    if old:
        put(path, "old")

    def fail():
        with files.atomic_folder(path, has_manifest) as folder:
            (folder / "manifest").write_text("new")
            raise error("x")

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["out"] if old else [])
    assert not old or contents(path)["manifest"] == "old"


def test_a_foreign_folder_is_not_replaced(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    (path / "cat.jpg").write_text("cat")
    with pytest.raises(
        SettingError, match=r"folder '.*photos' has files that cohortlib did not write\. Expected a new"
    ):
        put(path, "new")
    assert contents(tmp_path) == {"photos/cat.jpg": "cat"}
    (path / "cat.jpg").unlink()
    put(path, "new")  # an empty one
    assert contents(path) == NEW


def test_a_foreign_folder_made_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "photos"

    def write():
        with files.atomic_folder(path, has_manifest):
            path.mkdir()
            (path / "cat.jpg").write_text("cat")

    with pytest.raises(SettingError, match="did not write"):
        write()
    assert contents(tmp_path) == {"photos/cat.jpg": "cat"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(SettingError, match=r"'.*out' is a file\. Expected a folder to replace, or a new name"):
        put(tmp_path / "out", "new")


def test_a_folder_without_a_parent(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        put(tmp_path / "not" / "out", "new")
    assert caught.value.filename == str(tmp_path / "not" / "out")
    with pytest.raises(FileNotFoundError) as caught, files.atomic_write(tmp_path / "not" / "a.txt"):
        pass
    assert caught.value.filename == str(tmp_path / "not" / "a.txt")


# ------------------------------------------------------------------------------- other processes and killed ones


HOLD = """
import sys
from pathlib import Path
from cohortlib.engine import files as storage
path = Path(sys.argv[2])
def work(folder=None):
    if folder and sys.argv[1] == "atomic_folder":
        (folder / "half").write_text("half")
    print("there", flush=True)
    sys.stdin.read()
if sys.argv[1] in ("locked", "temporary_folder"):
    with getattr(storage, sys.argv[1])(path):
        work()
elif sys.argv[1] == "atomic_write":
    with storage.atomic_write(path) as stream:
        stream.write(b"half")
        work()
else:
    with storage.atomic_folder(path, lambda _: True) as folder:
        work(folder)
"""


@contextmanager
def another(kind, path):
    """Run a process that writes until its input ends or it is killed."""
    command = [sys.executable, "-c", HOLD, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"there\n"
        try:
            yield process
        finally:
            process.kill()


@posix
def test_temporary_files_of_running_processes_stay_and_those_of_killed_ones_go(tmp_path):
    for name in ("out", "other"):
        put(tmp_path / name, "old")
    with another("atomic_folder", tmp_path / "new"), another("atomic_write", tmp_path / "new.txt") as second:
        assert len(names(tmp_path)) == 4
        put(tmp_path / "new", "mine")
        with files.atomic_write(tmp_path / "new.txt") as stream:
            stream.write(b"mine")
        assert len(names(tmp_path)) == 6  # both are still at it
        second.communicate()
        assert (tmp_path / "new.txt").read_text() == "half"  # the last one wins
    (left,) = [name for name in names(tmp_path) if name.startswith(".")]
    assert left.startswith(".new.")
    put(tmp_path / "other", "new")
    assert left in names(tmp_path)  # another name's
    put(tmp_path / "new", "new")
    assert names(tmp_path) == ["new", "new.txt", "other", "out"]


@posix
def test_temporary_folders_are_deleted(tmp_path):
    with another("temporary_folder", tmp_path), files.temporary_folder(tmp_path):
        assert len(names(tmp_path)) == 2
    with files.temporary_folder(tmp_path) as folder:
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError) as caught, files.temporary_folder(tmp_path / "not"):
        pass
    assert caught.value.filename == str(tmp_path / "not")


@posix
def test_the_temporary_file_of_a_killed_process_is_deleted(tmp_path):
    with another("atomic_write", tmp_path / "a.txt"):
        pass
    assert len(names(tmp_path)) == 1
    files.commit(tmp_path, "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_one_writer_at_a_time(tmp_path):
    with another("locked", tmp_path) as other:
        with (
            pytest.raises(CohortlibError, match=r"'.*' is being written by another process\. Expected one writer at a"),
            files.locked(tmp_path),
        ):
            pass
        other.kill()
        other.wait()
        with files.locked(tmp_path):
            pass
    with files.locked(tmp_path), pytest.raises(CohortlibError, match="being written"), files.locked(tmp_path):
        pass


@posix
def test_a_folder_with_a_writer_is_not_replaced(tmp_path):
    path = tmp_path / "out"
    put(path, "old")
    with files.locked(path), pytest.raises(CohortlibError, match="is being written by another process"):
        put(path, "new")
    assert contents(path)["manifest"] == "old"
    with files.atomic_folder(path, has_manifest), pytest.raises(CohortlibError, match="being written"):
        put(path, "new")
    assert names(tmp_path) == ["out"]


@posix
def test_the_lock_of_a_replaced_folder_does_not_count(tmp_path, monkeypatch):
    path = tmp_path / "out"
    put(path, "old")
    taken = []

    def late(descriptor):
        if not taken:
            taken.append(descriptor)
            shutil.rmtree(path)
            path.mkdir()
        lock(descriptor)

    lock = files._lock
    monkeypatch.setattr(files, "_lock", late)
    with files.locked(path), pytest.raises(CohortlibError, match="being written"), files.locked(path):
        pass


@posix
def test_a_temporary_file_that_another_process_deletes_is_made_again(tmp_path, monkeypatch):
    lock_temporary, times = files._lock_temporary, []

    def late(hidden):
        times.append(hidden)
        if len(times) < 3:  # another was faster: it has removed it, and then it has it locked
            hidden.unlink()
        if len(times) == 2:
            raise BlockingIOError
        lock = lock_temporary(hidden)
        if len(times) == 3:
            hidden.unlink()
        return lock

    monkeypatch.setattr(files, "_lock_temporary", late)
    files.commit(tmp_path, "a.txt", "new")
    assert len(set(times)) == 4
    assert names(tmp_path) == ["a.txt"]


@posix
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def none(_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "_lock", none)
    files.commit(tmp_path, "a.txt", "new")
    put(tmp_path / "out", "new")
    (tmp_path / ".out.0a1b2c3d.part").mkdir()  # maybe it is being written
    with pytest.raises(OSError, match="lock") as caught:
        put(tmp_path / "out", "newer")
    assert caught.value.filename == str(tmp_path / "out" / ".lock")
    assert names(tmp_path) == [".out.0a1b2c3d.part", "a.txt", "out"]


# -------------------------------------------------------------------------------------------------------- full disks


@pytest.fixture
def full(tmp_path):
    """Mount a disk of 1 MB, which is full at once."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if sys.platform != "linux" or os.geteuid() or not mount or not umount:
        pytest.skip("a small disk can be mounted by root alone")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run([umount, "-l", disk], check=True)


def test_a_full_disk_names_the_file(full):
    files.commit(full, "a.txt", "old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.commit(full, "a.txt", "x" * (2 << 20))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full / "a.txt"))
    assert contents(full) == {"a.txt": "old"}


@pytest.mark.parametrize("how", ["python", "polars", "polars, named"])
def test_a_full_disk_under_a_folder(full, how):
    put(full / "out", "old")
    frame = pl.DataFrame({"a": range(400_000)}).sample(fraction=1, shuffle=True, seed=1)

    def write():
        with files.atomic_folder(full / "out", has_manifest) as folder:
            if how == "python":
                (folder / "one").write_bytes(b"x" * (2 << 20))
            elif how == "polars":
                frame.lazy().sink_parquet(folder / "one")
            else:
                with files.file_errors(folder / "one"):
                    frame.lazy().sink_parquet(folder / "one")

    with pytest.raises(OSError, match="No space left on device") as caught:
        write()
    # an error without a file names the folder
    name = full / "out" / "one" if how == "polars, named" else full / "out"
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(name))
    assert names(full) == ["out"]
    assert contents(full / "out")["manifest"] == "old"


def test_a_full_disk_under_a_temporary_folder(full):
    def write(name):
        with files.temporary_folder(full) as folder, files.file_errors(folder / "one"):
            (folder / "one").write_bytes(b"x" * 1000)
            raise OSError(errno.ENOSPC, "No space left on device", str(name or folder / "one"))

    with pytest.raises(
        OSError, match=r"No space left on device \(rows that do not fit into memory are spilled here. Hint"
    ) as caught:
        write(None)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full))
    with pytest.raises(OSError, match="No space left") as caught:
        write(full / "other")
    assert caught.value.filename == str(full / "other")
    assert names(full) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pl.exceptions.ComputeError("x: No space left on device (os error 28)"), (28, "here")),
        (OSError("Permission denied (os error 13)"), (13, "here")),
        (OSError(28, "No space left on device"), (28, "here")),
        (OSError(28, "No space left on device", "there"), (28, "there")),
        (OSError(28, "No space left on device", "in/.here.0a1b2c3d.part"), (28, "here")),
    ],
)
def test_file_errors_name_the_path(error, expected):
    with pytest.raises(OSError, match=os.strerror(expected[0])) as caught, files.file_errors(Path("here")):
        raise error
    assert (caught.value.errno, caught.value.filename) == expected


@pytest.mark.parametrize("error", [SourceError("x (os error 28)"), ValueError("x"), OSError("x"), KeyboardInterrupt()])
def test_other_errors_are_not_changed(error):
    with pytest.raises(type(error)) as caught, files.file_errors(Path("here")):
        raise error
    assert caught.value is error
