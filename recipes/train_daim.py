"""Trains a generator by DAIM (Zhang et al. 2018), the dual of AIM.

    accelerate launch recipes/train_daim.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/adversarial.py`, the command
`hf-localgan train-daim`.
"""

import sys

from hf_localgan.commands.train_daim import main

if __name__ == "__main__":
    sys.exit(main())
