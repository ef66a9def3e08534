"""Trains a generator by maximum likelihood, and shows what it has learned.

    accelerate launch recipes/train_mle.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/train_mle.py`, the command
`hf-localgan train-mle`.
"""

import sys

from hf_localgan.commands.train_mle import main

if __name__ == "__main__":
    sys.exit(main())
