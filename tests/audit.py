"""Ask whether a dependency that this library has at run time is known to be vulnerable.

It prints one line, and ends with status 0 if none is, 1 if one is, and 75 where no service could be
asked, in 30 s at most. ``--osv-url URL`` asks a service of one's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

_SERVICES = (["--vulnerability-service=pypi"], ["--vulnerability-service=osv"])
_TIMEOUT = 14  # seconds, for each of the two
_NOT_DONE = 75  # EX_TEMPFAIL of sysexits.h


def needed(name: str = "moderngl_colab") -> dict[str, str]:
    """What is installed with this library and no extra, with its versions."""
    found: dict[str, str] = {}
    for requirement in metadata.requires(name) or ():
        own, _, marker = requirement.partition(";")
        if "extra" in marker:
            continue
        other = re.match(r"[\w.-]+", own)
        assert other is not None, requirement
        try:
            found[other[0]] = metadata.version(other[0])
        except metadata.PackageNotFoundError:
            if not marker:
                raise
            continue  # The marker is of another Python or system.
        found |= needed(other[0])
    return found


def asked(packages: dict[str, str], service: list[str]) -> tuple[int, str]:
    """The status that one service makes, and the line."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("".join(f"{name}=={packages[name]}\n" for name in packages))
        command = [sys.executable, "-P", "-m", "pip_audit", "--no-deps", "--disable-pip"]
        command += ["--format=json", "--progress-spinner=off", "--timeout=5", *service]
        command += [f"--cache-dir={folder}/cache", f"--requirement={listed}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return _NOT_DONE, f"no answer within {_TIMEOUT} s"
    if not done.stdout.startswith("{"):
        return _NOT_DONE, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    answers = json.loads(done.stdout)["dependencies"]
    known = [f"{a['name']} {a['version']}: {v['id']}" for a in answers for v in a.get("vulns", ())]
    if known:
        return 1, f"known to be vulnerable: {'; '.join(known)}"
    skipped = [answer["name"] for answer in answers if "skip_reason" in answer]
    if skipped or len(answers) != len(packages):
        return _NOT_DONE, f"the service does not know {', '.join(skipped)}"
    return 0, f"no vulnerability is known of {', '.join(f'{n} {v}' for n, v in packages.items())}"


def main(arguments: list[str]) -> int:
    """Ask one service after the other, until one answers."""
    if find_spec("pip_audit") is None:
        print("audit: not done: pip-audit is not installed")
        return _NOT_DONE
    given = ["--vulnerability-service=osv", *arguments] if arguments else None
    reasons = []
    for service in [given] if given else _SERVICES:
        status, line = asked(needed(), service)
        if status != _NOT_DONE:
            print(f"audit: {line}")
            return status
        reasons.append(f"{service[0].rpartition('=')[2]}: {line}")
    print(f"audit: not done: {'; '.join(reasons)}")
    return _NOT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
