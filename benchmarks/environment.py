"""The environment of JoeyNMT's own, made on first use."""

import subprocess
import sys
import venv
from pathlib import Path

# What JoeyNMT 2.3.0 declares does not install beside a torch of today (protobuf below 3.21, say). Its recurrent model
# needs only these; the versions are those that were tried.
PACKAGES = (
    "importlib-metadata==10.2.0",
    "matplotlib==3.11.2",
    "numpy==2.4.6",
    "packaging==26.3",
    "pyyaml==6.0.3",
    "sentencepiece==0.2.3",
    "subword-nmt==0.3.8",
    "tensorboard==2.21.0",
    "torch==2.13.0",
)
JOEYNMT = "joeynmt==2.3.0"


def joeynmt_python(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, which is made by pip unless it is complete."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    finished = folder / "installed.txt"
    wanted = "\n".join((*PACKAGES, JOEYNMT))
    if finished.exists() and finished.read_text() == wanted:
        return python
    print(f"Installing {JOEYNMT} into {folder} ...", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES], check=True)
    subprocess.run([*pip, "--no-deps", JOEYNMT], check=True)
    finished.write_text(wanted)
    return python
