"""CUDA's way of naming GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["VISIBLE_VARIABLE", "all_hidden"]

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

# CUDA reads each entry as strtol(3) does, and ends at the first that it cannot read.
_SEEN = re.compile(r"\s*(\+?\d|GPU-|MIG-)")


def all_hidden(environ: Mapping[str, str]) -> bool:
    """Whether ``CUDA_VISIBLE_DEVICES`` leaves this process no GPU: it is empty, -1 or nonsense.

    Arguments:
        environ: where the variable is read.
    """
    value = environ.get(VISIBLE_VARIABLE)
    return value is not None and _SEEN.match(value) is None
