"""Transcribes sound files. Prints one line for each: its name, a tab and the transcript.

Reads WAV, FLAC, OGG, MP3 and the other formats of libsndfile, at any sampling rate; `-` reads names from standard
input. A file that cannot be read is named on standard error, the others are transcribed, and the exit code is 1.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hf_localgan.commands.exits import FAILED, announce, ending
from hf_localgan.options import CommandParser


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, allow_abbrev=True)
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound file, or - for their names on standard input")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="folder of a recogniser, or id of a model on the Hub"
    )
    search = parser.add_argument_group("search")
    search.add_argument("--num-beams", type=int, default=8, metavar="N", help="hypotheses of the search (default: 8)")
    search.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest transcript, in tokens (default: the model's own limit, or by the length of the sound)",
    )
    search.add_argument("--batch-size", type=int, default=16, metavar="N", help="files at a time (default: 16)")
    loading = parser.add_argument_group("loading")
    loading.add_argument("--device", help="device, such as cpu or cuda:0 (default: a GPU if there is one)")
    loading.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    loading.add_argument("--revision", help="branch, tag or commit on the Hub")
    loading.add_argument(
        "--base-model",
        metavar="MODEL",
        help="base of an adapter (default: the one that adapter_config.json names)",
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv), parser.prog), _transcribe, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    for name in ("num_beams", "batch_size", "max_new_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    announce(parser.prog, f"loading {args.model}")
    return args


def _transcribe(args: argparse.Namespace, prog: str) -> int | None:
    import torch
    from transformers.utils import logging

    from hf_localgan.data.audio import read_audio, require_soundfile
    from hf_localgan.decoding.answers import Decoding
    from hf_localgan.decoding.transcripts import transcribe
    from hf_localgan.models.recognisers import load_recogniser

    require_soundfile()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = args.device or ("cuda" if torch.cuda.is_available() else None)
    model, processor = load_recogniser(
        args.model,
        revision=args.revision,
        trust_remote_code=args.trust_remote_code,
        device=device,
        base_model=args.base_model,
    )
    extractor = processor.feature_extractor
    decoding = Decoding.greedy() if args.num_beams == 1 else Decoding.beam(args.num_beams)
    names, failed = _names(args.files), False
    while batch := list(islice(names, args.batch_size)):
        transcribed, features = [], []
        for name in batch:
            try:
                samples, _ = read_audio(Path(name), extractor.sampling_rate)
                features.append(extractor(samples, return_tensors="np")["input_features"][0])
                transcribed.append(name)
            except (OSError, ValueError) as error:
                print(f"{prog}: {name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
                failed = True
        texts = transcribe(model, processor, features, decoding, max_new_tokens=args.max_new_tokens)
        for name, text in zip(transcribed, texts, strict=True):
            print(f"{name}\t{text}", flush=True)
    return FAILED if failed else None


def _names(files: Sequence[str]) -> Iterator[str]:
    for name in files:
        if name == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        else:
            yield name
