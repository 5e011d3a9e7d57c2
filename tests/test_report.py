"""One report, three views: text, plain data and HTML, of machines that were written down."""

from __future__ import annotations

import errno
import importlib.resources
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

import moderngl_colab
from moderngl_colab import _driver, _kernel, _nvml
from moderngl_colab.diagnostics.report import Report, Verdict, diagnose
from moderngl_colab.errors import Outcome
from moderngl_colab.machine import EGLDevice, Examined, Machine, Trial, Vendor

LIB = "/usr/lib/x86_64-linux-gnu"
VERSION = "550.54.15"
UUID = "GPU-8f2f1b3c-0a1b-4c5d-9e8f-001122334455"
SCHEMA = json.loads(
    importlib.resources.files("moderngl_colab.diagnostics")
    .joinpath("report.schema.json")
    .read_text()
)
ICD = Vendor(
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    False,
    "libEGL_nvidia.so.0",
    f"{LIB}/libEGL_nvidia.so.0",
)
MESA_ICD = Vendor(
    "/usr/share/glvnd/egl_vendor.d/50_mesa.json",
    False,
    "libEGL_mesa.so.0",
    f"{LIB}/libEGL_mesa.so.0",
)
OPENED = {"libEGL.so.1": None, "libGL.so.1": None}
MAPPED = {"libEGL.so.1": f"{LIB}/libEGL.so.1.1.0", "libGL.so.1": f"{LIB}/libGL.so.1.7.0"}
GPU_TRIAL = Trial(
    "egl",
    Outcome.SELECTED,
    "NVIDIA Corporation, Tesla T4/PCIe/SSE2",
    seconds=0.412,
    vendor="NVIDIA Corporation",
    renderer="Tesla T4/PCIe/SSE2",
    version="3.3.0 NVIDIA 550.54.15",
    egl_device=0,
    pixels=True,
)
NO_GLX = Trial("glx", Outcome.FAILED, "glXCreateNewContext: BadValue", cause="glx-refused")
CPU_TRIAL = Trial(
    "mesa",
    Outcome.SELECTED,
    "Mesa, llvmpipe",
    seconds=0.1,
    vendor="Mesa",
    renderer="llvmpipe (LLVM 15.0.6, 256 bits)",
    version="4.5 (Core Profile) Mesa 22.3.6",
    software=True,
    pixels=True,
)


def userland(version: str = VERSION) -> _driver.Userland:
    return _driver.Userland(
        version,
        {name: f"{LIB}/lib{name}_nvidia.so.0" for name in ("EGL", "GLX")},
        {
            name: f"{LIB}/libnvidia-{name}.so.{version}"
            for name in ("gpucomp", "tls", "glsi", "eglcore", "glcore")
        },
        f"{LIB}/libnvidia-ml.so.1",
    )


HEALTHY = Machine(
    distribution="Ubuntu 22.04.5 LTS",
    installer="apt-get",
    module=_kernel.KernelModule(VERSION, "/proc/driver/nvidia/version"),
    nodes=(_kernel.Node("/dev/nvidiactl"), _kernel.Node("/dev/nvidia0")),
    copies=tuple(
        _driver.Copy(VERSION, name, f"{LIB}/lib{name}_nvidia.so.0") for name in ("EGL", "GLX")
    ),
    userland=userland(),
    loader={
        os.path.basename(path): path
        for path in (*userland().libraries.values(), *userland().siblings.values())
    },
    vendors=(ICD, MESA_ICD),
    xvfb="/usr/bin/Xvfb",
    examined=Examined(
        opened=OPENED,
        mapped=MAPPED,
        nvml=_nvml.Answer(
            driver=VERSION,
            gpus=(
                _nvml.GPU(name="Tesla T4", mig=False, memory_total=15 * 2**30 + 2**29, uuid=UUID),
            ),
        ),
        devices=(
            EGLDevice(0, True, cuda=0, uuid=UUID, render_node="/dev/dri/renderD128"),
            EGLDevice(1, False),
        ),
    ),
    trials=(GPU_TRIAL, GPU_TRIAL._replace(strategy="glx", egl_device=None), CPU_TRIAL),
)
SOFTWARE = Machine(
    distribution="Debian GNU/Linux 12 (bookworm)",
    installer="apt-get",
    platform="colab",
    vendors=(MESA_ICD,),
    environ={"COLAB_RELEASE_TAG": "release"},
    xvfb="/usr/bin/Xvfb",
    examined=Examined(
        opened=OPENED,
        mapped=MAPPED,
        nvml=_nvml.Answer(error="NVML: NVML Shared Library Not Found (12)", code=12),
        devices=(EGLDevice(0, False),),
    ),
    trials=(
        Trial("egl", Outcome.UNAVAILABLE, "no NVIDIA GPU", cause="driver-absent"),
        Trial("glx", Outcome.UNAVAILABLE, "no NVIDIA GPU", cause="driver-absent"),
        CPU_TRIAL,
    ),
)


def normalised(report: Report) -> str:
    """Without what differs between the machines on which the tests run."""
    own = r"moderngl_colab \S+, moderngl \S+, glcontext \S+"
    text = re.sub(own, "PACKAGES", str(report))
    return re.sub(r"(?m)^(  Python +)\S+$", r"\1PYTHON", text)


def valid(report: Report) -> dict[str, Any]:
    """The report's plain data, after a journey as JSON, checked against the schema."""
    plain: dict[str, Any] = json.loads(json.dumps(report.to_dict()))
    jsonschema.Draft202012Validator(SCHEMA).validate(plain)
    return plain


def test_a_healthy_machine_is_told_in_full_and_has_no_findings() -> None:
    report = Report(HEALTHY)

    assert (
        normalised(report)
        == """\
GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl, proven by pixels

machine
  platform       host
  system         Ubuntu 22.04.5 LTS
  Python         PYTHON
  packages       PACKAGES
  kernel module  550.54.15 (/proc/driver/nvidia/version)
  userland       550.54.15 in /usr/lib/x86_64-linux-gnu: EGL and GLX, chosen
  NVML           550.54.15
  versions       agree: kernel module 550.54.15, userland 550.54.15, NVML 550.54.15
  GLX over Xvfb  known to work from 535 on, refused by 418; this is 550.54.15
  device nodes   /dev/nvidiactl, /dev/nvidia0
  libEGL         /usr/lib/x86_64-linux-gnu/libEGL.so.1.1.0
  libGL          /usr/lib/x86_64-linux-gnu/libGL.so.1.7.0
  EGL vendors    /usr/share/glvnd/egl_vendor.d/10_nvidia.json: libEGL_nvidia.so.0, \
/usr/lib/x86_64-linux-gnu/libEGL_nvidia.so.0
                 /usr/share/glvnd/egl_vendor.d/50_mesa.json: libEGL_mesa.so.0, \
/usr/lib/x86_64-linux-gnu/libEGL_mesa.so.0
  Xvfb           /usr/bin/Xvfb
  variables      none that matters

GPUs
  0  Tesla T4, 15.5 GiB, driver 550.54.15, MIG off, EGL device 0, /dev/dri/renderD128, \
cuda:0, GPU-<uuid>

strategies
  egl   GPU, pixels right, 0.41 s: Tesla T4/PCIe/SSE2 (NVIDIA Corporation), \
OpenGL 3.3.0 NVIDIA 550.54.15
  glx   GPU, pixels right, 0.41 s: Tesla T4/PCIe/SSE2 (NVIDIA Corporation), \
OpenGL 3.3.0 NVIDIA 550.54.15
  mesa  CPU, pixels right, 0.10 s: llvmpipe (LLVM 15.0.6, 256 bits) (Mesa), \
OpenGL 4.5 (Core Profile) Mesa 22.3.6

findings
  none

GPU: Tesla T4/PCIe/SSE2 (NVIDIA Corporation) by egl, proven by pixels"""
    )
    assert report.verdict == Verdict.GPU
    assert report.findings == ()
    assert report.attempts == HEALTHY.trials
    assert repr(report) == "<Report: verdict gpu, 0 findings, 3 attempts>"
    assert valid(report)["exit_status"] == 0


def test_a_machine_without_a_gpu_names_the_cause_in_the_second_line() -> None:
    report = Report(SOFTWARE)

    assert (
        normalised(report)
        == """\
software only: llvmpipe (LLVM 15.0.6, 256 bits), on the CPU
cause: driver-absent: no NVIDIA GPU is given to this machine: there is no /dev/nvidiactl, \
and no kernel module is loaded

machine
  platform       colab
  system         Debian GNU/Linux 12 (bookworm)
  Python         PYTHON
  packages       PACKAGES
  kernel module  none loaded
  userland       none found
  NVML           NVML Shared Library Not Found (12)
  GLX over Xvfb  known to work from 535 on, refused by 418
  device nodes   none
  libEGL         /usr/lib/x86_64-linux-gnu/libEGL.so.1.1.0
  libGL          /usr/lib/x86_64-linux-gnu/libGL.so.1.7.0
  EGL vendors    /usr/share/glvnd/egl_vendor.d/50_mesa.json: libEGL_mesa.so.0, \
/usr/lib/x86_64-linux-gnu/libEGL_mesa.so.0
  Xvfb           /usr/bin/Xvfb
  variables      COLAB_RELEASE_TAG=release

GPUs
  none seen

strategies
  egl   unavailable: no NVIDIA GPU
  glx   unavailable: no NVIDIA GPU
  mesa  CPU, pixels right, 0.10 s: llvmpipe (LLVM 15.0.6, 256 bits) (Mesa), \
OpenGL 4.5 (Core Profile) Mesa 22.3.6

findings
  1. driver-absent (error): no NVIDIA GPU is given to this machine: there is no \
/dev/nvidiactl, and no kernel module is loaded
     fix: choose the menu Runtime > Change runtime type > T4 GPU

software only: llvmpipe (LLVM 15.0.6, 256 bits), on the CPU"""
    )
    assert report.verdict == Verdict.SOFTWARE
    assert valid(report)["exit_status"] == 1


def test_a_machine_that_gives_no_context_tells_all_that_it_refused() -> None:
    machine = HEALTHY._replace(
        nodes=(
            _kernel.Node("/dev/nvidiactl"),
            _kernel.Node("/dev/nvidia0", errno.EACCES, 44, 0o660),
            _kernel.Node("/dev/nvidia1", 12345),
        ),
        vendors=(
            Vendor("/a.json", True, None, None),
            Vendor("/b.json", False, None, None),
            Vendor("/c.json", False, "libgone.so", None),
        ),
        gvisor=True,
        examined=Examined(
            opened={"libEGL.so.1": "no such file", "/opt/dri/swrast_dri.so": "GLIBCXX_3.4.30"},
            unanswered={"NVML": "did not answer in time"},
            stderr=tuple(f"line {number}" for number in range(10)),
            packages={"libnvidia-gl-550": "550.54.15-0ubuntu1"},
            stubs={"libnvidia-gl-535": "580.178.04-0ubuntu1"},
        ),
        trials=(
            NO_GLX._replace(strategy="egl", stderr=("the driver's last word",)),
            NO_GLX,
            CPU_TRIAL._replace(
                outcome=Outcome.REJECTED, reason="3 of 65536 pixels are wrong", pixels=False
            ),
        ),
    )
    report = Report(machine)
    text = normalised(report)

    begin = text.index("machine\n")
    assert (
        text[begin : text.index("findings\n")]
        == """\
machine
  platform       host, gVisor
  system         Ubuntu 22.04.5 LTS
  Python         PYTHON
  packages       PACKAGES
  kernel module  550.54.15 (/proc/driver/nvidia/version)
  userland       550.54.15 in /usr/lib/x86_64-linux-gnu: EGL and GLX, chosen
  NVML           no answer
  versions       agree: kernel module 550.54.15, userland 550.54.15
  GLX over Xvfb  known to work from 535 on, refused by 418; this is 550.54.15
  device nodes   /dev/nvidiactl
                 /dev/nvidia0: EACCES (mode 0660, group 44)
                 /dev/nvidia1: 12345 (mode 0666, group 0)
  libEGL         no such file
  libGL          no answer
  not opened     /opt/dri/swrast_dri.so: GLIBCXX_3.4.30
  not told       NVML: the process that asked for it did not answer in time
  stderr         line 2
                 line 3
                 line 4
                 line 5
                 line 6
                 line 7
                 line 8
                 line 9
  EGL vendors    /a.json: no regular file, libglvnd may wait for it
                 /b.json: no ICD
                 /c.json: libgone.so, not found
  Xvfb           /usr/bin/Xvfb
  installable    libnvidia-gl-550=550.54.15-0ubuntu1
  stubs          libnvidia-gl-535=580.178.04-0ubuntu1
  variables      none that matters

GPUs
  0  name unknown
  1  name unknown

strategies
  egl   failed: glXCreateNewContext: BadValue
        stderr: the driver's last word
  glx   failed: glXCreateNewContext: BadValue
  mesa  rejected: 3 of 65536 pixels are wrong

"""
    )
    assert text.splitlines()[0] == text.splitlines()[-1] == "no OpenGL context can be made"
    assert report.verdict == Verdict.NONE
    assert valid(report)["exit_status"] == 2


@pytest.mark.parametrize(
    ("machine", "first_line"),
    [
        (HEALTHY._replace(trials=()), "not tried: nothing seen keeps the GPU away"),
        (SOFTWARE._replace(trials=()), "not tried: 1 finding keeps the GPU away"),
        (
            SOFTWARE._replace(trials=(CPU_TRIAL,)),
            "software only: llvmpipe (LLVM 15.0.6, 256 bits), on the CPU (tried: mesa)",
        ),
        (
            HEALTHY._replace(trials=(NO_GLX._replace(strategy="egl"), NO_GLX)),
            "no OpenGL context can be made (tried: egl, glx)",
        ),
        (
            SOFTWARE._replace(trials=(*SOFTWARE.trials[:2], CPU_TRIAL._replace(software=False))),
            "GPU: llvmpipe (LLVM 15.0.6, 256 bits) (Mesa) by mesa, proven by pixels",
        ),
        (Machine(system="win32"), "no OpenGL context can be made"),
    ],
)
def test_the_verdict_is_the_first_line_and_the_last(machine: Machine, first_line: str) -> None:
    lines = str(Report(machine)).splitlines()

    assert (lines[0], lines[-1]) == (first_line, first_line)


def test_on_other_systems_the_report_names_what_serves_there() -> None:
    report = Report(Machine(system="darwin"))

    assert (
        normalised(report)
        == """\
no OpenGL context can be made
cause: not-linux: moderngl_colab serves Linux; on darwin the system itself gives GPU contexts

machine
  platform  host
  system    darwin
  Python    PYTHON
  packages  PACKAGES

GPUs
  none seen

strategies
  none tried

findings
  1. not-linux (error): moderngl_colab serves Linux; on darwin the system itself gives GPU contexts
     sys.platform: darwin
     fix: moderngl.create_context(standalone=True)

no OpenGL context can be made"""
    )
    assert valid(report)["exit_status"] == 2


def test_a_mismatch_names_both_versions_and_their_places() -> None:
    old = "535.104.05"
    machine = HEALTHY._replace(
        copies=(_driver.Copy(old, "EGL", "/opt/old/libEGL_nvidia.so.0"), *HEALTHY.copies),
        userland=userland(old)._replace(libraries={"EGL": "/opt/old/libEGL_nvidia.so.0"}),
    )
    lines = str(Report(machine)).splitlines()

    assert "  userland       535.104.05 in /opt/old: EGL, chosen" in lines
    assert "                 550.54.15 in /usr/lib/x86_64-linux-gnu: EGL and GLX" in lines
    assert (
        "  versions       differ: kernel module 550.54.15, userland 535.104.05, NVML 550.54.15"
        in lines
    )
    assert valid(Report(machine))["driver"]["compatible"] is False


def test_several_gpus_are_matched_with_their_egl_devices_by_uuid() -> None:
    other = UUID.replace("8f2f", "1111")
    gpus = (
        _nvml.GPU(name="A100", mig=True, memory_total=40 * 2**30, uuid=UUID, pci="0000:3b:00.0"),
        _nvml.GPU(name="T4", mig=False, memory_total=None, uuid=other),
        _nvml.GPU(name="L4", mig=False, memory_total=None, uuid=None, pci="0000:5e:00.0"),
        _nvml.GPU(name="P4", mig=False, memory_total=None, uuid=None),
    )
    devices = (
        EGLDevice(0, True, cuda=1, uuid=other),
        EGLDevice(1, True, cuda=0, uuid=UUID),
        EGLDevice(2, True),
        EGLDevice(3, True, pci="0000:5e:00.0"),
        EGLDevice(4, True),
        EGLDevice(5, False),
    )
    examined = Examined(nvml=_nvml.Answer(driver=VERSION, gpus=gpus), devices=devices)
    text = str(Report(HEALTHY._replace(examined=examined)))

    assert (
        text[text.index("GPUs\n") : text.index("\nstrategies")]
        == """\
GPUs
  0  A100, 40.0 GiB, driver 550.54.15, MIG on, EGL device 1, cuda:0, pci:0000:3b:00.0, GPU-<uuid>
  1  T4, driver 550.54.15, MIG off, EGL device 0, cuda:1, GPU-<uuid>
  2  L4, driver 550.54.15, MIG off, EGL device 3, pci:0000:5e:00.0
  3  P4, driver 550.54.15, MIG off
  4  name unknown, driver 550.54.15, EGL device 4
"""
    )


@pytest.mark.parametrize(
    ("version", "works"),
    [("550.54.15", True), ("535.98", True), ("470.1", None), ("418.67", False), ("390", False)],
)
def test_glx_over_xvfb_is_compared_with_what_is_known(version: str, works: bool | None) -> None:
    report = Report(HEALTHY._replace(userland=userland(version)))

    assert valid(report)["driver"]["glx_over_xvfb"] == {
        "works_from": 535,
        "refused_by": 418,
        "works": works,
    }


NASTY = "<b>&\"'\ufffd\x1b[31m\nnext\udce9" + "x" * 5000


def test_odd_texts_stay_on_their_line_and_obey_no_terminal() -> None:
    machine = HEALTHY._replace(
        distribution=NASTY, trials=(GPU_TRIAL._replace(renderer=NASTY, vendor=NASTY),)
    )
    report = Report(machine)
    # What is no Unicode is the name of a file: three bytes of it, none of them a letter.
    shown = "<b>&\"'\ufffd\\x1b[31m\\nnext\ufffd\ufffd\ufffd" + "x" * 5000

    assert str(report).splitlines()[0] == f"GPU: {shown} ({shown}) by egl, proven by pixels"
    assert f"  system         {shown}" in str(report).splitlines()
    assert valid(report)["machine"]["distribution"] == NASTY.replace("\udce9", "\ufffd" * 3)
    elements = Elements(report)
    assert "b" not in elements.seen
    assert f"GPU: {shown} ({shown}) by egl, proven by pixels" in elements.texts


class Elements(HTMLParser):
    """Checks that elements are closed as they were opened; keeps names, attributes and texts."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(report._repr_html_())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("machine", [HEALTHY, SOFTWARE, Machine(system="win32"), Machine()])
def test_html_says_what_the_text_says_and_needs_nothing_else(machine: Machine) -> None:
    report = Report(machine)
    elements = Elements(report)

    assert elements.seen <= {
        *("div", "strong", "pre", "details", "summary", "table", "tr", "th", "td", "ol", "li")
    }
    assert elements.attributes <= {"style", "open"}
    assert "url(" not in report._repr_html_()
    words = " ".join(elements.texts).split()
    told = set(str(report).split()) - {f"{number}." for number in range(1, 20)}
    assert told <= set(words)


def test_html_shows_the_cause_and_its_fix_to_be_copied() -> None:
    html = Report(SOFTWARE)._repr_html_()

    assert re.findall(r"<div>(cause: .*?)</div><div>fix:</div><pre[^>]*>(.*?)</pre>", html) == [
        (
            "cause: driver-absent: no NVIDIA GPU is given to this machine: there is no "
            "/dev/nvidiactl, and no kernel module is loaded",
            "choose the menu Runtime &gt; Change runtime type &gt; T4 GPU",
        )
    ]


def test_the_schema_refuses_what_is_no_report() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    plain = valid(Report(HEALTHY))
    wrong: list[dict[str, Any]] = [
        plain | {"surprise": 1},
        plain | {"schema_version": 2},
        plain | {"verdict": "maybe"},
        {key: value for key, value in plain.items() if key != "gpus"},
        plain | {"machine": plain["machine"] | {"surprise": 1}},
        plain | {"gpus": [plain["gpus"][0] | {"memory_bytes": "much"}]},
        plain | {"findings": [{"code": "Not A Code"}]},
    ]

    for data in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_every_record_of_the_schema_is_closed_and_complete() -> None:
    def records(schema: Any) -> Any:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for value in schema.values():
                yield from records(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from records(value)

    for record in records(SCHEMA):
        assert record["additionalProperties"] is False
        assert set(record["properties"]) - set(record["required"]) <= {"host", "user"}


def test_a_report_does_not_change() -> None:
    report = Report(HEALTHY)

    for name in ("facts", "findings", "attempts", "verdict", "full", "picture"):
        with pytest.raises(AttributeError):
            setattr(report, name, None)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"strategies": "vulkan"}, ValueError, "'vulkan' is none of egl, glx, mesa"),
        ({"strategies": ["egl", 3]}, ValueError, "3 is none of egl, glx, mesa"),
        (
            {"strategies": []},
            ValueError,
            "strategies is empty: name at least one of egl, glx, mesa",
        ),
        ({"strategies": 3}, TypeError, "strategies=3: a sequence of names is needed"),
        ({"timeout": 0}, ValueError, "0 is no number of seconds above 0, and 86400 at most"),
        ({"timeout": float("nan")}, ValueError, "nan is no number of seconds above 0, and 86400"),
        ({"timeout": float("inf")}, ValueError, "inf is no number of seconds above 0, and 86400"),
        ({"timeout": "5"}, TypeError, "timeout='5': a number of seconds is needed"),
        ({"timeout": True}, TypeError, "timeout=True: a number of seconds is needed"),
    ],
)
def test_diagnose_refuses_what_it_cannot_do(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(words)}"):
        diagnose(**arguments)


def test_the_package_offers_the_report() -> None:
    assert moderngl_colab.Report is Report
    assert moderngl_colab.Verdict is Verdict
    assert moderngl_colab.diagnose is diagnose


PRIVATE = """
import json, os, sys
from moderngl_colab import Machine, Report
from moderngl_colab.errors import Outcome
from moderngl_colab.machine import Examined, Trial, Vendor

home, host = os.environ["HOME"], os.environ["HOSTNAME"]
uuid = "GPU-8f2f1b3c-0a1b-4c5d-9e8f-001122334455"
old = f"MIG-{uuid}/1/0"
told = (f"{home}/a:{home} {home}lee/b ada_env canada /scratch/ada/c {uuid} GPU-8f2f1b3c {old} "
        f"GPU-based {uuid[4:]} x{host}x [{host}]")
machine = Machine(
    vendors=(Vendor(f"{home}/icd.json", False, f"{home}/lib.so", None),),
    environ={"LD_LIBRARY_PATH": f"{home}/lib", "CUDA_VISIBLE_DEVICES": uuid},
    examined=Examined(opened={f"{home}/x.so": told}, stderr=(told,)),
    trials=(Trial("egl", Outcome.FAILED, told, stderr=(told,)),),
)
full = sys.argv[1] == "full"
report = Report(machine, full=full)
print(json.dumps([report.to_dict(), str(report), report._repr_html_()]))
"""


def private(full: str, user: str = "ada") -> tuple[dict[str, Any], str, str]:
    environ = os.environ | {"HOME": f"/home/{user}", "USER": user, "LOGNAME": user}
    environ["HOSTNAME"] = "ship-7"
    run = [sys.executable, "-P", "-c", PRIVATE, full]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environ)
    data, text, html = json.loads(done.stdout)
    return data, text, html


def test_home_host_user_and_uuids_are_left_out_of_every_view() -> None:
    data, text, html = private("redacted")
    shown = (
        "~/a:~ /home/adalee/b <user>_env canada /scratch/<user>/c GPU-<uuid> GPU-<uuid> "
        "MIG-GPU-<uuid> GPU-based <uuid> xship-7x [<host>]"
    )

    assert data["attempts"][0]["reason"] == shown
    assert data["attempts"][0]["stderr"] == [shown]
    assert data["machine"]["vendors"][0]["path"] == "~/icd.json"
    assert data["machine"]["libraries"] == [{"name": "~/x.so", "path": None, "error": shown}]
    assert data["machine"]["environment"] == [
        {"name": "CUDA_VISIBLE_DEVICES", "value": "GPU-<uuid>"},
        {"name": "LD_LIBRARY_PATH", "value": "~/lib"},
    ]
    for view in (json.dumps(data), text, html):
        assert "/home/ada/" not in view
        assert "8f2f1b3c" not in view
        assert "[ship-7]" not in view


def test_with_full_they_are_told() -> None:
    data, text, html = private("full")
    host = os.uname().nodename

    assert data["machine"]["host"] == host
    assert data["full"] is True
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    for view in (json.dumps(data), text, html):
        assert "/home/ada/" in view
        assert "GPU-8f2f1b3c-0a1b-4c5d-9e8f-001122334455" in view
    assert re.search(rf"(?m)^  host  +{re.escape(host)}$", text)


@pytest.mark.parametrize("user", ["egl", "gpu", "al", "findings", "root"])
def test_names_that_are_words_leave_the_report_whole(user: str) -> None:
    data, text, _ = private("redacted", user)

    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert data["attempts"][0]["strategy"] == "egl"
    assert data["machine"]["vendors"][0]["path"] == "~/icd.json"
    assert text.splitlines()[0] == "no OpenGL context can be made (tried: egl)"
