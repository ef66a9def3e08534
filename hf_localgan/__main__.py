"""`python -m hf_localgan` is the command `hf-localgan`."""

import sys

from hf_localgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
