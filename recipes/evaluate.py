"""Answers a test split with a trained generator and scores the answers.

    python recipes/evaluate.py MODEL DATA [--field value ...]

The work is `hf_localgan/commands/evaluate.py`, the command `hf-localgan evaluate`.
"""

import sys

from hf_localgan.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
