"""Trains a generator by reward augmented maximum likelihood (Norouzi et al. 2016), and shows what it has learned.

    accelerate launch recipes/train_raml.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/train_raml.py`, the command
`hf-localgan train-raml`.
"""

import sys

from hf_localgan.commands.train_raml import main

if __name__ == "__main__":
    sys.exit(main())
