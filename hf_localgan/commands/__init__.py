"""The commands of `hf-localgan`: one module each, whose `main(argv, prog)` returns the exit code of the process.

A module is imported when its command is given; those of short commands import slow modules only when they work.
"""
