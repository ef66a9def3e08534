"""Trains a deep Boltzmann machine over queries and responses (LocalGAN, Eq. 8), and shows what it has learned.

    accelerate launch recipes/train_dbm.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/train_dbm.py`, the command
`hf-localgan train-dbm`.
"""

import sys

from hf_localgan.commands.train_dbm import main

if __name__ == "__main__":
    sys.exit(main())
