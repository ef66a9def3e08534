"""What drawing labels costs beside a training step, in processor time.

    python benchmarks/raml_overhead.py [--rounds 40] [--threads 1] [--output benchmarks/raml_overhead]

In each round every part takes a turn on the same batch: a maximum-likelihood step of each model, the plain collator,
and `RamlCollator` with each sampler. The cost of a sampler is its collator's time less the plain one's. Then
`RamlTrainer` trains beside `MleTrainer`, collators, statistics and all, taking turns. Writes `OUTPUT.md` and
`OUTPUT.json`.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from tables import number_table, spread
from tokenizers import Tokenizer, models
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, PrinterCallback, logging, set_seed
from workload import BATCH_SIZE, BOS, EOS, FIRST_WORD, PAD, describe, make_batches

from hf_localgan.files import replacing
from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration
from hf_localgan.payoff.base import Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.rewards import SentenceBleu
from hf_localgan.trainers import MleConfig, MleTrainer
from hf_localgan.trainers.raml.collator import RamlCollator
from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.raml.trainer import RamlTrainer

VOCABULARY, SIZES, PAIRS_OF_WMT14 = 8_000, (256, 512), 36_000_000
STEPS = 25  # of each trainer in each round, of which the first five are not counted


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<s>": BOS, "</s>": EOS, "<unk>": 3}
    words |= {f"w{token}": token for token in range(FIRST_WORD, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), pad_token="<pad>", bos_token="<s>",
        eos_token="</s>", unk_token="<unk>", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_samplers() -> dict[str, Payoff]:
    tokens = range(FIRST_WORD, VOCABULARY)
    proposal = HammingPayoff(tokens, 0.85)
    return {
        "Hamming, tau 0.85": proposal,
        "edit, tau 0.9": EditPayoff(tokens, 0.9),
        "exact edit, tau 0.9": ExactEditPayoff(tokens, 0.9),
        "BLEU, 16 candidates": ImportancePayoff(proposal, SentenceBleu(), num_candidates=16, temperature=0.1),
    }


def make_model(size: int) -> RnnSeq2SeqForConditionalGeneration:
    set_seed(1)
    shape = {"cell_type": "lstm", "attention": "general", "embedding_size": size, "hidden_size": size}
    return RnnSeq2SeqForConditionalGeneration(RnnSeq2SeqConfig(vocab_size=VOCABULARY, dropout=0.2, **shape))


def make_trainer(size: int, rows, tokenizer, folder: str, payoff: Payoff | None = None) -> MleTrainer:
    settings = {
        "output_dir": folder, "use_cpu": True, "per_device_train_batch_size": BATCH_SIZE, "max_steps": STEPS,
        "save_strategy": "no", "logging_steps": 10, "disable_tqdm": True, "sample_rows": 0, "learning_rate": 1e-4,
    }  # fmt: skip
    given = {
        "train_dataset": rows, "data_collator": DataCollatorForSeq2Seq(tokenizer), "processing_class": tokenizer,
    }  # fmt: skip
    if payoff is None:
        trainer = MleTrainer(make_model(size), MleConfig(**settings), **given)
    else:
        trainer = RamlTrainer(make_model(size), RamlConfig(**settings), payoff=payoff, **given)
    trainer.remove_callback(PrinterCallback)
    return trainer


class Step:
    """One update by maximum likelihood on a batch that is padded already, as `MleTrainer` makes it."""

    def __init__(self, size: int, tokenizer, folder: str):
        self.trainer = make_trainer(size, [{"input_ids": [EOS], "labels": [EOS]}], tokenizer, folder)
        self.model = self.trainer.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def __call__(self, batch):
        self.trainer.compute_loss(self.model, dict(batch)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def seconds(work: Callable, *args) -> float:
    started = time.process_time()
    work(*args)
    return time.process_time() - started


def measure_parts(rounds: int, rows: list[list[dict]], tokenizer, folder: str) -> dict[str, list[float]]:
    """Processor seconds of each part in each round."""
    plain = DataCollatorForSeq2Seq(tokenizer)
    steps = {f"step {size}": Step(size, tokenizer, folder) for size in SIZES}
    collators = {"plain": plain, **{name: RamlCollator(plain, payoff) for name, payoff in make_samplers().items()}}
    taken: dict[str, list[float]] = {name: [] for name in (*steps, *collators)}
    for number in range(-2, rounds):  # two rounds warm up: tables of edit counts are made once
        examples = rows[number % len(rows)]
        times = {name: seconds(make, examples) for name, make in collators.items()}
        batch = plain(examples)
        times |= {name: seconds(step, batch) for name, step in steps.items()}
        if number >= 0:
            for name, value in times.items():
                taken[name].append(value)
    return taken


class TimedSteps:
    """A trainer that notes the processor time at the end of each step."""

    def __init__(self, trainer):
        self.trainer, self.times = trainer, []
        step = trainer.training_step
        trainer.training_step = lambda *args: (self.times.append(time.process_time()), step(*args))[1]

    def per_step(self) -> float:
        """Processor seconds of a step, from the beginning of one to the beginning of the next."""
        self.times.clear()
        gc.collect()
        self.trainer.train()
        return (self.times[-1] - self.times[4]) / (STEPS - 5)


def drawn_labels(rows: list[list[dict]], tokenizer) -> dict[str, dict[str, float]]:
    """Labels of a batch of draws, and positions with its padding, on average over the batches."""
    plain = DataCollatorForSeq2Seq(tokenizer)
    collators = {"plain": plain, **{name: RamlCollator(plain, payoff) for name, payoff in make_samplers().items()}}
    drawn = {}
    for name, make in collators.items():
        labels = [make(examples)["labels"] for examples in rows]
        drawn[name] = {
            "labels": statistics.mean((batch != -100).sum().item() for batch in labels),
            "positions": statistics.mean(batch.numel() for batch in labels),
        }
    return drawn


def measure_trainers(rounds: int, rows: list[list[dict]], tokenizer, folder: str) -> dict[str, list[float]]:
    """Processor seconds of a step of each trainer in each round, taking turns."""
    data = Dataset.from_list([row for batch in rows for row in batch])
    still = {"tau 0": HammingPayoff(range(FIRST_WORD, VOCABULARY), 0.0)}
    samplers = {"MleTrainer": None, **{f"RamlTrainer, {name}": one for name, one in (still | make_samplers()).items()}}
    trainers = {
        name: TimedSteps(make_trainer(SIZES[0], data, tokenizer, folder, one)) for name, one in samplers.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(-1, rounds):
        for name, trainer in trainers.items():
            value = trainer.per_step()
            if number >= 0:
                taken[name].append(value)
    return taken


def milliseconds(values: list[float], form: str) -> str:
    return spread([1e3 * value for value in values], form)


def write_report(parts: dict, trainers: dict, about: dict, path: Path):
    added = {name: [r - p for r, p in zip(parts[name], parts["plain"], strict=True)] for name in make_samplers()}
    lines = [
        "# What drawing labels costs",
        "",
        f"Processor time, medians (smallest to largest) over {about['rounds']} rounds in which all parts take turns on "
        f"the same batch of {BATCH_SIZE} pairs with the lengths of Multi30k English-French (targets of "
        f"{about['mean_length']:.1f} tokens) and {VOCABULARY:,} words. {about['machine']}, torch {about['torch']}, "
        f"{about['threads']} thread{'s' if about['threads'] > 1 else ''}.",
        "",
        "A maximum-likelihood step (forward, backward, clipping, AdamW; bidirectional LSTM encoder, attention): "
        + ", ".join(f"{milliseconds(parts[f'step {size}'], '.1f')} ms with {size} units" for size in SIZES)
        + f". The plain collator: {milliseconds(parts['plain'], '.2f')} ms.",
        "",
    ]
    rows = []
    for name, values in added.items():
        middle = statistics.median(values)
        shares = (f"{100 * middle / statistics.median(parts[f'step {size}']):.2f} %" for size in SIZES)
        rate = BATCH_SIZE / middle
        hours = PAIRS_OF_WMT14 / rate / 3600
        rows.append((name, milliseconds(values, ".3f"), *shares, f"{rate:,.0f}", f"{hours:.2f}"))
    columns = (
        "sampler", "added by the collator, ms", *(f"share of a step, {size} units" for size in SIZES),
        "examples/s of one core", "hours of one core for 36 million pairs",
    )  # fmt: skip
    lines.append(number_table(columns, rows))
    hours = {size: PAIRS_OF_WMT14 / BATCH_SIZE * statistics.median(parts[f"step {size}"]) / 3600 for size in SIZES}
    lines += [
        "",
        "An epoch of 36 million pairs of this length is "
        + " and ".join(f"{value:,.0f} hours of one core with {size} units" for size, value in hours.items())
        + " for the steps. Draws are made where batches are made: in the loader's workers, beside the step, where "
        "there are any, and in each process for its own share.",
        "",
        f"## Whole trainers, {SIZES[0]} units",
        "",
        f"Steps of `trainer.train()` in the same process without loader workers: collator, statistics and log "
        f"included. {STEPS - 5} steps in each of {about['trainer_rounds']} rounds; the ratio is within a round. Draws "
        "with insertions are longer than references, so the model has more to do: see the labels of a batch, and the "
        "decoder's positions with padding.",
        "",
    ]
    rows = []
    for name, values in trainers.items():
        ratios = [value / plain for value, plain in zip(values, trainers["MleTrainer"], strict=True)]
        drawn = about["drawn"].get(name.removeprefix("RamlTrainer, "), about["drawn"]["plain"])
        size = (f"{drawn['labels']:.0f}", f"{drawn['positions']:.0f}")
        rows.append((name, milliseconds(values, ".1f"), spread(ratios, ".3f"), *size))
    lines.append(number_table(("trainer", "ms a step", "ratio to MleTrainer", "labels", "positions"), rows))
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"about": about, "parts": parts, "trainers": trainers}, indent=1) + "\n")
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="of the parts")
    parser.add_argument("--trainer-rounds", type=int, default=7, help="of the trainers")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("raml_overhead"))
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    logging.set_verbosity_error()
    corpora = os.environ.get("HF_LOCALGAN_DATA")
    batches = make_batches(VOCABULARY, STEPS, seed=1, corpora=Path(corpora) if corpora else None)
    rows = [
        [{"input_ids": source, "attention_mask": [1] * len(source), "labels": target} for source, target in batch]
        for batch in batches
    ]
    tokenizer = make_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        parts = measure_parts(wanted.rounds, rows, tokenizer, folder)
        trainers = measure_trainers(wanted.trainer_rounds, rows, tokenizer, folder)
    about = {
        "rounds": wanted.rounds, "trainer_rounds": wanted.trainer_rounds, "threads": wanted.threads,
        "machine": platform.machine(), "torch": torch.__version__, "corpora": bool(corpora), **describe(batches),
        "drawn": drawn_labels(rows, tokenizer),
    }  # fmt: skip
    write_report(parts, trainers, about, wanted.output)


if __name__ == "__main__":
    main()
