"""Trains a generator by AIM (Zhang et al. 2018), so that a query can be read back from its responses.

    accelerate launch recipes/train_aim.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/adversarial.py`, the command
`hf-localgan train-aim`.
"""

import sys

from hf_localgan.commands.train_aim import main

if __name__ == "__main__":
    sys.exit(main())
