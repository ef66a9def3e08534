"""Trains all systems of the LocalGAN paper from the same start per seed, and puts them side by side.

    python recipes/reproduce.py table1 [--dataset DATA] [--seeds N ...] [--output FOLDER] [--smoke]
    python recipes/reproduce.py raml [--dataset DATA] [--seeds N ...] [--systems NAME ...] [--edit_rates RATE ...]

The work is `hf_localgan/recipes/reproduction.py`, the command `hf-localgan reproduce`.
"""

import sys

from hf_localgan.commands.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
