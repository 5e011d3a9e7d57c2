"""The doctor's report, and how it is made."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from moderngl_colab.diagnostics import data, html, text
from moderngl_colab.diagnostics.data import STRATEGIES
from moderngl_colab.errors import Outcome
from moderngl_colab.findings.every import findings
from moderngl_colab.findings.finding import Finding
from moderngl_colab.machine import Machine, Trial

__all__ = ["Report", "Verdict", "diagnose", "limit", "names"]

_LONGEST, _EXAMINATION = 86_400.0, 30.0  # seconds

if TYPE_CHECKING:
    _Base = object
else:
    # `scooby -r moderngl_colab` asks for a subclass of its own; it is not loaded for anyone else.
    _Base = getattr(sys.modules.get("scooby"), "Report", object)


class Verdict(StrEnum):
    """What a machine gives to OpenGL."""

    GPU = "gpu"
    """A GPU, proven by pixels."""
    SOFTWARE = "software"
    """The CPU alone."""
    NONE = "none"
    """No context, or none that renders what it is told."""
    UNTRIED = "untried"
    """Nobody tried."""

    @property
    def exit_status(self) -> int:
        """The exit status of ``python -m moderngl_colab``."""
        return list(Verdict).index(self)


class Report(_Base):
    """What the doctor found. It does not change.

    ``str()`` gives it as text, a notebook shows it as HTML, :meth:`to_dict` gives plain data.

    Arguments:
        facts: the machine, with what was tried on it. Default: this one, as :func:`diagnose` sees
            it.
        full: whether host name, user, home path and UUIDs are told.
        picture: what the best trial rendered, for :attr:`picture`.
    """

    def __init__(
        self, facts: Machine | None = None, *, full: bool = False, picture: bytes | None = None
    ) -> None:
        if facts is None:
            facts, picture = _gather(STRATEGIES, 60.0)
        self._facts = facts
        self._findings = findings(facts)
        self._full = full
        self._picture = picture

    @property
    def facts(self) -> Machine:
        """The machine, nothing left out."""
        return self._facts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, or may be for other programs; what matters most comes first."""
        return self._findings

    @property
    def attempts(self) -> tuple[Trial, ...]:
        """What became of each strategy that was tried."""
        return self._facts.trials

    @property
    def full(self) -> bool:
        """Whether host name, user, home path and UUIDs are told."""
        return self._full

    @property
    def picture(self) -> bytes | None:
        """What the best trial rendered, as the content of a PNG file; None where nothing did."""
        if self._picture is None:
            return None
        from moderngl_colab.diagnostics.picture import png

        return png(self._picture)

    @property
    def verdict(self) -> Verdict:
        """What this machine gives to OpenGL."""
        if self._facts.on_gpu:
            return Verdict.GPU
        if any(trial.pixels for trial in self.attempts):
            return Verdict.SOFTWARE
        tried = any(trial.outcome is not Outcome.SKIPPED for trial in self.attempts)
        return Verdict.NONE if tried or self._facts.system != "linux" else Verdict.UNTRIED

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, by ``report.schema.json``, which lies beside this module."""
        return {
            "schema_version": data.SCHEMA_VERSION,
            "verdict": str(self.verdict),
            "exit_status": self.verdict.exit_status,
            "full": self._full,
            **data.machine_data(self._facts, self._findings, self._full),
        }

    def __str__(self) -> str:
        return text.render(self.to_dict())

    def __repr__(self) -> str:
        found, tried = len(self._findings), len(self.attempts)
        return f"<Report: verdict {self.verdict}, {found} findings, {tried} attempts>"

    def _repr_html_(self) -> str:
        return html.render(self.to_dict())


def diagnose(
    *,
    strategies: Iterable[str] | str | None = None,
    try_strategies: bool = True,
    full: bool = False,
    timeout: float = 60.0,
) -> Report:
    """Find out what keeps this machine from the GPU, and what mends it.

    Libraries are opened, and strategies tried, in child processes: whatever happens in them, this
    process is as it was. Nothing is installed and no file is written.

    Arguments:
        strategies: which ones to try, by name: ``"egl"``, ``"glx"``, ``"mesa"``, or several,
            separated by commas or in a sequence. Default: all three.
        try_strategies: False looks only.
        full: whether host name, user, home path and UUIDs are told by the report.
        timeout: how long each strategy may take, in seconds.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an unknown strategy, or a time limit that is none.
    """
    tried = names(strategies)
    seconds = limit(timeout)
    facts, picture = _gather(tried if try_strategies else (), seconds)
    return Report(facts, full=full, picture=picture)


def names(strategies: Iterable[str] | str | None) -> tuple[str, ...]:
    """The strategies to try, each once, in the order of the chain.

    Raises:
        TypeError: they are no sequence of names.
        ValueError: one of them is unknown, or there is none.
    """
    if strategies is None:
        return STRATEGIES
    if isinstance(strategies, str):
        strategies = [name.strip() for name in strategies.split(",") if name.strip()]
    if not isinstance(strategies, Iterable):
        raise TypeError(f"strategies={strategies!r}: a sequence of names is needed")
    asked = tuple(strategies)
    if unknown := [name for name in asked if name not in STRATEGIES]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(STRATEGIES)}")
    if not asked:
        raise ValueError(f"strategies is empty: name at least one of {', '.join(STRATEGIES)}")
    return tuple(name for name in STRATEGIES if name in asked)


def limit(timeout: float) -> float:
    """A time limit in seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is none of more than 0 and at most 86400 seconds.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout={timeout!r}: a number of seconds is needed")
    if not 0 < timeout <= _LONGEST:  # NaN is not, either.
        raise ValueError(f"{timeout!r} is no number of seconds above 0, and 86400 at most")
    return float(timeout)


def _gather(strategies: tuple[str, ...], timeout: float) -> tuple[Machine, bytes | None]:
    """The machine, looked at, examined and tried, with what the best trial rendered."""
    if sys.platform != "linux":
        return Machine(system=sys.platform), None
    from moderngl_colab.diagnostics.examine import examine
    from moderngl_colab.diagnostics.packages import candidates, stubs
    from moderngl_colab.survey import look

    machine = examine(look(), min(timeout, _EXAMINATION))
    if machine.examined is not None:
        known = machine.examined._replace(packages=candidates(machine), stubs=stubs())
        machine = machine._replace(examined=known)
    if not strategies:
        return machine, None
    from moderngl_colab.diagnostics.trial import attempt

    tried = [attempt(name, timeout) for name in strategies]
    machine = machine._replace(trials=tuple(trial for trial, _ in tried))
    pictures = [picture for trial, picture in tried if trial.on_gpu]
    pictures += [picture for trial, picture in tried if trial.pixels]
    return machine, next(iter(pictures), None)
