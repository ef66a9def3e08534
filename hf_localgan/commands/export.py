"""Writes a checkpoint for machines without this package, or merges an adapter into its base.

With `--with-code`, the default, OUTPUT loads by `trust_remote_code=True` where only transformers is installed; it may
be a generator, an energy or a discriminator. With `--merge` MODEL is a LoRA adapter, and OUTPUT an ordinary checkpoint
of the generator with the adapter's weights added. Both together: merged first, then with code.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hf_localgan.commands.exits import announce, ending
from hf_localgan.options import CommandParser


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="folder or id on the Hub of a checkpoint or an adapter")
    parser.add_argument("output", metavar="OUTPUT", help="folder to write, new or empty")
    contents = parser.add_argument_group("contents of OUTPUT")
    contents.add_argument("--with-code", action="store_true", help="add the code of model and pipeline (the default)")
    contents.add_argument("--merge", action="store_true", help="add the adapter's weights to those of its base")
    loading = parser.add_argument_group("loading")
    loading.add_argument(
        "--base-model", metavar="MODEL", help="base of the adapter (default: the one that adapter_config.json names)"
    )
    loading.add_argument("--revision", help="branch, tag or commit on the Hub")
    loading.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _export, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.base_model is not None and not args.merge:
        parser.error("--base-model needs an adapter that is merged: add --merge")
    announce(parser.prog, "loading the model")
    return args


def _export(args: argparse.Namespace):
    from transformers.utils.logging import disable_progress_bar

    from hf_localgan.hub.export import export_with_code, merge_adapter

    disable_progress_bar()

    output = Path(args.output)
    loading = {"revision": args.revision, "trust_remote_code": args.trust_remote_code}
    if not args.merge:
        path = export_with_code(args.model, output, **loading)
    elif not args.with_code:
        path = merge_adapter(args.model, output, base_model=args.base_model, **loading)
    else:
        with tempfile.TemporaryDirectory() as folder:
            merged = merge_adapter(args.model, Path(folder) / "merged", base_model=args.base_model, **loading)
            path = export_with_code(str(merged), output, trust_remote_code=args.trust_remote_code)
    print(f"written: {path}")
