"""What one process does and sends in an update of each trainer, at the sizes of the two papers.

    python benchmarks/scale_steps.py [--rounds 3] [--only opensubtitles weibo wmt14] [--output FILE.json]

Generators, batches, energies and presets are those of `recipes/papers/`, in float32; the pairs are invented: 15 tokens
on each side for dialogue, 30 for translation, without padding. Timed is the processor time of one thread over whole
updates, loading included, and counted are the parameters that each player learns. `benchmarks/scale.py` makes
tables of what this writes.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported: one core is timed
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import statistics
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import yaml
from datasets import Dataset
from localgan_phases import Timed, make_tokenizer, make_vectors
from localgan_rollout import Clock
from transformers import DataCollatorForSeq2Seq, logging
from workload import EOS, FIRST_WORD

from hf_localgan import (
    DbmConfig,
    DbmModel,
    DbmTrainer,
    DbmTrainingConfig,
    HammingPayoff,
    LocalGanConfig,
    LocalGanTrainer,
    MatchingConfig,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
    PairDiscriminator,
    RamlConfig,
    RamlTrainer,
    RnnSeq2SeqConfig,
    RnnSeq2SeqForConditionalGeneration,
    regular_tokens,
)
from hf_localgan.files import replacing

PAPERS = Path(__file__).parents[1] / "recipes" / "papers"


@dataclass
class Corpus:
    """A corpus of a paper, and which recipe files are run on it.

    Attributes:
        recipe: path of the file of a system or part, whose name stands for `{}`.
        generator: the name of maximum likelihood.
        tokens: on each side of an invented pair, its end included.
    """

    recipe: str
    generator: str
    tokens: int

    def read(self, part: str) -> dict:
        """The settings of a system or part, such as `mle`."""
        return yaml.safe_load((PAPERS / f"{self.recipe.format(part)}.yaml").read_text(encoding="utf-8"))


CORPORA = {
    "opensubtitles": Corpus("opensubtitles/{}", "mle", 15),
    "weibo": Corpus("weibo/{}", "mle", 15),
    "wmt14": Corpus("raml_wmt14_en_fr{}", "_mle", 30),
}


def make_rows(vocabulary: int, tokens: int, number: int) -> Dataset:
    """Pairs of words with Zipf's frequencies."""
    rng = np.random.default_rng(1)
    ranks = np.arange(1, vocabulary - FIRST_WORD + 1)
    words = FIRST_WORD + rng.choice(len(ranks), (2, number, tokens), p=(1 / ranks) / (1 / ranks).sum())
    words[:, :, -1] = EOS
    return Dataset.from_dict({
        "input_ids": words[0].tolist(), "attention_mask": np.ones_like(words[0]).tolist(), "labels": words[1].tolist(),
    })  # fmt: skip


def make_generator(settings: dict) -> RnnSeq2SeqForConditionalGeneration:
    own = {one.name for one in fields(RnnSeq2SeqConfig)}
    torch.manual_seed(1)
    return RnnSeq2SeqForConditionalGeneration(
        RnnSeq2SeqConfig(**{name: value for name, value in settings.items() if name in own})
    )


class Bench:
    """Trainers of one corpus, of which each is built, timed and thrown away."""

    def __init__(self, name: str, rounds: int, folder: str):
        self.corpus, self.rounds, self.folder = CORPORA[name], rounds, folder
        self.mle = self.corpus.read(self.corpus.generator)
        self.vocabulary = self.mle["vocab_size"]
        self.tokenizer = make_tokenizer(self.vocabulary)
        self.found: dict[str, dict] = {}

    def arguments(self, settings: dict, updates: int, **others) -> dict:
        return {
            "output_dir": self.folder, "use_cpu": True, "save_strategy": "no", "logging_strategy": "no",
            "disable_tqdm": True, "max_steps": updates, "max_grad_norm": settings.get("max_grad_norm", 1.0),
            "per_device_train_batch_size": settings["per_device_train_batch_size"], **others,
        }  # fmt: skip

    def shared(self, pairs: int) -> dict:
        return {
            "data_collator": DataCollatorForSeq2Seq(self.tokenizer), "processing_class": self.tokenizer,
            "train_dataset": make_rows(self.vocabulary, self.corpus.tokens, pairs),
        }  # fmt: skip

    def measure(self, name: str, trainer, modules: dict[str, torch.nn.Module], last: int = 0):
        """Seconds of an update of each player, the first one left out, and what its gradients weigh.

        Args:
            name: of the trainer.
            trainer: with a training ahead.
            modules: what each player learns, by its name; by default the trainer's model.
            last: how many updates count, from the end. 0: all.
        """
        timed = Timed(trainer, Clock("cpu", "cpu"))
        players = timed.train(by_parts=False)
        periods: dict[str, list[float]] = {player: [] for player in players}
        for update in timed.updates:
            if "period" in update:
                periods[update["player"]].append(update["period"])
        for player, seconds in periods.items():
            seconds = seconds[1:][-last:]
            module = modules.get(player, trainer.model)
            learned = [one for one in module.parameters() if one.requires_grad]
            self.found[name if len(players) == 1 else f"{name}, {player}"] = {
                "seconds": seconds, "median_seconds": statistics.median(seconds),
                "batch": trainer.args.per_device_train_batch_size,
                "parameters": sum(one.numel() for one in learned),
                "gradient_bytes": sum(one.numel() * one.element_size() for one in learned),
            }  # fmt: skip
            print(f"{self.corpus.recipe}: {name}, {player}: {statistics.median(seconds):.3f} s", flush=True)

    def dialogue(self):
        """The stages of LocalGAN as the paper's recipes have them."""
        updates = self.rounds + 2  # the first warms up, the last has no period
        batch = self.mle["per_device_train_batch_size"]
        generator = make_generator(self.mle)
        args = MleConfig(**self.arguments(self.mle, updates, sample_rows=0, learning_rate=1e-5))
        self.measure("maximum likelihood", MleTrainer(generator, args, **self.shared(updates * batch)), {})
        energy = self.energy()
        settings = self.corpus.read("matching")
        args = MatchingConfig(**self.arguments(settings, updates))
        trainer = MatchingTrainer(PairDiscriminator.from_energy(energy), args, **self.shared(updates * batch))
        self.measure("matching", trainer, {})
        settings = self.corpus.read("localgan")
        args = self.arguments(settings, 2 * updates, sample_rows=0, discriminator_warmup_steps=0)
        discriminator = PairDiscriminator.from_energy(energy)
        trainer = LocalGanTrainer(
            generator, LocalGanConfig(**args, preset=settings["preset"]), discriminator=discriminator, energy=energy,
            **self.shared(2 * updates * batch),
        )  # fmt: skip
        self.measure("LocalGAN", trainer, {"generator": generator, "discriminator": discriminator})

    def energy(self) -> DbmModel:
        settings, size = self.corpus.read("dbm"), self.mle["embedding_size"]
        torch.manual_seed(1)
        own = {name: settings[name] for name in ("hidden_size", "top_size")}
        energy = DbmModel(DbmConfig(query_size=size, response_size=size, vocab_size=self.vocabulary, **own))
        energy.word_vectors.load(make_vectors(self.vocabulary, size), range(FIRST_WORD, self.vocabulary))
        updates, batch = 40, settings["per_device_train_batch_size"]
        args = DbmTrainingConfig(
            **self.arguments(settings, updates, final_log_likelihood=False, bottom_share=0.1, top_share=0.1)
        )
        shared = self.shared(updates * batch)
        shared.pop("data_collator")
        self.measure("energy", DbmTrainer(energy, args, **shared), {}, last=20)  # updates of the joint stage
        return energy.eval()

    def translation(self):
        """RAML with the Hamming payoff; maximum likelihood costs the same but for the draws."""
        updates = self.rounds + 2
        settings = self.corpus.read("")
        batch = settings["per_device_train_batch_size"]
        args = self.arguments(settings, updates, sample_rows=0, optim="sgd", learning_rate=0.5)
        payoff = HammingPayoff(regular_tokens(self.tokenizer), temperature=settings["temperature"])
        generator = make_generator(self.mle)
        trainer = RamlTrainer(generator, RamlConfig(**args), payoff=payoff, **self.shared(updates * batch))
        self.measure("RAML", trainer, {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="updates of each player that are timed")
    parser.add_argument("--only", nargs="+", choices=list(CORPORA), default=list(CORPORA))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    found = json.loads(wanted.output.read_text(encoding="utf-8")) if wanted.output.exists() else {"corpora": {}}
    found["about"] = {"torch": torch.__version__, "machine": platform.machine(), "threads": 1, "clock": "processor"}
    for name in wanted.only:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(name, wanted.rounds, folder)
            bench.translation() if name == "wmt14" else bench.dialogue()
        found["corpora"][name] = {"tokens": bench.corpus.tokens, "vocabulary": bench.vocabulary, "updates": bench.found}
        with replacing(wanted.output) as path:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
