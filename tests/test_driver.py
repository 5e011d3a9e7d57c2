"""The search for NVIDIA's userland, over directories of the shape of a machine's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderngl_colab import _driver, _loader
from rig import driver

MULTIARCH = f"usr/lib/{os.uname().machine}-linux-gnu"
NEW, OLD = "550.54.15", "535.104.05"
# Of this interpreter's class and machine; more of a library is not read.
HEADER = Path("/proc/self/exe").read_bytes()[:64]
# The same without tables, which would have to follow it.
LIBRARY = HEADER[:32] + bytes(16) + HEADER[48:54] + bytes(10)
LINE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"


class Disk:
    """A directory that stands for ``/``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str | bytes = "") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def kernel(self, text: str) -> None:
        self.file("proc/driver/nvidia/version", text)

    def driver(self, folder: str, version: str = NEW, parts: str = "EGL GLX siblings ml") -> None:
        names = [f"lib{half}_nvidia" for half in ("EGL", "GLX") if half in parts]
        if "siblings" in parts:
            names += [f"libnvidia-{n}" for n in ("gpucomp", "tls", "glsi", "eglcore", "glcore")]
        if "ml" in parts:
            names += ["libnvidia-ml"]
        for name in names:
            self.file(f"{folder}/{name}.so.{version}", LIBRARY)
        for name in names:
            if name.endswith("_nvidia"):
                (self.root / folder / f"{name}.so.0").symlink_to(f"{name}.so.{version}")

    def find(self, **environ: str) -> _driver.Userland:
        return _driver.find(environ, str(self.root))

    def egl(self, **environ: str) -> str | None:
        path = self.find(**environ).libraries.get("EGL")
        return None if path is None else str(Path(path).relative_to(self.root))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_where_there_is_no_driver_the_userland_is_empty(disk: Disk) -> None:
    assert disk.find() == _driver.NONE


@pytest.mark.parametrize(
    "folder",
    [
        "usr/lib64-nvidia",
        "usr/local/nvidia/lib64",
        "usr/local/nvidia/lib",
        MULTIARCH,
        "usr/lib64",
        f"{MULTIARCH}/nvidia/current",
        "usr/lib/nvidia/current",
        "usr/lib/nvidia-550",
        "run/opengl-driver/lib",
        ".singularity.d/libs",
    ],
)
def test_each_known_directory_is_searched(disk: Disk, folder: str) -> None:
    disk.driver(folder)

    found = disk.find()

    assert found.version == NEW
    assert found.libraries["EGL"] == str(disk.root / folder / "libEGL_nvidia.so.0")
    assert found.libraries["GLX"] == str(disk.root / folder / "libGLX_nvidia.so.0")
    assert set(found.siblings) == {"gpucomp", "tls", "glsi", "eglcore", "glcore"}
    assert found.nvml == str(disk.root / folder / f"libnvidia-ml.so.{NEW}")
    assert found.missing_siblings("EGL") == found.missing_siblings("GLX") == ()


def test_the_users_directory_comes_first_and_the_library_path_second(disk: Disk) -> None:
    for folder in ("own", "path", "usr/lib64-nvidia"):
        disk.driver(folder)
    own, path = str(disk.root / "own"), f":{disk.root / 'path'}:"

    assert disk.egl(MODERNGL_COLAB_DRIVER_DIR=own, LD_LIBRARY_PATH=path) == "own/libEGL_nvidia.so.0"
    assert disk.egl(LD_LIBRARY_PATH=path) == "path/libEGL_nvidia.so.0"
    assert disk.egl() == "usr/lib64-nvidia/libEGL_nvidia.so.0"


def test_relative_and_empty_entries_of_the_library_path_are_not_searched(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.driver("here")
    monkeypatch.chdir(disk.root / "here")

    assert disk.egl(LD_LIBRARY_PATH=":.::../here") is None


def test_the_loaders_cache_tells_directories_of_its_own(disk: Disk) -> None:
    disk.driver("opt/driver")
    entries = b"\0libEGL_nvidia.so.0\0/opt/driver/libEGL_nvidia.so.0\0libc.so.6\0/lib/libc.so.6\0"
    disk.file("etc/ld.so.cache", b"glibc-ld.so.cache1.1\xff\xfe" + entries)

    assert disk.egl() == "opt/driver/libEGL_nvidia.so.0"


def test_of_several_copies_the_kernel_modules_version_wins(disk: Disk) -> None:
    disk.driver(MULTIARCH, OLD)
    disk.driver("usr/local/nvidia/lib64", NEW)

    assert disk.find().version == NEW  # in the order of the directories
    disk.kernel(LINE.replace(NEW, OLD))
    assert (disk.find().version, disk.egl()) == (OLD, f"{MULTIARCH}/libEGL_nvidia.so.{OLD}")
    disk.kernel(LINE)
    assert disk.egl() == f"usr/local/nvidia/lib64/libEGL_nvidia.so.{NEW}"


def test_two_versions_in_one_directory_are_told_apart(disk: Disk) -> None:
    disk.driver(MULTIARCH, "580.82.07")
    for name in ("libEGL_nvidia", "libnvidia-eglcore", "libnvidia-glsi", "libnvidia-tls"):
        disk.file(f"{MULTIARCH}/{name}.so.{NEW}", LIBRARY)
    disk.kernel(LINE)

    found = disk.find()

    assert found.version == NEW
    assert found.libraries == {"EGL": str(disk.root / MULTIARCH / f"libEGL_nvidia.so.{NEW}")}
    assert {Path(path).name for path in found.siblings.values()} == {
        f"libnvidia-{name}.so.{NEW}" for name in ("eglcore", "glsi", "tls")
    }


def test_siblings_of_another_directory_are_found(disk: Disk) -> None:
    disk.driver(f"{MULTIARCH}/nvidia/current", NEW, "EGL GLX")
    disk.driver(MULTIARCH, NEW, "siblings")

    assert disk.find().siblings["eglcore"] == str(
        disk.root / MULTIARCH / f"libnvidia-eglcore.so.{NEW}"
    )
    assert disk.find().missing_siblings("EGL") == ()


STORE = f"home/.local/share/moderngl_colab/driver/{NEW}-{os.uname().machine}"


@pytest.mark.parametrize(
    ("of_the_system", "version", "taken"),
    [
        ("EGL GLX siblings ml", NEW, MULTIARCH),
        ("ml", NEW, STORE),
        ("GLX siblings ml", NEW, STORE),
        ("EGL GLX", NEW, STORE),
        ("EGL GLX siblings ml", OLD, STORE),
    ],
)
def test_what_was_installed_is_taken_whole_where_the_systems_is_not(
    disk: Disk, of_the_system: str, version: str, taken: str
) -> None:
    disk.kernel(LINE)
    disk.driver(MULTIARCH, version, of_the_system)
    disk.driver(STORE, parts="EGL GLX siblings")

    found = disk.find(HOME=str(disk.root / "home"))

    libraries = (*found.libraries.values(), *found.siblings.values())
    assert {str(Path(path).parent.relative_to(disk.root)) for path in libraries} == {taken}
    assert (found.version, found.is_whole) == (NEW, True)
    if version == NEW and "ml" in of_the_system:
        assert found.nvml == str(disk.root / MULTIARCH / f"libnvidia-ml.so.{NEW}")


def test_what_was_installed_for_another_module_is_ignored(disk: Disk) -> None:
    disk.kernel(LINE.replace(NEW, OLD))
    disk.driver(STORE)

    assert disk.find(HOME=str(disk.root / "home")).libraries == {}


@pytest.mark.parametrize("variable", ["LD_LIBRARY_PATH", "MODERNGL_COLAB_DRIVER_DIR"])
def test_what_was_installed_serves_no_other_module_by_a_variable_either(
    disk: Disk, variable: str
) -> None:
    disk.kernel(LINE)
    old = STORE.replace(NEW, OLD)
    disk.driver(old, OLD)
    disk.driver(STORE)
    home = str(disk.root / "home")

    by_the_old = disk.find(HOME=home, **{variable: f"{disk.root}/{old}"})
    elsewhere = disk.find(HOME="/nowhere", **{variable: f"{disk.root}/{old}"})
    by_the_own = disk.find(HOME=home, **{variable: f"{disk.root}/{STORE}/"})
    data = f"{home}//.local/./share/"
    spelt_otherwise = disk.find(XDG_DATA_HOME=data, **{variable: f"{disk.root}/{old}"})

    assert (by_the_old.version, elsewhere.version, by_the_own.version) == (NEW, OLD, NEW)
    assert spelt_otherwise.version == NEW
    assert not any(OLD in copy.path for copy in _driver.copies({"HOME": home}, str(disk.root)))


def test_where_nobody_tells_the_modules_version_what_was_installed_last_is_taken(
    disk: Disk,
) -> None:
    old, new = (disk.root / STORE.replace(NEW, version) for version in (OLD, NEW))
    disk.driver(STORE.replace(NEW, OLD), OLD)
    disk.driver(STORE)

    for last, other in ((new, old), (old, new)):
        while last.stat().st_ctime_ns <= other.stat().st_ctime_ns:  # The clock is a coarse one.
            os.utime(last)
        assert f"{disk.find(HOME=str(disk.root / 'home')).version}-" in str(last)


@pytest.mark.parametrize("name", ["libEGL_nvidia", "libnvidia-glcore"])
def test_what_was_installed_is_taken_where_one_of_the_systems_lost_its_end(
    disk: Disk, name: str
) -> None:
    disk.kernel(LINE)
    folder = disk.root / "usr/lib64-nvidia"
    driver.build(folder)
    disk.driver(STORE)
    home = str(disk.root / "home")
    file = folder / f"{name}.so.{NEW}"
    content = file.read_bytes()

    before = disk.find(HOME=home)
    file.write_bytes(content[:-1])
    os.utime(folder)  # Directories that did not change are not looked into again.
    lost, instead = disk.find(), disk.find(HOME=home)
    file.write_bytes(content)

    assert (before.is_whole, Path(before.libraries["EGL"]).parent) == (True, folder)
    assert (lost.is_whole, list(map(os.path.realpath, lost.cut_short))) == (False, [str(file)])
    assert (instead.is_whole, Path(instead.libraries["EGL"]).parent) == (True, disk.root / STORE)
    assert disk.find().is_whole


def test_what_was_installed_and_is_not_whole_is_not_taken(disk: Disk) -> None:
    disk.kernel(LINE)
    disk.driver(MULTIARCH, parts="GLX siblings")
    disk.driver(STORE, parts="EGL GLX")

    assert [*disk.find(HOME=str(disk.root / "home")).libraries] == ["GLX"]


def test_siblings_of_another_version_are_none(disk: Disk) -> None:
    disk.driver(MULTIARCH, NEW, "EGL GLX")
    disk.driver("usr/local/nvidia/lib64", OLD, "siblings")

    assert disk.find().siblings == {}
    assert disk.find().missing_siblings("EGL") == (
        f"libnvidia-gpucomp.so.{NEW}",
        f"libnvidia-tls.so.{NEW}",
        f"libnvidia-glsi.so.{NEW}",
        f"libnvidia-eglcore.so.{NEW}",
    )


def test_a_copy_without_symbolic_links_is_dated_by_its_siblings(disk: Disk) -> None:
    disk.file("usr/lib64-nvidia/libEGL_nvidia.so.0", LIBRARY)
    disk.driver("usr/lib64-nvidia", NEW, "siblings")

    assert (disk.find().version, disk.egl()) == (NEW, "usr/lib64-nvidia/libEGL_nvidia.so.0")


def test_a_copy_of_unknown_version_is_better_than_none(disk: Disk) -> None:
    disk.file("usr/lib64-nvidia/libEGL_nvidia.so.0", LIBRARY)

    assert (disk.find().version, disk.egl()) == (None, "usr/lib64-nvidia/libEGL_nvidia.so.0")


def test_a_directory_or_dangling_link_of_that_name_is_no_library(disk: Disk) -> None:
    (disk.root / "usr/lib64-nvidia/libEGL_nvidia.so.0").mkdir(parents=True)
    (disk.root / MULTIARCH).mkdir(parents=True)
    (disk.root / MULTIARCH / "libEGL_nvidia.so.0").symlink_to("nowhere")

    assert disk.egl() is None


def _foreign_class(header: bytearray) -> None:
    header[4] ^= 3  # ELFCLASS32 is 1, ELFCLASS64 is 2


def _foreign_machine(header: bytearray) -> None:
    header[18:20] = b"\x08\x00"  # EM_MIPS


def _no_elf(header: bytearray) -> None:
    header[0] = 0


def _cut_short(header: bytearray) -> None:
    del header[19:]


def _empty(header: bytearray) -> None:
    header.clear()


@pytest.mark.parametrize("spoil", [_foreign_class, _foreign_machine, _no_elf, _cut_short, _empty])
@pytest.mark.parametrize("suffix", ["0", NEW])
def test_what_this_process_could_not_load_is_not_there(
    spoil: Callable[[bytearray], None], suffix: str, disk: Disk
) -> None:
    header = bytearray(LIBRARY)
    spoil(header)
    for name in ("libEGL_nvidia", "libnvidia-eglcore"):
        disk.file(f"usr/local/nvidia/lib/{name}.so.{suffix}", bytes(header))
    disk.driver("usr/local/nvidia/lib64")
    disk.kernel(LINE)
    before = str(disk.root / "usr/local/nvidia/lib")
    whole = disk.root / "usr/local/nvidia/lib64"

    found = disk.find(LD_LIBRARY_PATH=before)

    assert found.libraries["EGL"] == str(whole / f"libEGL_nvidia.so.{NEW}")
    assert found.siblings["eglcore"] == str(whole / f"libnvidia-eglcore.so.{NEW}")
    environ = {"LD_LIBRARY_PATH": f"{before}:{whole}"}
    asked = f"libEGL_nvidia.so.{suffix}"
    assert _loader.where(asked, environ, str(disk.root)) == str(whole / asked)


def test_what_may_not_be_read_is_not_there(python: Any) -> None:
    code = """
        import os, shutil, tempfile
        from moderngl_colab import _driver, _loader
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(_driver.find().libraries["EGL"], f"{folder}/libEGL_nvidia.so.0")
            before = _loader.loadable(copy)
            os.chmod(copy, 0)
            print(before, _loader.loadable(copy))
    """
    nobody = 65534 if os.geteuid() == 0 else None  # root may read everything

    assert python("colab", textwrap.dedent(code), uid=nobody).stdout == "True False\n"


@pytest.mark.parametrize(
    ("version", "missing"),
    [(NEW, (f"libnvidia-gpucomp.so.{NEW}",)), ("545.29.06", ()), (OLD, ())],
)
def test_gpucomp_is_needed_from_branch_550_on(
    version: str, missing: tuple[str, ...], disk: Disk
) -> None:
    disk.driver(MULTIARCH, version)
    (disk.root / MULTIARCH / f"libnvidia-gpucomp.so.{version}").unlink()

    assert disk.find().missing_siblings("EGL") == missing
    assert disk.find().missing_siblings("GLX") == missing


OPEN = """
import sys
from moderngl_colab import _driver
try:
    _driver.find({}, sys.argv[1]).open("EGL")
except OSError as error:
    print(error)
else:
    print("open")
"""


def alone(code: str, *arguments: str) -> str:
    """What code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", ["libEGL_nvidia", "libnvidia-eglcore", "libnvidia-gpucomp"])
def test_a_library_that_cannot_be_opened_is_named_in_the_loaders_own_words(
    name: str, disk: Disk
) -> None:
    folder = disk.root / "usr/lib64-nvidia"
    driver.build(folder)
    file = folder / f"{name}.so.{NEW}"
    file.write_bytes(HEADER)
    named = folder / "libEGL_nvidia.so.0" if name == "libEGL_nvidia" else file

    assert alone(OPEN, str(disk.root)) == f"{named}: cannot read file data\n"


def test_one_that_is_not_needed_may_be_broken(disk: Disk) -> None:
    folder = disk.root / "usr/lib64-nvidia"
    driver.build(folder, OLD)
    (folder / f"libnvidia-gpucomp.so.{OLD}").write_bytes(HEADER)

    assert alone(OPEN, str(disk.root)) == "open\n"


WITHOUT_MEMORY = """
import resource, sys
from moderngl_colab import _files
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
print(len(_files.read(sys.argv[1])), len(_files.read(sys.argv[1], 5)))
"""


def test_no_more_of_a_file_is_read_than_there_is_use_for(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as stream:
        stream.truncate(1 << 40)

    assert alone(WITHOUT_MEMORY, str(endless)) == "16777216 5\n"


def test_without_a_copy_there_is_no_version_but_nvml_is_found(disk: Disk) -> None:
    disk.kernel(LINE)
    disk.driver(MULTIARCH, parts="ml")

    found = disk.find()

    assert (found.version, found.libraries, found.siblings) == (None, {}, {})
    assert found.nvml == str(disk.root / MULTIARCH / f"libnvidia-ml.so.{NEW}")


def test_a_relative_directory_in_a_folder_that_is_gone_is_passed_over(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    disk.driver("usr/lib64-nvidia")

    assert disk.egl(MODERNGL_COLAB_DRIVER_DIR="x") == "usr/lib64-nvidia/libEGL_nvidia.so.0"
