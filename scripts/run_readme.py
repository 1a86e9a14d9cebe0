"""Run the shell and Python blocks of a Markdown file, in order, in an empty folder.

    python scripts/run_readme.py README.md --python .venv/bin/python

A block that is not to be run says so: its first line holds ``# not run`` and why. Shell
blocks find the ``tokret`` command beside the given Python.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path)
parser.add_argument("--python", type=Path, default=Path(sys.executable))
args = parser.parse_args()
python = args.python.absolute()
path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
blocks = BLOCK.findall(args.file.read_text())
if not blocks:
    sys.exit(f"{args.file}: no block to run.")
ran = 0
with tempfile.TemporaryDirectory() as folder:
    for language, text in blocks:
        if "# not run" in text.split("\n", 1)[0]:
            continue
        command = [str(python), "-c", text] if language == "python" else ["bash", "-ec", text]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{args.file}: this block failed ({done.returncode}):\n{text}\n{done.stderr}")
        ran += 1
print(f"{args.file}: {ran} of {len(blocks)} blocks ran")
