"""Trains a recogniser of speech (Listen, Attend and Spell), by maximum likelihood or RAML, and shows what it hears.

    accelerate launch recipes/train_speech.py [CONFIG.yaml] [--field value ...]

Without a file: made-up speech of tones. The work is `hf_localgan/commands/train_speech.py`, the command
`hf-localgan train-speech`.
"""

import sys

from hf_localgan.commands.train_speech import main

if __name__ == "__main__":
    sys.exit(main())
