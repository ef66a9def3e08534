"""What `test_chaos.py` runs in a process forked from one that has imported everything: the recipe in a folder.

Given are `folder`, the words of the command line and `output`, a connection for what it prints.
"""

import os
import sys

import torch

from hf_localgan.commands.train_localgan import main

folder, words, output = (globals()[name] for name in ("folder", "words", "output"))
os.chdir(folder)
sys.stdout.flush()
for stream in (1, 2):
    os.dup2(output.fileno(), stream)
output.close()
torch.set_num_threads(1)
sys.exit(main(words, prog="train_localgan.py"))
