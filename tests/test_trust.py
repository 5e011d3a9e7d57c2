"""What others could replace is not loaded, unless the loader of this process would load it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from moderngl_colab import _cache, _driver, _trust
from rig import driver, machines
from rig.layout import Placed

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
STRANGER = 12345
Python = Callable[..., machines.Finished]


# ---- who could replace a file --------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A file in a folder of a folder, all of them nobody else's."""
    folder = tmp_path / "driver" / "lib"
    folder.mkdir(parents=True)
    path = folder / "libEGL_nvidia.so.0"
    path.touch()
    return path


def breach(path: Path) -> str | None:
    found = _trust.breach(str(path))
    return None if found is None else str(found)


def test_what_is_ours_is_safe(library: Path) -> None:
    assert breach(library) is None


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_file_or_folder_that_everybody_may_write_to_is_not(library: Path, above: int) -> None:
    at = (library, *library.parents)[above]
    at.chmod(0o777)

    assert breach(library) == f"{at} can be written to by everybody"
    at.chmod(0o775)
    assert breach(library) is None


def test_in_a_sticky_folder_what_is_ours_is_safe(library: Path) -> None:
    library.parent.chmod(0o1777)

    assert breach(library) is None


@NEEDS_ROOT
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_file_or_folder_of_another_user_is_not(library: Path, above: int) -> None:
    at = (library, *library.parents)[above]
    os.chown(at, STRANGER, 0)

    assert breach(library) == f"{at} belongs to user {STRANGER}"


@NEEDS_ROOT
def test_in_a_sticky_folder_what_is_anothers_is_not(library: Path) -> None:
    library.parent.chmod(0o1777)
    os.chown(library, STRANGER, 0)

    assert breach(library) == f"{library} belongs to user {STRANGER}"


def test_every_link_on_the_way_counts(library: Path, tmp_path: Path) -> None:
    through, open_to_all = tmp_path / "through", tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "link").symlink_to("../driver/./lib")
    through.symlink_to("open/link")
    assert breach(through / library.name) is None

    open_to_all.chmod(0o777)

    assert breach(through / library.name) == f"{open_to_all} can be written to by everybody"
    assert breach(through / ".." / ".." / "driver" / "lib" / library.name) is not None


@NEEDS_ROOT
def test_a_link_of_another_user_is_not_followed(library: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(library.parent)
    os.chown(link, STRANGER, 0, follow_symlinks=False)

    assert breach(link / library.name) == f"{link} belongs to user {STRANGER}"


@pytest.mark.parametrize("name", ["absent", "loop", "loop/below"])
def test_what_cannot_be_reached_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(OSError, match=r"No such file|Too many levels|Not a directory"):
        _trust.breach(str(tmp_path / name))


# ---- what is searched ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["EGL_nvidia.so.0", "nvidia-eglcore.so", "nvidia-ml.so"])
def test_a_part_of_the_driver_that_others_could_replace_is_passed_over(
    tmp_path: Path, part: str
) -> None:
    folder = tmp_path / "usr/lib64-nvidia"
    driver.build(folder)
    (spoiled,) = (
        (path for path in folder.iterdir() if part in path.name and not path.is_symlink())
        if part != "EGL_nvidia.so.0"
        else [folder / f"libEGL_nvidia.so.{driver.VERSION}"]
    )
    spoiled.chmod(0o777)

    found = _driver.find({}, str(tmp_path))

    paths = [*found.libraries.values(), *found.siblings.values(), found.nvml or ""]
    assert not [path for path in paths if part in path]
    assert {os.path.realpath(path) for path, _ in _driver.exposed({}, str(tmp_path))} == {
        str(spoiled)
    }
    spoiled.chmod(0o755)
    # What mends it is seen at once, though the folder itself has not changed.
    assert part in str(_driver.find({}, str(tmp_path)))
    assert _driver.exposed({}, str(tmp_path)) == ()


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "MODERNGL_COLAB_DRIVER_DIR"])
def test_the_next_copy_is_taken_instead(tmp_path: Path, variable: str) -> None:
    planted = tmp_path / "planted"
    for folder in (planted, tmp_path / "usr/lib64-nvidia"):
        driver.build(folder)
    environ = {variable: str(planted)}
    assert _driver.find(environ, str(tmp_path)).libraries["EGL"].startswith(str(planted))

    planted.chmod(0o777)

    found = _driver.find(environ, str(tmp_path))
    for path in (*found.libraries.values(), *found.siblings.values(), str(found.nvml)):
        assert path.startswith(str(tmp_path / "usr"))
    assert {at.path for _, at in _driver.exposed(environ, str(tmp_path))} == {str(planted)}


@pytest.mark.parametrize("folder", ["usr/lib64", "opt/driver"])
def test_where_the_loader_itself_looks_nothing_is_passed_over(tmp_path: Path, folder: str) -> None:
    driver.build(tmp_path / folder)
    (tmp_path / folder).chmod(0o777)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(b"\0/opt/driver/libEGL_nvidia.so.0\0")

    assert set(_driver.find({}, str(tmp_path)).libraries) == {"EGL", "GLX"}


# ---- in processes --------------------------------------------------------------------------------

ASK = """
import json, os, sys
os.environ.update(json.loads(sys.argv[1]))
import moderngl_colab
try:
    info = moderngl_colab.describe(moderngl_colab.get_gpu_context(strategies=["egl", "glx"]))
    print(json.dumps([info.vendor, info.software]))
except moderngl_colab.GPUContextError as error:
    print(json.dumps([[a.cause, a.reason, a.remedy] for a in error.attempts if a.cause]))
with open("/proc/self/maps") as maps:
    print(json.dumps(sorted({line.split()[-1] for line in maps if "nvidia" in line})))
"""
FOLDER, OTHER = "/usr/lib64-nvidia", "/usr/planted"
UIDS = [pytest.param(None), pytest.param(1000, marks=NEEDS_ROOT)]


def machine(folder: str = FOLDER, mode: str = "", owner: int = 0) -> machines.Machine:
    """One whose driver lies where its loader does not look."""
    placed = Placed(folder, mode=mode, owner=owner)
    return machines.Machine("exposed", "", libraries=(placed,), kernel=machines.KERNEL)


def ask(
    python: Python,
    machine: machines.Machine,
    uid: int | None,
    env: Mapping[str, str] | None = None,
    **start: str,
) -> tuple[Any, list[str]]:
    """What came of it, and the files of NVIDIA's that were loaded.

    Arguments:
        python: the fixture.
        machine: the machine.
        uid: who asks.
        env: the variables that are set in the process.
        start: those that it is started with.
    """
    answer, loaded = python(
        machine, ASK, json.dumps(dict(env or {})), env=start, uid=uid
    ).stdout.splitlines()
    return json.loads(answer), json.loads(loaded)


GIVEN_TO_ROOT = f"chown -hR root {FOLDER} && chmod -R o-w {FOLDER}"
COPIED = (
    'export MODERNGL_COLAB_DRIVER_DIR="$(mktemp -d)" && install -m 755 {}/lib*nv*.so.* '
    '"$MODERNGL_COLAB_DRIVER_DIR"'
)


def refusals(breach: str, remedy: str, folder: str = FOLDER) -> list[list[str]]:
    """The attempts of both strategies."""
    return [
        [
            "userland-exposed",
            f"{folder}/lib{half}_nvidia.so.{driver.VERSION} is passed over, for {breach}: somebody "
            "else could replace it, and it is not where the loader of this process looks",
            f"{remedy}  # if you trust what is in it; then start this program anew",
        ]
        for half in ("EGL", "GLX")
    ]


@NEEDS_ROOT
@pytest.mark.parametrize("uid", UIDS)
def test_a_driver_that_everybody_could_replace_is_not_loaded(
    python: Python, uid: int | None
) -> None:
    answer, loaded = ask(python, machine(mode="0777"), uid)

    remedy = GIVEN_TO_ROOT if uid is None else COPIED.format(FOLDER)
    breach = f"{FOLDER} can be written to by everybody"
    assert (answer, loaded) == (refusals(breach, remedy), [])


@NEEDS_ROOT
@pytest.mark.parametrize("uid", UIDS)
def test_a_driver_of_another_user_is_not_loaded(python: Python, uid: int | None) -> None:
    answer, loaded = ask(python, machine(owner=STRANGER), uid)

    remedy = GIVEN_TO_ROOT if uid is None else COPIED.format(FOLDER)
    assert (answer, loaded) == (refusals(f"{FOLDER} belongs to user {STRANGER}", remedy), [])


CURE = """
import json, os, subprocess, sys
ask, at, made = sys.argv[1:]
for _ in range(2):
    done = subprocess.run([sys.executable, "-P", "-c", ask, "{}"], capture_output=True, text=True)
    print(done.stdout.splitlines()[0], done.stderr, end="\\n")
    if "exposed" in done.stdout:
        cure = json.loads(done.stdout.splitlines()[0])[0][2].partition("  #")[0]
        program = f"export TMPDIR={made}; {cure} && printenv MODERNGL_COLAB_DRIVER_DIR; true"
        named = subprocess.check_output(["sh", "-c", program], text=True)
        os.environ["MODERNGL_COLAB_DRIVER_DIR"] = named.strip()
status = os.stat(at)
print(status.st_uid, oct(status.st_mode & 0o7777), len(os.listdir(made)))
"""


@NEEDS_ROOT
@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("mode", ["", "0777"])
@pytest.mark.parametrize("at", [FOLDER, f"{OTHER}/driver"])
def test_what_is_printed_mends_it_at_once(
    python: Python, folder: Path, uid: int | None, mode: str, at: str
) -> None:
    """A folder in somebody's own one, as where a container mounts his work, stays as it was."""
    made = folder / "made"
    made.mkdir()
    made.chmod(0o1777)

    said = python(
        machine(at, mode, STRANGER), CURE, ASK, at, str(made),
        env={"MODERNGL_COLAB_DRIVER_DIR": at}, uid=uid,
    ).stdout.splitlines()  # fmt: skip

    before, after, folder_after = (line.strip() for line in said)
    assert [cause for cause, _, _ in json.loads(before)] == ["userland-exposed"] * 2
    assert json.loads(after) == ["NVIDIA Corporation", False]
    if at == FOLDER and uid is None:
        assert folder_after == f"0 0o{'775' if mode else '755'} 0"
    else:
        assert folder_after == f"{STRANGER} 0o{mode.lstrip('0') or '755'} 1"


@NEEDS_ROOT
@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "MODERNGL_COLAB_DRIVER_DIR"])
@pytest.mark.parametrize("uid", UIDS)
def test_a_folder_that_is_named_in_the_process_is_not_trusted_for_that(
    python: Python, uid: int | None, variable: str
) -> None:
    answer, loaded = ask(python, machine(OTHER, owner=STRANGER), uid, {variable: OTHER})

    breach, remedy = f"{OTHER} belongs to user {STRANGER}", COPIED.format(OTHER)
    assert (answer, loaded) == (refusals(breach, remedy, OTHER), [])


@pytest.mark.parametrize("uid", UIDS)
def test_the_folders_of_the_loader_are_trusted_as_the_loader_does(
    python: Python, uid: int | None
) -> None:
    owner = STRANGER if os.geteuid() == 0 else 0

    answer, loaded = ask(
        python, machine(OTHER, "0777", owner), uid, {"LD_LIBRARY_PATH": ""}, LD_LIBRARY_PATH=OTHER
    )
    assert answer[0][0] == "userland-absent"  # Taken away again, it is not searched at all.
    answer, loaded = ask(python, machine(OTHER, "0777", owner), uid, LD_LIBRARY_PATH=OTHER)

    assert answer == ["NVIDIA Corporation", False]
    assert f"{OTHER}/libEGL_nvidia.so.{driver.VERSION}" in loaded


@pytest.mark.parametrize("uid", UIDS)
def test_a_driver_of_this_users_own_is_loaded(python: Python, uid: int | None) -> None:
    answer, _ = ask(
        python, machine(OTHER, owner=uid or 0), uid, {"MODERNGL_COLAB_DRIVER_DIR": OTHER}
    )

    assert answer == ["NVIDIA Corporation", False]


@NEEDS_ROOT
def test_the_user_who_is_called_nobody_is_trusted_nowhere_else(python: Python) -> None:
    nobody = int(Path("/proc/sys/kernel/overflowuid").read_text())

    answer, loaded = ask(python, machine(owner=nobody), 1000)

    assert [cause for cause, _, _ in answer] == ["userland-exposed"] * 2
    assert loaded == []


# A user namespace without the host's root, as a rootless container is one.
ROOTLESS = """
import os, subprocess, sys
code = (
    "import os; from moderngl_colab import _driver;"
    "print(len(_driver.find().libraries), os.stat('/usr/lib64-nvidia').st_uid)"
)
command = [sys.executable, "-P", "-c", code]
if sys.argv[1] == "rootless":
    command = ["unshare", "--user", "--map-root-user", *command]
sys.exit(subprocess.run(command).returncode)
"""


@NEEDS_ROOT
def test_in_a_rootless_container_the_hosts_root_is_trusted(python: Python) -> None:
    nobody = Path("/proc/sys/kernel/overflowuid").read_text()

    assert python(machine(), ROOTLESS, "rootless", uid=1000).stdout == f"2 {nobody}"
    assert python(machine(), ROOTLESS, "", uid=1000).stdout == "2 0\n"
    assert python(machine(owner=STRANGER), ROOTLESS, "", uid=1000).stdout == f"0 {STRANGER}\n"


# The doctor's processes are started with the variables as they are now.
DOCTOR = """
import os
os.environ["LD_LIBRARY_PATH"] = "/usr/lib64-nvidia"
import moderngl_colab
report = moderngl_colab.diagnose()
print(report.verdict, *(finding.code for finding in report.findings))
"""


@NEEDS_ROOT
def test_the_doctor_trusts_no_more_than_the_process_that_asks_it(python: Python) -> None:
    start = {"LD_LIBRARY_PATH": FOLDER}

    changed = python(machine(mode="0777"), DOCTOR, timeout=120).stdout
    started = python(machine(mode="0777"), DOCTOR, env=start, timeout=120).stdout

    assert changed.split()[:2] == ["software", "userland-exposed"]
    assert started.split()[:1] == ["gpu"]


ANSWER_FOR = """
from moderngl_colab import _loader
for folders in (["/a", "/b", "/c"], ["/b", "/d"], []):
    _loader.answer_for(folders)
    print(*_loader.at_the_start(), sorted(_loader.searched() & {"/a", "/b", "/c", "/d"}))
"""


def test_who_answers_for_another_process_only_ever_trusts_less(python: Python) -> None:
    said = python("no-nvidia", ANSWER_FOR, env={"LD_LIBRARY_PATH": "/a:/b"}).stdout

    assert said.splitlines() == ["/a /b ['/a', '/b']", "/b ['/b']", "[]"]


# ---- processes with somebody else's rights -------------------------------------------------------

PRIVILEGED = """
import json, os, shutil, sys
import moderngl_colab
from glcontext import egl
from moderngl_colab import _cache, _driver, _glvnd, survey
import moderngl_colab.devices, moderngl_colab.launch, moderngl_colab.findings.every
exec(sys.argv[1])
machine = survey.look()
assert _driver.find() == _driver.NONE
assert (_glvnd.user_choice(), _glvnd.glx_choice()) == (None, None)
before = dict(os.environ)
with _glvnd.offering("/planted/libEGL_nvidia.so.0"):
    assert dict(os.environ) == before
try:
    moderngl_colab.get_gpu_context(strategies=["egl", "glx"])
except moderngl_colab.GPUContextError as error:
    print([attempt.cause for attempt in error.attempts if attempt.cause])
try:
    moderngl_colab.prepare_environment()
except moderngl_colab.GPUContextError as error:
    print(str(error).splitlines()[0])
with open("/proc/self/maps") as maps:
    print(sorted({line.split()[-1] for line in maps if "nvidia" in line}))
print([vendor.path for vendor in machine.vendors if "planted" in vendor.path])
"""


@NEEDS_ROOT
@pytest.mark.parametrize(
    "identity",
    ["os.setresuid(1000, 0, 0)", "os.setresgid(1000, 0, 0)", "os.setresuid(0, 1000, 1000)"],
)
def test_with_rights_that_are_not_the_users_nothing_is_loaded_and_no_variable_counts(
    python: Python, tmp_path: Path, identity: str
) -> None:
    planted = tmp_path / "planted.json"
    planted.write_text('{"ICD": {"library_path": "/planted/libEGL_nvidia.so.0"}}')
    env = {
        "LD_LIBRARY_PATH": FOLDER,
        "MODERNGL_COLAB_DRIVER_DIR": FOLDER,
        "__EGL_VENDOR_LIBRARY_FILENAMES": str(planted),
        "__GLX_VENDOR_LIBRARY_NAME": "planted",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    said = python("colab-no-path", PRIVILEGED, identity, env=env).stdout.splitlines()

    assert said == [
        "['privileged', 'privileged']",
        "no OpenGL program can get the GPU here: real and effective user or group differ, and "
        "which libraries such a process loads is left alone",
        "[]",
        "[]",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["planted.json"]
    assert stat.S_IMODE(planted.stat().st_mode) & 0o400


# ---- the folder of the ICD that other programs are given -----------------------------------------

LIBRARY = "/usr/lib64-nvidia/libEGL_nvidia.so.0"


def test_a_fifo_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "moderngl_colab")

    with pytest.raises(_cache.CacheError, match=r"\(it is no folder\)"):
        _cache.icd(LIBRARY, {"XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.parametrize("name", ["a/" * 5000, "a" * 5000, "../" * 5000 + "nowhere/a" * 2000])
def test_a_path_that_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(_cache.CacheError, match=r"\(File name too long\)"):
        _cache.icd(LIBRARY, {"XDG_CACHE_HOME": f"{tmp_path}/{name}"})


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("there", [True, False])
def test_where_others_could_replace_a_folder_on_the_way_nothing_is_written(
    tmp_path: Path, above: int, there: bool
) -> None:
    cache = tmp_path / "home" / ".cache"
    cache.mkdir(parents=True)
    at = (cache, cache.parent)[above]
    at.chmod(0o777)
    home = cache if there else cache / "more" / "still"

    with pytest.raises(_cache.CacheError, match=rf"\({at} can be written to by everybody\)"):
        _cache.icd(LIBRARY, {"XDG_CACHE_HOME": str(home)})

    assert list(cache.iterdir()) == []


def test_a_hard_link_to_a_file_of_ours_is_not_written_through(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = Path(_cache.icd(LIBRARY, environ))
    precious = tmp_path / "precious"
    precious.write_text("precious")
    precious.chmod(0o600)
    path.unlink()
    path.hardlink_to(precious)

    assert _cache.icd(LIBRARY, environ) == str(path)
    assert precious.read_text() == "precious"
    assert LIBRARY in path.read_text()


SWAP = """
import os, sys
folder, target = sys.argv[1:]
print("ready", flush=True)
while True:
    try:
        os.rename(folder, folder + ".kept")
        os.symlink(target, folder)
        os.unlink(folder)
        os.rename(folder + ".kept", folder)
    except OSError:
        pass
"""


def test_a_folder_that_is_swapped_for_a_link_meanwhile_is_never_followed(tmp_path: Path) -> None:
    target, cache = tmp_path / "target", tmp_path / "cache"
    target.mkdir()
    _cache.icd(LIBRARY, {"XDG_CACHE_HOME": str(cache)})
    command = [sys.executable, "-P", "-c", SWAP, f"{cache}/moderngl_colab", str(target)]
    outcomes = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        for number in range(2000):
            try:
                _cache.icd(f"/{number}/libEGL_nvidia.so.0", {"XDG_CACHE_HOME": str(cache)})
                outcomes.add("written")
            except _cache.CacheError as error:
                outcomes.add(str(error).partition("(")[2].partition(")")[0])
        swapper.kill()

    assert list(target.iterdir()) == []
    assert "written" in outcomes
