"""The command `hf-localgan`.

Each command is a function that adds its parser, whose `run` does the work and returns the exit code. What takes long to
import is imported by `run`, so that `--help` and wrong usage answer at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from hf_localgan import __version__

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        return args.run(args)
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ValueError, ImportError) as error:
        print(f"hf-localgan: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-localgan", description="Sequence-to-sequence generators, at the terminal."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_chat,):
        add(commands)
    return parser


def _add_chat(commands):
    parser = commands.add_parser(
        "chat",
        help="ask a generator",
        description="Answers queries. In a terminal: a prompt. Otherwise: one query per line of standard input, one "
        "line of standard output for each, several responses separated by tabs. Every query is answered on its own, "
        "without memory of earlier ones. Without options the search is greedy; a temperature or top-p means sampling.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder of a checkpoint, or id of a model on the Hub")
    parser.add_argument("--num-beams", type=int, default=1, metavar="N", help="hypotheses of the search (default: 1)")
    parser.add_argument("--temperature", type=float, metavar="T", help="sample at this temperature")
    parser.add_argument("--top-p", type=float, metavar="P", help="sample from the most probable tokens of this mass")
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest response (default: 64)")
    parser.add_argument("--num-return-sequences", type=int, default=1, metavar="K", help="responses (default: 1)")
    parser.add_argument("--seed", type=int, metavar="S", help="of sampling; without it every run differs")
    parser.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="lines answered at a time (default: 16)"
    )
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU where there is one)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.set_defaults(run=_chat, parser=parser)


def _chat(args: argparse.Namespace) -> int:
    from hf_localgan.chat import Chat, ChatSettings, answer_lines, set_seed

    if args.batch_size < 1:
        args.parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    try:
        settings = ChatSettings(
            do_sample=args.temperature is not None or args.top_p is not None,
            num_beams=args.num_beams,
            temperature=1.0 if args.temperature is None else args.temperature,
            top_p=1.0 if args.top_p is None else args.top_p,
            max_new_tokens=args.max_new_tokens,
            num_return_sequences=args.num_return_sequences,
            seed=args.seed,
        )
    except ValueError as error:
        args.parser.error(str(error))

    import torch
    from transformers.utils import logging

    from hf_localgan.models.loading import load_generator

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, tokenizer = load_generator(
        args.model,
        revision=args.revision,
        trust_remote_code=args.trust_remote_code,
        device=args.device or ("cuda" if torch.cuda.is_available() else None),
    )
    if settings.seed is not None:
        set_seed(settings.seed)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _enable_line_editing()
        Chat(model, tokenizer, settings).run()
    else:
        answer_lines(model, tokenizer, settings, sys.stdin, sys.stdout, args.batch_size)
    return DONE


def _enable_line_editing():
    try:
        import readline  # noqa: F401  its import alone gives `input` arrow keys and a history
    except ImportError:  # not part of Python on every system
        pass


if __name__ == "__main__":
    sys.exit(main())
