"""ICDs: which libglvnd would read, and NVIDIA's offered without a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from moderngl_colab import _glvnd

NVIDIA = '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}'
MESA = '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_mesa.so.0"}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A vendor directory with NVIDIA's ICD, Mesa's, and what is none."""
    (tmp_path / "10_nvidia.json").write_text(NVIDIA)
    (tmp_path / "50_mesa.json").write_text(MESA)
    (tmp_path / "20_truncated.json").write_text(MESA[:40])
    (tmp_path / "30_directory.json").mkdir()
    os.mkfifo(tmp_path / "40_fifo.json")
    (tmp_path / "60_wrong.json").write_text('["ICD"]')
    (tmp_path / "61_number.json").write_text('{"ICD": {"library_path": 7}}')
    (tmp_path / "62_bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "63_deep.json").write_text("[" * 100_000)
    (tmp_path / "64_dangling.json").symlink_to("nowhere")
    (tmp_path / "README").write_text(MESA)
    return tmp_path


def test_icds_are_read_in_the_order_of_their_names(folder: Path) -> None:
    found = _glvnd.icds(environ={"__EGL_VENDOR_LIBRARY_DIRS": str(folder)})

    assert [Path(icd.path).name for icd in found] == sorted(
        path.name for path in folder.glob("*.json")
    )
    assert [Path(icd.path).name for icd in found if icd.is_nvidia] == ["10_nvidia.json"]
    assert [Path(icd.path).name for icd in found if icd.waits] == ["40_fifo.json"]


def test_a_megabyte_of_white_space_does_not_hide_an_icd(tmp_path: Path) -> None:
    path = tmp_path / "icd.json"
    path.write_text(" " * 1_000_000 + NVIDIA)

    (found,) = _glvnd.icds(environ={"__EGL_VENDOR_LIBRARY_FILENAMES": f":{path}:"})

    assert found.is_nvidia


def test_a_file_of_more_than_sixteen_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "icd.json"
    with path.open("wb") as stream:
        stream.truncate(17 << 20)

    (found,) = _glvnd.icds(environ={"__EGL_VENDOR_LIBRARY_FILENAMES": str(path)})

    assert found.waits


def test_the_list_of_files_goes_before_the_list_of_directories(folder: Path) -> None:
    both = {
        "__EGL_VENDOR_LIBRARY_FILENAMES": str(folder / "50_mesa.json"),
        "__EGL_VENDOR_LIBRARY_DIRS": str(folder),
    }

    assert [Path(icd.path).name for icd in _glvnd.icds(environ=both)] == ["50_mesa.json"]
    assert _glvnd.user_choice(both) == "__EGL_VENDOR_LIBRARY_FILENAMES"
    del both["__EGL_VENDOR_LIBRARY_FILENAMES"]
    assert _glvnd.user_choice(both) == "__EGL_VENDOR_LIBRARY_DIRS"
    assert _glvnd.user_choice({}) is None


def test_the_directories_compiled_into_libegl_count(tmp_path: Path) -> None:
    vendors = tmp_path / "share/glvnd/egl_vendor.d"
    vendors.mkdir(parents=True)
    (vendors / "50_mesa.json").write_text(MESA)
    libegl = tmp_path / "libEGL.so.1"
    libegl.write_bytes(b"\x7fELF\0__EGL_VENDOR_LIBRARY_DIRS\0" + os.fsencode(vendors) + b"\0\0\0")

    found = _glvnd.icds(str(libegl), {})

    assert [icd.path for icd in found] == [str(vendors / "50_mesa.json")]


@pytest.fixture
def system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A libEGL that would read the folder, in an environment without a user's choice."""
    for variable in (_glvnd.FILENAMES_VARIABLE, _glvnd.DIRECTORIES_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    vendors = folder / "egl_vendor.d"
    vendors.mkdir()
    for path in folder.glob("*.json"):
        path.rename(vendors / path.name)
    libegl = folder / "libEGL.so.1"
    libegl.write_bytes(b"\0" + os.fsencode(vendors) + b"\0")
    return str(libegl)


# libglvnd itself passes over what is not JSON, or not an ICD, or not there.
QUICK = [
    "20_truncated.json",
    "30_directory.json",
    "50_mesa.json",
    "60_wrong.json",
    "61_number.json",
    "62_bytes.json",
    "63_deep.json",
    "64_dangling.json",
]


def test_the_driver_is_offered_first_and_a_fifo_is_left_out(system: str) -> None:
    with _glvnd.offering('/opt/a "\\ b/libEGL_nvidia.so.0', system):
        first, *others = os.environ[_glvnd.FILENAMES_VARIABLE].split(":")
        content = json.loads(Path(first).read_bytes())

    assert content == {
        "file_format_version": "1.0.0",
        "ICD": {"library_path": '/opt/a "\\ b/libEGL_nvidia.so.0'},
    }
    assert [Path(path).name for path in others] == QUICK
    assert _glvnd.FILENAMES_VARIABLE not in os.environ
    assert not Path(first).exists()


def test_without_a_driver_a_fifo_is_still_left_out(system: str) -> None:
    with _glvnd.offering(None, system):
        names = os.environ[_glvnd.FILENAMES_VARIABLE].split(":")

    assert [Path(path).name for path in names] == ["10_nvidia.json", *QUICK]


def test_without_a_driver_and_with_sound_icds_nothing_is_set(system: str) -> None:
    vendors = Path(system).parent / "egl_vendor.d"
    for path in vendors.glob("*.json"):
        if path.name not in ("10_nvidia.json", "50_mesa.json"):
            path.rmdir() if path.is_dir() else path.unlink()

    with _glvnd.offering(None, system):
        assert _glvnd.FILENAMES_VARIABLE not in os.environ


@pytest.mark.parametrize("variable", [_glvnd.FILENAMES_VARIABLE, _glvnd.DIRECTORIES_VARIABLE])
def test_the_users_choice_is_left_alone(
    system: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/their/choice")
    before = dict(os.environ)

    with _glvnd.offering("/opt/libEGL_nvidia.so.0", system):
        assert dict(os.environ) == before


def test_what_this_library_gives_to_other_programs_is_no_choice_of_the_users(
    tmp_path: Path,
) -> None:
    ours = f"{tmp_path}/moderngl_colab/10_nvidia_{'0' * 16}.json"
    environ = {"__EGL_VENDOR_LIBRARY_FILENAMES": ours}

    assert _glvnd.user_choice(environ) is None
    assert _glvnd.icds(environ=environ) == _glvnd.icds(environ={})
    assert _glvnd.user_choice({"__EGL_VENDOR_LIBRARY_FILENAMES": os.devnull}) is None
    for others in (f"{ours}:/usr/share/glvnd/egl_vendor.d/50_mesa.json", "", f"{ours}x"):
        environ["__EGL_VENDOR_LIBRARY_FILENAMES"] = others
        assert _glvnd.user_choice(environ) == "__EGL_VENDOR_LIBRARY_FILENAMES"


@pytest.mark.parametrize("library", ["a\\u0000b", "lib\\ud800.so", ""])
def test_an_icd_that_names_no_path_names_nothing(tmp_path: Path, library: str) -> None:
    path = tmp_path / "icd.json"
    path.write_text(f'{{"ICD": {{"library_path": "{library}"}}}}')

    assert _glvnd.library_of(_glvnd.ICD(str(path))) is None
