"""apt with its state in a folder of its own, so that nobody but this user's files are touched.

The system's sources, keys, proxies and preferences hold, and what it demands of an archive; lists
of packages are fetched anew.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence

from moderngl_colab import _files, _signals
from moderngl_colab.diagnostics import packages
from moderngl_colab.diagnostics.packages import Package
from moderngl_colab.installer import leftovers, program
from moderngl_colab.installer.source import NotOffered

__all__ = ["PrivateApt"]

_ANSWERS = 60.0  # seconds; apt-cache asks no other machine
_NOTHING_FOUND = "No packages found"
_STALL = 20.0  # seconds
_PREFIX = "moderngl_colab-apt-"
_UNQUOTABLE = re.compile(r'["%\\\x00-\x1f\x7f]')  # in a file of apt's settings

# Read after the system's own: apt.conf(5). What has several values is added to, unless it is
# cleared. Hooks are meant for the system's state, and root's would be run by root.
_SETTINGS = """\
Dir::State "{folder}/state"; Dir::State::lists "{folder}/lists"; Dir::State::status "{folder}/none";
Dir::State::extended_states "{folder}/none"; Dir::Log "{folder}/log";
Dir::Cache "{folder}/cache"; Dir::Cache::archives "archives"; Dir::Cache::backup "backup";
Dir::Cache::pkgcache "pkgcache.bin"; Dir::Cache::srcpkgcache "";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root"; // The sandbox's own user cannot enter the folder.
APT::Get::AllowUnauthenticated "false"; Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false"; Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "0"; Acquire::http::Timeout "{stall}"; Acquire::https::Timeout "{stall}";
Acquire::GzipIndexes "true";
#clear Acquire::Languages;
Acquire::Languages {{ "none"; }};
#clear Acquire::IndexTargets::deb-src;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::CNF;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear Acquire::IndexTargets::deb::Contents-deb-legacy;
#clear Debug;
quiet "1";
"""


class PrivateApt:
    """Its folder is gone after :attr:`remove`, with this object, or with this process.

    Where the process is killed, the next one removes it.

    Arguments:
        architecture: whose packages it knows, as Debian says it: ``"amd64"``.
        patience: how long the lists of packages may take, and how long nothing may come of the
            packages, in seconds.

    Raises:
        OSError: there is no room for it.
    """

    remove: Callable[[], object]
    """Removes the folder."""

    def __init__(self, architecture: str, patience: float) -> None:
        self._patience = patience
        if _UNQUOTABLE.search(parent := tempfile.gettempdir()):
            raise OSError(
                f"the path of a folder in {parent!r} cannot be written in its settings: set "
                "TMPDIR to another one"
            )
        leftovers.sweep(parent, _PREFIX)
        with _signals.held():  # An interrupt would leave a folder that nobody removes.
            self._folder, lock = leftovers.make(parent, _PREFIX)
            self.remove = weakref.finalize(self, _remove, self._folder, lock, os.getpid())
        for name in ("state", "lists/partial", "cache/archives/partial", "log", "tmp"):
            os.makedirs(os.path.join(self._folder, name))
        settings = _SETTINGS.format(
            folder=self._folder,
            architecture=architecture,
            stall=math.ceil(min(_STALL, patience / 4)),
        )
        for name, text in (("none", ""), ("apt.conf", settings)):
            with open(os.path.join(self._folder, name), "w") as file:
                file.write(text)

    def update(self) -> str:
        """Fetch the lists, of what archives there are.

        Returns:
            Why there may be less than there should be; empty where all went well.
        """
        done = self._run("apt-get", ["update"], timeout=self._patience)
        if done.status != 0 or done.complaint:
            return _failure("apt-get update", done, self._patience)
        lists = _files.names(os.path.join(self._folder, "lists"))
        return "" if any("Packages" in name for name in lists) else "apt has no sources of packages"

    def show(self, names: Sequence[str]) -> list[Package]:
        """Every version that the archives have of these packages; the newest of each is first.

        Raises:
            NotOffered: apt-cache does not tell.
        """
        if not names:
            return []
        done = self._run("apt-cache", ["show", *names], timeout=_ANSWERS)
        if done.status != 0 and done.complaint != _NOTHING_FOUND:
            raise NotOffered(_failure("apt-cache show", done, _ANSWERS))
        return packages.listed(done.out)

    def download(
        self, wanted: Sequence[Package], folder: str, watch: Callable[[], object]
    ) -> str | None:
        """Fetch packages, whose hashes apt compares with those that the archive has signed.

        Arguments:
            wanted: which, in exactly those versions.
            folder: where they are put.
            watch: called again and again meanwhile; it tells whether something came.

        Returns:
            Why that failed; None where it did not.
        """
        # What is large is tried again.
        arguments = ["-o", "Acquire::Retries=2", "download", *map(str, wanted)]
        done = self._run("apt-get", arguments, folder=folder, timeout=self._patience, watch=watch)
        if done.status is None:
            return f"apt-get download: nothing came for {self._patience:.0f} s"
        return None if done.status == 0 else _failure("apt-get download", done, self._patience)

    def _run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        folder: str | None = None,
        timeout: float,
        watch: Callable[[], object] = lambda: None,
    ) -> program.Done:
        path = shutil.which(tool)
        if path is None:
            raise FileNotFoundError(f"{tool} is not on the PATH")
        command = [path, "-c", os.path.join(self._folder, "apt.conf"), *arguments]
        # Its own temporary files are to be gone, too, if it has to be ended.
        temporary = {"TMPDIR": os.path.join(self._folder, "tmp")}
        environ = {**os.environ, **temporary, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        return program.run(command, environ, folder or self._folder, timeout, watch)


def _failure(what: str, done: program.Done, timeout: float) -> str:
    if done.status is None:
        return f"{what} did not end within {timeout:.0f} s"
    return f"{what}: {done.complaint or f'it ended with status {done.status}'}"


def _remove(folder: str, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # and not a process that was forked meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
