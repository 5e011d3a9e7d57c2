"""Packages: of what apt-cache really offers, only the kernel module's version to the last digit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from moderngl_colab._driver import Userland
from moderngl_colab._kernel import KernelModule
from moderngl_colab.diagnostics.packages import candidates, stubs
from moderngl_colab.machine import Machine

pytestmark = pytest.mark.skipif(
    not os.path.exists("/usr/bin/apt-cache"), reason="there is no apt-cache on this system"
)

Offer = Callable[..., None]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Lists of packages for the real apt-cache, in a folder of their own."""
    for name in ("lists/partial", "archives/partial", "etc", "state"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sources.list").write_text("deb [trusted=yes] http://example.org/ours x main\n")
    (tmp_path / "status").write_text("")
    (tmp_path / "apt.conf").write_text(
        f'Dir::State "{tmp_path}/state"; Dir::State::lists "{tmp_path}/lists";'
        f'Dir::State::status "{tmp_path}/status"; Dir::Cache "{tmp_path}";'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "/dev/null";'
        'APT::Architecture "amd64";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    def write(
        packages: Mapping[str, tuple[str, ...]], depends: Mapping[str, str] | None = None
    ) -> None:
        name = "example.org_ours_dists_x_main_binary-amd64_Packages"
        (tmp_path / "lists" / name).write_text(
            "".join(
                f"Package: {package}\nVersion: {version}\nArchitecture: amd64\n"
                f"Filename: pool/{package}_{version}.deb\nSize: 1\nMD5sum: {number:032x}\n"
                f"Depends: {(depends or {}).get(package, 'libc6')}\nDescription: x\n\n"
                for package, versions in packages.items()
                for number, version in enumerate(versions)
            )
        )
        before[:] = files(tmp_path)

    before: list[str] = []
    return write


def files(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def machine(version: str = "550.54.15", installer: str | None = "apt-get") -> Machine:
    return Machine(installer=installer, module=KernelModule(version, "/proc/driver/nvidia/version"))


UBUNTU = {
    "libnvidia-gl-550": ("580.178.04-0ubuntu0.22.04.1", "550.54.15-0ubuntu1", "550.54.14-1"),
    "libnvidia-gl-550-server": ("550.54.15-0ubuntu0.22.04.2",),
    "libnvidia-gl-535": ("550.54.15-0ubuntu1",),
}


def test_what_equals_the_kernel_module_is_a_candidate(offer: Offer) -> None:
    offer(UBUNTU)

    assert candidates(machine()) == {"libnvidia-gl-550": "550.54.15-0ubuntu1"}


def test_one_package_that_excludes_the_other_is_enough(offer: Offer) -> None:
    offer({name: versions for name, versions in UBUNTU.items() if name.endswith("-server")})

    assert candidates(machine()) == {"libnvidia-gl-550-server": "550.54.15-0ubuntu0.22.04.2"}


@pytest.mark.parametrize("version", ["550.54.1", "550.54", "550.54.150", "580.178.04", "1.2.3"])
def test_what_is_nearly_equal_is_none(offer: Offer, version: str) -> None:
    offer(UBUNTU)

    assert candidates(machine(version)) == {}


def test_debians_packages_bear_no_branch_in_their_names(offer: Offer) -> None:
    offer(
        {
            "libegl-nvidia0": ("535.261.03-1~deb12u1", "550.163.01-2"),
            "libglx-nvidia0": ("1:535.261.03-1~deb12u1",),
        }
    )

    assert candidates(machine("535.261.03")) == {
        "libegl-nvidia0": "535.261.03-1~deb12u1",
        "libglx-nvidia0": "1:535.261.03-1~deb12u1",
    }


@pytest.mark.parametrize(
    ("depends", "found"),
    [
        ("libnvidia-gl-580", {}),
        ("libc6 (>= 2.34), libnvidia-gl-580-server (>= 580.1)", {}),
        ("libnvidia-gl | libnvidia-gl-595:any", {}),
        ("libnvidia-glcore, libnvidia-glvkspirv", {"libnvidia-gl-550": "550.54.15-1"}),
    ],
)
def test_an_empty_package_of_that_version_is_no_candidate(
    offer: Offer, depends: str, found: dict[str, str]
) -> None:
    offer({"libnvidia-gl-550": ("550.54.15-1",)}, {"libnvidia-gl-550": depends})

    assert candidates(machine()) == found


def test_what_is_installed_and_no_archive_has_any_more_is_no_candidate(
    offer: Offer, tmp_path: Path
) -> None:
    offer({})
    (tmp_path / "status").write_text(
        "Package: libnvidia-gl-550\nStatus: install ok installed\nArchitecture: amd64\n"
        "Version: 550.54.15-1\nMaintainer: x <x@example.org>\nDescription: x\n"
    )

    assert candidates(machine()) == {}


def test_looking_writes_nothing(offer: Offer, tmp_path: Path) -> None:
    offer(UBUNTU)
    before = files(tmp_path)

    candidates(machine())

    assert files(tmp_path) == before


def test_where_apt_knows_nothing_there_is_none(offer: Offer, tmp_path: Path) -> None:
    offer({})
    assert candidates(machine()) == {}

    (tmp_path / "apt.conf").write_text('Dir::State "/nowhere"; nonsense {{{')
    assert candidates(machine()) == {}


@pytest.mark.parametrize("installer", ["dnf", "conda", None])
def test_other_installers_are_not_asked(offer: Offer, installer: str | None) -> None:
    offer(UBUNTU)

    assert candidates(machine(installer=installer)) == {}
    assert candidates(Machine(installer="apt-get")) == {}


def test_a_machine_that_has_all_it_needs_is_offered_nothing(offer: Offer) -> None:
    offer(UBUNTU)
    libraries = {name: f"/lib/lib{name}_nvidia.so.0" for name in ("EGL", "GLX")}
    names = ("gpucomp", "tls", "glsi", "eglcore", "glcore")
    siblings = {name: f"/lib/libnvidia-{name}.so" for name in names}
    whole = Userland("550.54.15", libraries, siblings, None)
    old = whole._replace(version="535.104.05")
    half = whole._replace(libraries={"GLX": libraries["GLX"]})
    hollow = whole._replace(siblings={})

    assert candidates(machine()._replace(userland=whole)) == {}
    for userland in (old, half, hollow):
        assert "libnvidia-gl-550" in candidates(machine()._replace(userland=userland))


def test_without_apt_cache_there_is_none(
    offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(UBUNTU)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert candidates(machine()) == {}

    (tmp_path / "apt-cache").mkdir()
    assert candidates(machine()) == {}


def test_an_apt_cache_that_hangs_or_is_no_program_ends(
    offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(UBUNTU)
    program = tmp_path / "apt-cache"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for text in ("#!/bin/sh\nexec sleep 60\n", "#!/nowhere\n", "\x7fELF"):
        program.write_text(text)
        program.chmod(0o755)
        assert candidates(machine(), timeout=0.5) == {}


def test_a_package_whose_version_is_of_another_branch_is_a_stub(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/dpkg"
    folder.mkdir(parents=True)
    (folder / "status").write_text(
        "Package: bash\nStatus: install ok installed\nVersion: 5.1-6\n\n"
        "Package: libnvidia-gl-550\nStatus: install ok installed\n"
        "Description: x\n Package: libnvidia-gl-1\n .\nVersion: 580.178.04-0ubuntu0.22.04.1\n\n"
        "Package: libnvidia-gl-535\nStatus: deinstall ok config-files\nVersion: 580.1.1-1\n\n"
        "Package: libnvidia-gl-570-server\nVersion: 570.1.2-1\nStatus: install ok installed\n\n"
        "Package: libnvidia-gl-565-server\nVersion: 1:580.1.2-1\nStatus: hold ok installed\n\n"
        "Package: libnvidia-gl-560\nStatus: install ok installed\n\n"
        "Package: libnvidia-gl-nonsense\nStatus: install ok installed\nVersion: 1-1\n\n"
        "Package: libnvidia-gl-550"
    )

    assert stubs(str(tmp_path)) == {
        "libnvidia-gl-550": "580.178.04-0ubuntu0.22.04.1",
        "libnvidia-gl-565-server": "1:580.1.2-1",
    }


def test_a_package_in_whose_place_another_branch_is_installed_is_a_stub(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/dpkg"
    folder.mkdir(parents=True)
    (folder / "status").write_text(
        "".join(
            f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n"
            f"Depends: {depends}\n\n"
            for name, version, depends in (
                ("libnvidia-gl-550", "550.163.01-0ubuntu1", "libnvidia-gl-580"),
                ("libnvidia-gl-580", "580.178.04-0ubuntu1", "libc6, libnvidia-egl-wayland1"),
                ("libnvidia-gl-590", "590.48.01-0ubuntu1", "libnvidia-gl-595"),
                ("libnvidia-gl-570-server", "570.1-0ubuntu1", "libnvidia-gl-570"),
                ("libnvidia-gl-570", "570.1-0ubuntu1", "libc6"),
            )
        )
    )

    assert stubs(str(tmp_path)) == {"libnvidia-gl-550": "580.178.04-0ubuntu1"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"Package: libnvidia-gl-550\n", b"\n\n\n"])
def test_a_status_file_that_is_nonsense_has_no_stub(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "var/lib/dpkg"
    folder.mkdir(parents=True)
    (folder / "status").write_bytes(content)

    assert stubs(str(tmp_path)) == {}
    assert stubs(str(tmp_path / "nowhere")) == {}
