"""Trains a generator to raise the expected reward of its own samples, and shows what it has learned.

    accelerate launch recipes/train_expected_reward.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The work is `hf_localgan/commands/train_expected_reward.py`, the command
`hf-localgan train-expected-reward`.
"""

import sys

from hf_localgan.commands.train_expected_reward import main

if __name__ == "__main__":
    sys.exit(main())
