"""Files and folders that appear whole, whatever fails, and whoever is interrupted or killed."""

import itertools
import os
import pathlib
import stat
import sys
import threading
import warnings
from contextlib import suppress

import pytest

from vae_anomaly import atomic
from vae_anomaly.atomic import atomic_file, atomic_folder, move, place, restore, work_folder

FILES = ("a", "b")
OPERATIONS = ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "chmod", "open")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch):
    """To wait for the disk at each of hundreds of points takes minutes."""
    monkeypatch.setattr(os, "fsync", os.fstat)


@pytest.fixture(params=["exchange", "rename pair"])
def exchange(request, monkeypatch):
    """Systems that can exchange two names in one step, and systems that cannot."""
    if request.param == "rename pair":
        monkeypatch.setattr(atomic, "_rename_exchange", unable)
    return request.param


def unable(*_):
    raise OSError(22, "Invalid argument")


def write_file(path, content="new"):
    with atomic_file(path) as file:
        file.write(content.encode())


def write_folder(path, content="new"):
    with atomic_folder(path, FILES) as folder:
        for name in FILES:
            (folder / name).write_text(content)


def content_of(path):
    path = pathlib.Path(path)
    if path.is_dir():
        assert {p.name for p in path.iterdir()} == set(FILES)
        return "".join({p.read_text() for p in path.iterdir()})
    return path.read_text() if path.exists() else None


def names_in(folder):
    return sorted(os.listdir(folder))


WRITERS = pytest.mark.parametrize("write", [write_file, write_folder])


@WRITERS
def test_what_is_written_appears_and_replaces_what_was_there(write, exchange, tmp_path):
    for content in ("one", "two", "three"):
        write(tmp_path / "m", content)
        assert content_of(tmp_path / "m") == content
        assert names_in(tmp_path) == ["m"]


@WRITERS
def test_nothing_is_seen_before_the_block_ends(write, tmp_path):
    write(tmp_path / "m", "old")
    context = (
        atomic_file(tmp_path / "m") if write is write_file else atomic_folder(tmp_path / "m", FILES)
    )
    with context:
        assert content_of(tmp_path / "m") == "old"


@WRITERS
def test_a_symbolic_link_stays_one(write, exchange, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "current").symlink_to(pathlib.Path("real", "m"))
    for content in ("one", "two"):
        write(tmp_path / "current", content)
        assert (tmp_path / "current").is_symlink()
        assert content_of(tmp_path / "real" / "m") == content
    assert names_in(tmp_path) == ["current", "real"]
    assert names_in(tmp_path / "real") == ["m"]


@WRITERS
def test_permissions_are_kept(write, exchange, tmp_path):
    write(tmp_path / "m")
    (tmp_path / "m").chmod(0o750)
    write(tmp_path / "m")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o750


def test_a_block_that_fails_leaves_the_old_one(exchange, tmp_path):
    write_file(tmp_path / "f", "old")
    write_folder(tmp_path / "m", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "f") as file:
        file.write(b"new")
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "m", FILES) as folder:
        (folder / "a").write_text("new")
        1 / 0  # noqa: B018
    assert content_of(tmp_path / "f") == content_of(tmp_path / "m") == "old"
    assert names_in(tmp_path) == ["f", "m"]


@pytest.mark.parametrize("before", [False, True])
def test_a_file_of_another_in_the_folder_is_never_removed(exchange, before, tmp_path):
    write_folder(tmp_path / "m", "old")
    if before:
        (tmp_path / "m" / "thesis.txt").write_text("mine")
    with (
        pytest.raises(FileExistsError, match=r"thesis\.txt"),
        atomic_folder(tmp_path / "m", FILES) as folder,
    ):
        assert not before
        (folder / "a").write_text("new")
        (tmp_path / "m" / "thesis.txt").write_text("mine")
    assert {p.read_text() for p in (tmp_path / "m").iterdir()} == {"old", "mine"}
    assert names_in(tmp_path) == ["m"]


def test_what_is_no_folder_is_not_replaced_by_one(tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(FileExistsError, match="no folder"), atomic_folder(tmp_path / "m", FILES):
        pass
    assert content_of(tmp_path / "m") == "mine"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileExistsError, match="something else"), atomic_file(path):
            pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_may_be_closed_in_its_block(tmp_path):
    with atomic_file(tmp_path / "f") as file:
        file.write(b"new")
        file.close()
    assert content_of(tmp_path / "f") == "new"


@WRITERS
def test_all_is_on_the_disk_before_it_has_its_name_and_the_name_is_afterwards(
    write, exchange, tmp_path, monkeypatch
):
    done = []

    def logged(name, operation, path_of):
        def run(*args, **kwargs):
            done.append((name, path_of(args[0])))
            return operation(*args, **kwargs)

        monkeypatch.setattr(os, name, run)

    def of_descriptor(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    write(tmp_path / "m")
    logged("fsync", os.fsync, of_descriptor)
    for name in ("rename", "replace"):
        logged(name, getattr(os, name), os.path.basename)
    write(tmp_path / "m")
    on_disk = [what for name, what in done if name == "fsync"]
    if write is write_file:
        assert done == [
            ("fsync", ".m.part"),
            ("replace", ".m.part"),
            ("fsync", tmp_path.name),
        ]
    else:
        assert sorted(on_disk[:-1]) == ["a", "b", "new"]
        assert done[-1] == ("fsync", tmp_path.name)
        renamed = [name for name, _ in done].count("rename")
        assert renamed == (2 if exchange == "rename pair" else 0)
        assert all(name == "fsync" for name, _ in done[:3])


def test_move_replaces_a_file(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    move(tmp_path / "a", tmp_path / "b")
    assert content_of(tmp_path / "b") == "new"
    assert names_in(tmp_path) == ["b"]


def test_place_gives_a_name_that_nothing_has(tmp_path):
    with work_folder(tmp_path / ".work") as work:
        (work / "part").mkdir()
        (work / "part" / "a").write_text("new")
        (work / "rest").write_text("of no use")
        for taken in ("1", "2", "3"):
            if taken == "1":
                (tmp_path / taken).mkdir()
            elif taken == "2":
                (tmp_path / taken).write_text("mine")
            else:
                (tmp_path / taken).symlink_to("nowhere")
            with pytest.raises(FileExistsError):
                place(work / "part", tmp_path / taken)
        place(work / "part", tmp_path / "4")
    assert names_in(tmp_path / "4") == ["a"]
    assert names_in(tmp_path) == ["1", "2", "3", "4"]


def test_a_work_folder_begins_empty_and_says_what_was_left(tmp_path):
    (tmp_path / ".work" / "part").mkdir(parents=True)
    (tmp_path / ".work" / "part" / "a").write_text("left")
    with (
        pytest.warns(UserWarning, match=r"\.work was left by"),
        work_folder(tmp_path / ".work") as work,
    ):
        assert names_in(work) == []
    assert names_in(tmp_path) == []


@WRITERS
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_operation_that_fails_leaves_the_old_one_or_the_new_one(
    write, existing, error, exchange, tmp_path, monkeypatch
):
    for point in itertools.count():
        folder = tmp_path / str(point)
        folder.mkdir()
        if existing:
            write(folder / "m", "old")
        with monkeypatch.context() as patch:
            is_reached = fail_at(patch, point, error)
            with suppress(OSError, KeyboardInterrupt):
                write(folder / "m")
        check_that_the_next_works(folder, write, "old" if existing else None)
        if not is_reached():
            break
    assert point > 4


def fail_at(patch, point, error):
    """Let the system's operation of that number, counted from 0, fail; return if it came to it."""
    left = itertools.count(point, -1)
    reached = []

    def wrapped(operation):
        def run(*args, **kwargs):
            if next(left) == 0:
                reached.append(operation)
                raise error
            return operation(*args, **kwargs)

        return run

    for name in OPERATIONS:
        patch.setattr(os, name, wrapped(getattr(os, name)))
    patch.setattr(atomic, "_rename_exchange", wrapped(atomic._rename_exchange))
    return lambda: bool(reached)


def check_that_the_next_works(folder, write, old):
    """Check that the old or the new one is there, and that nothing stands in the next one's way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if write is write_folder:
            restore(folder / "m", FILES)
        assert content_of(folder / "m") in (old, "new")
        write(folder / "m", "next")
    assert content_of(folder / "m") == "next"
    assert names_in(folder) == ["m"]


# Between an open and its ``with`` nothing can close the file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@WRITERS
@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_at_any_line_leaves_the_old_one_or_the_new_one(write, existing, exchange, tmp_path):
    for point in itertools.count():
        folder = tmp_path / str(point)
        folder.mkdir()
        if existing:
            write(folder / "m", "old")
        left = itertools.count(point, -1)

        def interrupt(frame, event, _, left=left):
            if frame.f_code.co_filename != atomic.__file__:
                return None
            if event == "line" and next(left) == 0:
                raise KeyboardInterrupt
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            with suppress(KeyboardInterrupt):
                write(folder / "m")
        finally:
            sys.settrace(before)
        check_that_the_next_works(folder, write, "old" if existing else None)
        if next(left) >= 0:
            break
    assert point > 20


KILLS = """
import itertools, os, pathlib, shutil, sys, warnings
os.fsync = os.fstat
sys.path.insert(0, sys.argv[1])
import test_atomic as t
from vae_anomaly import atomic
warnings.simplefilter("ignore")
if sys.argv[3] == "rename pair":
    atomic._rename_exchange = t.unable
write, folder = getattr(t, sys.argv[4]), pathlib.Path(sys.argv[2])
for point in itertools.count():
    folder.mkdir()
    write(folder / "m", "old")
    pid = os.fork()
    if not pid:
        left = itertools.count(point, -1)
        def wrapped(operation):
            def run(*args, **kwargs):
                if next(left) == 0:
                    os._exit(9)
                return operation(*args, **kwargs)
            return run
        for name in t.OPERATIONS:
            setattr(os, name, wrapped(getattr(os, name)))
        atomic._rename_exchange = wrapped(atomic._rename_exchange)
        write(folder / "m")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    t.check_that_the_next_works(folder, write, "old")
    shutil.rmtree(folder)
    if code == 0:
        break
    assert code == 9, code
print(point)
"""


@WRITERS
def test_a_kill_at_any_operation_leaves_the_old_one_or_the_new_one(
    write, exchange, tmp_path, fresh_python
):
    here = pathlib.Path(__file__).parent
    assert int(fresh_python(KILLS, here, tmp_path / "k", exchange, write.__name__)) > 4


def test_what_a_killed_process_left_is_reported(tmp_path):
    work = tmp_path / ".m.part"
    (work / "old").mkdir(parents=True)
    (work / "new").mkdir()
    for name in FILES:
        (work / "old" / name).write_text("old")
    with pytest.warns(UserWarning, match=r"\.m\.part was left by a process that was killed"):
        restore(tmp_path / "m", FILES)
    assert content_of(tmp_path / "m") == "old"
    (work / "new").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"\.m\.part was left"):
        write_folder(tmp_path / "m")
    assert names_in(tmp_path) == ["m"]


def test_what_is_not_ours_in_a_left_over_folder_stays(tmp_path):
    (tmp_path / ".m.part" / "new").mkdir(parents=True)
    (tmp_path / ".m.part" / "new" / "thesis.txt").write_text("mine")
    with pytest.warns(UserWarning, match="was left by"), pytest.raises(FileExistsError):
        write_folder(tmp_path / "m")
    assert (tmp_path / ".m.part" / "new" / "thesis.txt").read_text() == "mine"


def test_a_file_where_the_work_would_be_done_is_an_error(tmp_path):
    (tmp_path / ".m.part").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a folder to work in.*\.m\.part"):
        write_folder(tmp_path / "m")
    assert (tmp_path / ".m.part").read_text() == "mine"


@WRITERS
def test_two_that_write_the_same_wait_for_each_other(write, exchange, tmp_path):
    contents = [str(i) for i in range(12)]
    threads = [
        threading.Thread(target=write, args=(tmp_path / "m", content)) for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content_of(tmp_path / "m") in contents
    assert names_in(tmp_path) == ["m"]


def test_a_system_that_cannot_lock_writes_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.fcntl, "flock", unable)
    write_file(tmp_path / "f")
    write_folder(tmp_path / "m")
    assert content_of(tmp_path / "f") == content_of(tmp_path / "m") == "new"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    for write in (write_file, write_folder):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "nowhere" / "m")
