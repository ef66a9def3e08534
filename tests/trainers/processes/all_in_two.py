"""What several test modules run in two processes, by one launch: starting two takes longer than most of them do.

torchrun ... all_in_two.py PROCESSES FOLDER SCRIPT [SCRIPT ...]
"""

import importlib
import sys
from pathlib import Path

from tiny_runs import report


def measure(processes: int, folder: Path) -> dict:
    measured = {}
    for name in sys.argv[3:]:
        (folder / name).mkdir(exist_ok=True)
        measured[name] = importlib.import_module(name).measure(processes, folder / name)
    return measured


if __name__ == "__main__":
    report(measure)
