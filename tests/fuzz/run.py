"""Give one way in hostile cases: ``run.py ENGINE TARGET FOLDER CASES``.

It ends with status 0 if none did harm. What the last case was made of is in FOLDER/last. None must
take longer than 20 s, nor all of them more than 1 GiB of memory.
"""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

_MEMORY = 1 << 30  # bytes
_PATIENCE = 20  # seconds
_LONGEST_CASE = 64  # bytes, before they are made into one


def main(engine: str, name: str, folder: Path, cases: int) -> None:
    """Run an engine: ``"hypothesis"`` or ``"atheris"``."""
    take, samples = _watched(name, folder, engine == "atheris")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = _peak()
    for sample in samples:  # as they are, before anything is done to them
        take(sample)
    if engine == "atheris":
        _atheris(take, folder, cases)
    else:
        _hypothesis(take, cases)
    print(f"{cases} cases, {(_peak() - before) >> 10} MiB more at most")


def _watched(
    name: str, folder: Path, instrumented: bool
) -> tuple[Callable[[bytes], None], list[bytes]]:
    """What takes the bytes of an engine, and those which come to the samples themselves."""
    if instrumented:
        import atheris

        with atheris.instrument_imports(include=["moderngl_colab"], enable_loader_override=False):
            from fuzz import targets
    else:
        from fuzz import targets

    target = targets.TARGETS[name]
    own, last = folder / "own", folder / "last"
    own.mkdir()
    inner = target.prepare(own)
    last.write_bytes(bytes(_LONGEST_CASE + 1))
    with last.open("r+b") as stream:
        seen = mmap.mmap(stream.fileno(), 0)
    _limit_memory()

    def take(data: bytes) -> None:
        seen[: len(data) + 1] = bytes([len(data)]) + data
        signal.alarm(_PATIENCE)
        inner(targets.case(data, target.samples))
        signal.alarm(0)

    count = len(target.samples)
    first = [next(b for b in range(64, 256) if b % count == i) for i in range(count)]
    return take, [b"", *(bytes([byte]) for byte in first)]


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak() -> int:
    """The most memory that this process had at once, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _hypothesis(take: Callable[[bytes], None], cases: int) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    run = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    # By itself it prefers what is simple.
    wild = st.integers(0, 1 << 48).map(lambda seed: random.Random(seed).randbytes(seed % 64))
    run(given(st.binary(max_size=_LONGEST_CASE) | wild)(take))()


def _atheris(take: Callable[[bytes], None], folder: Path, cases: int) -> None:
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    source = random.Random(1)
    for number in range(256):
        (corpus / str(number)).write_bytes(bytes([number]) + source.randbytes(number % 64))
    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={cases}",
            "-seed=1",
            "-len_control=0",
            f"-max_len={_LONGEST_CASE}",
            f"-timeout={_PATIENCE}",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={folder}/",
            str(corpus),
        ],
        take,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
