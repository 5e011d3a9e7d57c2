"""Which GPUs a process was given, which one is meant, and which EGL device that is."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderngl_colab import _cuda, devices
from moderngl_colab._egl_devices import Details, Device
from moderngl_colab._nvml import GPU
from moderngl_colab.devices import Given, NoneGivenError, UnmatchedError, select, spelled
from moderngl_colab.errors import quoted

VISIBLE = "CUDA_VISIBLE_DEVICES"
POSSIBLE = (
    'possible are an ordinal of CUDA (1 or "cuda:1"), the beginning of a UUID ("GPU-57a2d1") and a '
    'PCI address ("pci:0000:0f:00.0")'
)
# Of the first eight GPUs that PyTorch's tests know.
UUIDS = (
    "GPU-9942190a-aa31-4ff1-4aa9-c388d80f85f1",
    "GPU-9e8d35e3-a134-0fdd-0e01-23811fdbd293",
    "GPU-e429a63e-c61c-4795-b757-5132caeb8e70",
    "GPU-eee1dfbc-0a0f-6ad8-5ff6-dc942a8b9d98",
    "GPU-bbcd6503-5150-4e92-c266-97cc4390d04e",
    "GPU-472ea263-58d7-410d-cc82-f7fdece5bd28",
    "GPU-e56257c4-947f-6a5b-7ec9-0f45567ccf4e",
    "GPU-1c20e77d-1c1a-d9ed-fe37-18b8466a78ad",
)
PCIS = tuple(f"0000:0{number}:00.0" for number in range(8))
EIGHT = tuple(
    GPU("Tesla T4", False, 16 << 30, uuid, pci) for uuid, pci in zip(UUIDS, PCIS, strict=True)
)
FOUR = EIGHT[:4]


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """No variable of CUDA's but those that a test sets."""
    before = {name: os.environ.pop(name, None) for name in (VISIBLE, _cuda.ORDER_VARIABLE)}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("1gpu2,2ampere", (1, 2)),
        ("0, 1, 2, -1, 3", (0, 1, 2)),
        ("0, 1, 2, 1", ()),
        ("2, +3, -0, 5", (2, 3, 0, 5)),
        ("one,two,3,4", ()),
        ("4,3,two,one", (4, 3)),
        ("GPU-9e8d35e3", ("GPU-9e8d35e3",)),
        ("GPU-123, 2", ("GPU-123",)),
        ("MIG-89c850dc", ("MIG-89c850dc",)),
        ("MIG-GPU-5eb/1/0,MIG-GPU-5eb/2/0", ("MIG-GPU-5eb/1/0", "MIG-GPU-5eb/2/0")),
        ("GPU-1,GPU-2,GPU-1", ()),
        ("0,GPU-1", (0,)),
        ("", ()),
        (" ", ()),
        ("-1", ()),
        (",0", ()),
        ("0,", (0,)),
        ("\t1\n", (1,)),
        ("0x1", (0,)),
        ("١", ()),  # noqa: RUF001  - a digit to Python, and none to C
        ("99999999999999999999", ()),
        ("0" * 5000 + "7", (7,)),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(
    value: str | None, expected: tuple[int | str, ...] | None
) -> None:
    assert _cuda.visible({} if value is None else {VISIBLE: value}) == expected


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text("0123456789+-, GPUMIG\t") | st.from_regex(r"(GPU-[0-9a-f]*,?)*"))
def test_no_text_makes_the_variables_reader_raise(value: str) -> None:
    entries = _cuda.visible({VISIBLE: value})

    assert entries is not None
    assert len(set(entries)) == len(entries)
    assert all(entry >= 0 for entry in entries if isinstance(entry, int))
    # What one process is given, it can pass on: the list means the same when written again.
    again = ",".join(map(str, entries))
    assert not entries or _cuda.visible({VISIBLE: again}) == entries


@settings(max_examples=500, deadline=None)
@given(st.text() | st.integers() | st.floats() | st.binary() | st.none() | st.tuples())
def test_what_is_no_device_is_a_value_error_that_says_what_is(device: object) -> None:
    said = ""
    try:
        text = spelled(device, "device")
    except ValueError as error:
        said = str(error)
    else:
        assert spelled(text, "device") == text
    assert said.startswith(f"device={quoted(str(device).strip())}: ") or not said
    assert said == "" or POSSIBLE in said


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (1, "cuda:1"),
        ("1", "cuda:1"),
        ("cuda:01", "cuda:1"),
        ("cuda", "cuda:0"),
        (" cuda:3 ", "cuda:3"),
        ("GPU-57A2D1", "GPU-57a2d1"),
        ("gpu-57a2d1", "GPU-57a2d1"),
        (UUIDS[0], UUIDS[0]),
        ("pci:0000:0F:00.0", "pci:0000:0f:00.0"),
        ("pci:00000000:0F:00.0", "pci:0000:0f:00.0"),
        ("pci:0f:00.0", "pci:0000:0f:00.0"),
        ("PCI:0001:0f:00.0", "pci:0001:0f:00.0"),
    ],
)
def test_a_device_has_one_spelling(device: object, expected: str) -> None:
    assert spelled(device, "device") == expected


def test_anything_whose_text_is_a_device_is_one() -> None:
    class TorchDevice:
        def __str__(self) -> str:
            return "cuda:2"

    assert spelled(TorchDevice(), "device") == "cuda:2"


@pytest.mark.parametrize(
    "device",
    ["cuda:x", "cpu", "-1", -1, "1.0", 1.5, "", "GPU-", "GPU-xyz", "pci:0f", "pci:0000:0f:00.8"],
)
def test_a_device_that_is_none_is_named(device: object) -> None:
    with pytest.raises(ValueError, match="VARIABLE") as caught:
        spelled(device, "VARIABLE")
    assert str(caught.value) == f"VARIABLE={str(device)!r}: {POSSIBLE}"


def test_a_mig_slice_and_a_bool_are_no_devices() -> None:
    with pytest.raises(ValueError, match="MIG") as caught:
        spelled("MIG-89c850dc", "device")
    assert str(caught.value) == f"device='MIG-89c850dc': a MIG slice has no graphics; {POSSIBLE}"
    with pytest.raises(TypeError, match="device=True: possible are"):
        spelled(True, "device")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, range(8)),
        ("GPU-9e8d35e3", [1]),
        ("GPU-e4,GPU-9e8d35e3", [2, 1]),
        ("GPU-9e8d35e3,GPU-1,GPU-47", [1, 7, 5]),
        ("GPU-123,GPU-9e8d35e3", []),
        ("GPU-9e8d35e3,GPU-123,GPU-47", [1]),
        ("GPU-9e8d35e3,GPU-e,GPU-47", [1]),
        ("GPU-9e8d35e3,GPU-47,GPU-9e8d35e3", []),
        ("GPU-9e8d,GPU-9e8d35e3", []),
        ("3,1", [3, 1]),
        ("7,8,0", [7]),
        ("8", []),
        ("", []),
    ],
)
def test_the_gpus_of_a_process_are_those_that_pytorch_counts(
    value: str | None, expected: list[int]
) -> None:
    if value is not None:
        os.environ[VISIBLE] = value
    try:
        numbers = [UUIDS.index(str(gpu.uuid)) for gpu in devices.visible(EIGHT)]
    except NoneGivenError:
        numbers = []

    assert numbers == list(expected)


def test_which_of_unlike_gpus_is_cudas_first_is_known_by_uuid_or_by_pci_order_only() -> None:
    unlike = (FOUR[0], FOUR[1]._replace(name="H200"))
    nobody = (None, None, None)

    assert [gpu[1:4] for gpu in devices.visible(unlike)] == [nobody, nobody]

    os.environ[VISIBLE] = "GPU-9e"
    assert [gpu.name for gpu in devices.visible(unlike)] == ["H200"]

    os.environ |= {VISIBLE: "1,0", _cuda.ORDER_VARIABLE: "PCI_BUS_ID"}
    assert [gpu.name for gpu in devices.visible(unlike)] == ["H200", "Tesla T4"]


def listed(
    *told: tuple[int | None, str | None, str | None],
) -> list[tuple[Device, Details]]:
    """EGL's devices, in an order that is not CUDA's, by ordinal, UUID and PCI address."""
    return [
        (Device(number, 0, frozenset()), Details(cuda, uuid, None, pci))
        for number, (cuda, uuid, pci) in reversed(list(enumerate(told)))
    ]


WHOLE = listed(*zip(range(4), UUIDS[:4], PCIS[:4], strict=True))
NO_UUID = listed(*((n, None, PCIS[n]) for n in range(4)))
ORDINALS = listed(*((n, None, None) for n in range(4)))
SILENT = listed(*((None, None, None) for n in range(4)))
# As under CUDA_VISIBLE_DEVICES=2,0.
HEEDFUL = listed((1, None, None), (None, None, None), (0, None, None), (None, None, None))


def number(
    egl: list[tuple[Device, Details]], gpus: tuple[GPU, ...], device: str | None = None
) -> tuple[int, Given]:
    chosen, gpu = select(egl, device, lambda: gpus)[0]
    return chosen.number, gpu


@pytest.mark.parametrize(
    ("egl", "gpus"),
    [(WHOLE, FOUR), (NO_UUID, FOUR), (ORDINALS, FOUR), (HEEDFUL, FOUR), (HEEDFUL, ())],
    ids=["uuid", "pci", "ordinals of a driver that ignores the variable", "ordinals", "no NVML"],
)
@pytest.mark.parametrize(("device", "expected"), [(None, 2), ("cuda:0", 2), ("cuda:1", 0)])
def test_a_gpu_is_found_by_whatever_both_tell(
    egl: list[tuple[Device, Details]], gpus: tuple[GPU, ...], device: str | None, expected: int
) -> None:
    os.environ[VISIBLE] = "2,0"

    found, gpu = number(egl, gpus, device)

    assert (found, gpu.ordinal) == (expected, 0 if expected == 2 else 1)


def test_without_nvml_what_egl_tells_of_a_gpu_names_it() -> None:
    assert number(WHOLE, (), UUIDS[3][:8])[0] == 3
    assert number(WHOLE, (), f"pci:{PCIS[1]}")[0] == 1
    os.environ[VISIBLE] = UUIDS[2]
    assert number(WHOLE, ())[0] == 2


def test_the_next_gpus_follow_the_first_unless_one_was_asked_for() -> None:
    os.environ[VISIBLE] = "2,0"

    assert [device.number for device, _ in select(WHOLE, None, lambda: FOUR)] == [2, 0]
    assert [device.number for device, _ in select(WHOLE, "cuda:1", lambda: FOUR)] == [0]


def test_a_single_gpu_is_the_one_whatever_it_tells() -> None:
    assert number(listed((None, None, None)), FOUR[:1])[0] == 0
    assert number(listed((None, None, None)), ())[0] == 0
    os.environ[VISIBLE] = "MIG-89c850dc"
    assert number(listed((None, UUIDS[0], None)), FOUR[:1])[0] == 0


def test_where_nothing_tells_them_apart_it_is_said_what_was_seen() -> None:
    with pytest.raises(UnmatchedError) as caught:
        select(SILENT[:2], None, lambda: FOUR)
    assert str(caught.value) == (
        f"it cannot be told which EGL device is cuda:0  Tesla T4  {UUIDS[0]}  pci:{PCIS[0]}: "
        "EGL device 3 has no ordinal of CUDA, no UUID, no PCI address; "
        "EGL device 2 has no ordinal of CUDA, no UUID, no PCI address\n"
        "  fix: take it as EGL counts, if you know which is yours: device_index=0"
    )


def whole(*ordinals: int | None) -> list[tuple[Device, Details]]:
    """EGL's devices as of four GPUs in the order of PCI addresses, with CUDA's ordinals."""
    return listed(*zip(ordinals, UUIDS[:4], PCIS[:4], strict=True))


@pytest.mark.parametrize(
    ("visible", "egl", "expected"),
    [
        (None, whole(1, 3, 0, 2), 2),
        ("2", whole(None, None, None, 0), 3),
        ("3,2,1,0", whole(3, 2, 1, 0), 3),
        ("3,2,1,0", whole(0, 1, 2, 3), 3),
        ("1,2,0,3", whole(2, 0, 1, 3), 1),
        ("1,2,0,3", whole(0, 1, 2, 3), 1),
        ("3,2", whole(0, 1, 2, 3), 3),
    ],
    ids=[
        "CUDA's order is not PCI's, and the driver says so",
        "the same, and three are hidden",
        "all GPUs in another order, heeded",
        "all GPUs in another order, not heeded",
        "all GPUs in an order that is not its own inverse, heeded",
        "all GPUs in an order that is not its own inverse, not heeded",
        "not heeded",
    ],
)
def test_the_drivers_word_is_taken_for_what_it_can_mean(
    visible: str | None, egl: list[tuple[Device, Details]], expected: int
) -> None:
    if visible is not None:
        os.environ[VISIBLE] = visible

    assert number(egl, FOUR)[0] == expected


@pytest.mark.parametrize("visible", ["3,2,1,0", ",".join(reversed(UUIDS[:4]))])
def test_all_gpus_in_another_order_are_not_guessed_at(visible: str) -> None:
    os.environ[VISIBLE] = visible
    # Heeded or not, in an order of CUDA's that is PCI's or not: the ordinals alone fit both.
    with pytest.raises(UnmatchedError):
        select(ORDINALS, None, lambda: FOUR)
    if "GPU" not in visible:
        with pytest.raises(UnmatchedError):
            select(whole(2, 0, 3, 1), None, lambda: FOUR)


def test_nvml_is_asked_only_where_egl_does_not_tell() -> None:
    def nvml() -> tuple[GPU, ...]:
        raise AssertionError

    os.environ[VISIBLE] = "2,0"
    assert select(whole(1, None, 0, None), None, nvml)[0][0].number == 2
    os.environ[VISIBLE] = UUIDS[3]
    assert select(WHOLE, None, nvml)[0][0].number == 3
    del os.environ[VISIBLE]
    assert select(WHOLE, f"pci:{PCIS[1]}", nvml)[0][0].number == 1


def test_another_gpu_is_not_taken_for_one_that_egl_does_not_list() -> None:
    with pytest.raises(UnmatchedError):
        select(WHOLE[:3], "cuda:0", lambda: FOUR)
    assert number(WHOLE[:3], FOUR, "cuda:1")[0] == 1
    assert number(WHOLE[:3], FOUR)[0] == 1  # It is one of those that were given, and the next.


@pytest.mark.parametrize(
    ("device", "gpus", "why"),
    [
        ("cuda:7", FOUR, "this process has no such GPU"),
        ("GPU-ffff", FOUR, "this process has no such GPU"),
        ("GPU-9", FOUR, "2 GPUs of this process begin so"),
        ("pci:0000:0f:00.0", FOUR, "this process has no such GPU"),
    ],
)
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(
    device: str, gpus: tuple[GPU, ...], why: str
) -> None:
    with pytest.raises(ValueError, match="device") as caught:
        select(WHOLE, device, lambda: gpus)
    lines = [f"  cuda:{n}  Tesla T4  {UUIDS[n]}  pci:{PCIS[n]}" for n in range(4)]
    assert str(caught.value).splitlines() == [f"device={device!r}: {why}; it has 4:", *lines]


def test_a_gpu_that_is_hidden_is_refused_by_every_name() -> None:
    os.environ[VISIBLE] = "2"
    for device in ("cuda:1", UUIDS[0], f"pci:{PCIS[3]}"):
        with pytest.raises(ValueError, match="this process has no such GPU") as caught:
            select(WHOLE, device, lambda: FOUR)
        assert str(caught.value).splitlines() == [
            f"device={device!r}: this process has no such GPU; it has 1, for "
            'CUDA_VISIBLE_DEVICES is "2":',
            f"  cuda:0  Tesla T4  {UUIDS[2]}  pci:{PCIS[2]}",
        ]


def test_where_nobody_tells_uuids_none_is_guessed() -> None:
    with pytest.raises(ValueError, match="nothing tells which GPU of this process that is"):
        select(ORDINALS, UUIDS[0], tuple)
    with pytest.raises(ValueError, match="nothing tells which GPU of this process that is"):
        select(ORDINALS, f"pci:{PCIS[0]}", tuple)
