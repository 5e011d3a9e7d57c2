"""Execute a notebook with the kernel that Jupyter finds: ``execute.py NOTEBOOK FOLDER OUTPUT``.

The kernel starts in the folder. The notebook with its outputs is written to the third path.
"""

from __future__ import annotations

import sys

import nbclient
import nbformat

notebook, folder, output = sys.argv[1:]
content = nbformat.read(notebook, as_version=4)
place = {"metadata": {"path": folder}}
nbclient.NotebookClient(content, timeout=120, kernel_name="python3", resources=place).execute()
nbformat.write(content, output)
