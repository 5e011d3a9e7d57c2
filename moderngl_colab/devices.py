"""CUDA's way of naming GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["VISIBLE_VARIABLE", "all_hidden"]

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

# CUDA reads each entry as strtol(3) does, and ends at the first that names no GPU.
_FIRST = re.compile(r"\s*(?:\+?0*(?P<ordinal>\d{1,9})|GPU-|MIG-)")


def all_hidden(environ: Mapping[str, str], count: int) -> bool:
    """Whether ``CUDA_VISIBLE_DEVICES`` leaves this process no GPU.

    It does if it is empty, or begins with -1, with the ordinal of a GPU that is not there, or with
    nonsense.

    Arguments:
        environ: where the variable is read.
        count: how many GPUs there are.
    """
    value = environ.get(VISIBLE_VARIABLE)
    if value is None:
        return False
    first = _FIRST.match(value)
    if first is None:
        return True
    return first["ordinal"] is not None and int(first["ordinal"]) >= count
