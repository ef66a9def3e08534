"""Trains a generator by Adver-REGS (Li et al. 2017), policy gradient on a discriminator's probability.

    accelerate launch recipes/train_adver_regs.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/adversarial.py`, the command
`hf-localgan train-adver-regs`.
"""

import sys

from hf_localgan.commands.train_adver_regs import main

if __name__ == "__main__":
    sys.exit(main())
