"""Trains a discriminator to tell whether a response belongs to a query, and shows how well it does.

    accelerate launch recipes/train_matching.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/train_matching.py`, the command
`hf-localgan train-matching`.
"""

import sys

from hf_localgan.commands.train_matching import main

if __name__ == "__main__":
    sys.exit(main())
