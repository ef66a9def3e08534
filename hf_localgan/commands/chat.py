"""Answers queries. In a terminal: a prompt. Otherwise: one query per line of standard input, one line of standard
output for each, several responses separated by tabs. The prompt remembers as many turns as the model was trained on,
and most models are trained on none; a line of a pipe is answered on its own, or is a conversation as JSON: a list of
messages with role and content. What is wrong with a line of a pipe is told on standard error, and the others are
answered all the same. Without options the search is greedy; a temperature or top-p means sampling, and --decoding names
any decoding.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_localgan.commands.exits import announce, ending
from hf_localgan.options import CommandParser

if TYPE_CHECKING:
    from hf_localgan.responses import ChatSettings


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: _read(parser, argv), _chat, argv)


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, allow_abbrev=True)
    parser.add_argument("model", metavar="MODEL", help="folder of a checkpoint, or id of a model on the Hub")
    answers = parser.add_argument_group("answers")
    answers.add_argument(
        "--decoding", metavar="NAME",
        help='decoding, such as "beam 5" or "temperature 0.7", instead of the next three options',
    )  # fmt: skip
    answers.add_argument("--num-beams", type=int, metavar="N", help="hypotheses of the search (default: 1)")
    answers.add_argument("--temperature", type=float, metavar="T", help="sample at this temperature")
    answers.add_argument("--top-p", type=float, metavar="P", help="sample from the most probable tokens of this mass")
    answers.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest response (default: 64)")
    answers.add_argument("--num-return-sequences", type=int, default=1, metavar="K", help="responses (default: 1)")
    answers.add_argument("--seed", type=int, metavar="S", help="seed of sampling; without it every run differs")
    answers.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="lines answered at a time (default: 16)"
    )
    loading = parser.add_argument_group("loading")
    loading.add_argument("--device", help="device, such as cpu or cuda:0 (default: a GPU if there is one)")
    loading.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    loading.add_argument("--revision", help="branch, tag or commit on the Hub")
    return parser


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> "tuple[argparse.Namespace, ChatSettings]":
    """The arguments, and the settings of the answers."""
    from hf_localgan.responses import ChatSettings, parse_decoding

    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        parser.error(f"--seed must be from 0 to {2**32 - 1}, got {args.seed}")
    has_search_options = any(value is not None for value in (args.num_beams, args.temperature, args.top_p))
    if args.decoding is not None and has_search_options:
        parser.error("give either --decoding, or --num-beams, --temperature and --top-p")
    try:
        settings = ChatSettings(
            do_sample=args.temperature is not None or args.top_p is not None,
            num_beams=1 if args.num_beams is None else args.num_beams,
            temperature=1.0 if args.temperature is None else args.temperature,
            top_p=1.0 if args.top_p is None else args.top_p,
            max_new_tokens=args.max_new_tokens,
            num_return_sequences=args.num_return_sequences,
            seed=args.seed,
            decoding=None if args.decoding is None else parse_decoding(args.decoding),
        )
    except ValueError as error:
        parser.error(str(error))
    announce(parser.prog, f"loading {args.model}")
    return args, settings


def _chat(args: argparse.Namespace, settings: "ChatSettings"):
    import torch
    from transformers.utils import logging

    from hf_localgan.chat import Chat, answer_lines
    from hf_localgan.models.loading import load_generator
    from hf_localgan.responses import set_seed

    if sys.stdin is None or sys.stdout is None:
        raise OSError("Standard input and standard output must be open: the chat reads and writes there.")
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
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a byte that is no text must not end the others
        answer_lines(model, tokenizer, settings, sys.stdin, sys.stdout, args.batch_size, _report)


def _report(message: str):
    print(f"hf-localgan chat: {message}", file=sys.stderr, flush=True)


def _enable_line_editing():
    try:
        import readline  # noqa: F401  its import alone gives `input` arrow keys and a history
    except ImportError:  # not part of Python on every system
        pass
