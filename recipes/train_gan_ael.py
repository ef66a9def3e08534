"""Trains a generator by GAN-AEL (Xu et al. 2017), the baseline nearest to LocalGAN, and shows what it has learned.

    accelerate launch recipes/train_gan_ael.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/adversarial.py`, the command
`hf-localgan train-gan-ael`.
"""

import sys

from hf_localgan.commands.train_gan_ael import main

if __name__ == "__main__":
    sys.exit(main())
