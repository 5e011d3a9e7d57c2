"""Diagnose this machine, and print the report's text and its data as JSON.

The argument is JSON: keyword arguments for diagnose().
"""

from __future__ import annotations

import json
import sys

import moderngl_colab

report = moderngl_colab.diagnose(**json.loads(sys.argv[1]))
print(json.dumps([str(report), report.to_dict()]))
