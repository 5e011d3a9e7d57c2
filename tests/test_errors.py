"""The text that a user reads, whole."""

from __future__ import annotations

import pickle

from moderngl_colab import Attempt, GPUContextError, Outcome, StrategyFailed, StrategyUnavailable

ATTEMPTS = (
    Attempt("egl", Outcome.UNAVAILABLE, "no driver", "install it", "userland-absent", 0.1),
    Attempt("glx", Outcome.SKIPPED, "not among the strategies asked for"),
)
TEXT = """\
no OpenGL 3.3 context could be made:
  1. egl: unavailable: no driver
     fix: install it
  2. glx: skipped: not among the strategies asked for
  more: python -m moderngl_colab"""


def test_an_error_lists_every_attempt_with_its_fix() -> None:
    error = GPUContextError("no OpenGL 3.3 context could be made:", ATTEMPTS)

    assert str(error) == TEXT
    assert error.attempts == ATTEMPTS


def test_an_error_without_attempts_is_its_headline() -> None:
    assert str(GPUContextError("no")) == "no"


def test_an_error_crosses_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(GPUContextError("no:", ATTEMPTS)))

    assert (error.headline, error.attempts) == ("no:", ATTEMPTS)


def test_a_strategys_errors_say_how_it_ended() -> None:
    error = StrategyUnavailable("no Xvfb", remedy="apt-get install -y xvfb", cause="no-xvfb")

    assert (error.outcome, error.reason, error.remedy, error.cause) == (
        "unavailable",
        "no Xvfb",
        "apt-get install -y xvfb",
        "no-xvfb",
    )
    assert (StrategyFailed("no").outcome, StrategyFailed("no").remedy) == ("failed", None)
    assert str(error) == "no Xvfb"
