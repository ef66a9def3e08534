"""Trains a generator by LocalGAN from query-response pairs alone, and shows what it has learned.

    accelerate launch recipes/train_localgan.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/adversarial.py`, the command
`hf-localgan train-localgan`.
"""

import sys

from hf_localgan.commands.train_localgan import main

if __name__ == "__main__":
    sys.exit(main())
