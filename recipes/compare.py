"""Compares trained generators by what their evaluations left behind, over several seeds of each.

    python recipes/compare.py RUN [RUN ...] [--group NAME=RUN,RUN,...] [--output compare.md]

The work is `hf_localgan/evaluation/comparison.py`, the command `hf-localgan compare`.
"""

import sys

from hf_localgan.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
