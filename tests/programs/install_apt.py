"""Ask apt for the driver that a job in JSON wants, and report what came of it.

A job has the ``version``, and may have the ``machine``, ``fetch`` (false: ask only), ``watch`` (see
whether the system changes), and ``patience``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from moderngl_colab.installer.apt import Apt
from moderngl_colab.installer.source import FetchError, NotOffered, Wanted

SYSTEM = ("/etc/apt", "/var/cache/apt", "/var/lib/apt", "/var/lib/dpkg", "/var/log/apt")
MOST = 1 << 16  # bytes


def system() -> dict[str, Any]:
    """What apt and dpkg keep, with times, as far as this user sees it; archives without content."""
    found: dict[str, Any] = {}
    for folder in map(Path, SYSTEM):
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            found[str(path)] = [status.st_mtime_ns, status.st_ctime_ns, status.st_size, *status[:6]]
            if path.is_file() and status.st_size < MOST and os.access(path, os.R_OK):
                found[str(path)] += [hashlib.sha256(path.read_bytes()).hexdigest()]
    return found


def asked(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What became of it."""
    wanted = Wanted(job["version"], job.get("machine", os.uname().machine))
    try:
        offer = Apt(job.get("patience", 60)).offer(wanted)
    except NotOffered as error:
        return {"not offered": str(error)}
    answer = {"source": offer.source, "what": offer.what, "nvidias": offer.nvidias}
    answer["download"] = offer.download
    if not job.get("fetch", True):
        return answer
    folder, progress = scratch / "new", []
    folder.mkdir(mode=0o700)
    try:
        offer.fetch(str(folder), lambda *state: progress.append(state))
    except FetchError as error:
        return {"not fetched": str(error)}
    answer["progress"] = progress[-1]
    answer["files"] = sorted(path.name for path in folder.iterdir())
    return answer


def main() -> None:
    """Do as the first argument says."""
    job = json.loads(sys.argv[1])
    before = system() if job.get("watch") else {}
    with tempfile.TemporaryDirectory() as scratch:
        temporary = Path(scratch) / "tmp"
        temporary.mkdir()
        tempfile.tempdir = str(temporary)
        answer = asked(job, Path(scratch))
        answer["left"] = sorted(path.name for path in temporary.iterdir())
    after = system() if job.get("watch") else {}
    changed = {path for path in before.keys() | after if before.get(path) != after.get(path)}
    print(json.dumps(answer | {"changed": sorted(changed)}))


main()
