"""Draws BLEU against the temperature of RAML, from runs that have finished.

    python recipes/tau_curve.py RUNS_FOLDER [--output PNG] [--against edit_rate] [--decoding "beam 8"]

The work is `hf_localgan.recipes.temperature_curve.py`, the command `hf-localgan tau-curve`.
"""

import sys

from hf_localgan.commands.tau_curve import main

if __name__ == "__main__":
    sys.exit(main())
