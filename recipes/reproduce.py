"""Trains all systems of the LocalGAN paper from the same start per seed, and puts them side by side.

    python recipes/reproduce.py {table1,radial,raml} [--dataset DATA] [--seeds N ...] [--output FOLDER] [--smoke]

The work is `hf_localgan/recipes/{reproduction,radial_ablation,raml_grid}.py`, the command `hf-localgan reproduce`.
"""

import sys

from hf_localgan.commands.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
