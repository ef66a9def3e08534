"""The package's trainer. Apart from the other systems, for what it imports would weigh on their memory."""

import tempfile

import tokenizers
from datasets import Dataset
from protocol import now, serve, since
from torch_worker import LEARNING_RATE, MAX_NORM, HuggingFace, maker
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from workload import BATCH_SIZE, BOS, EOS, PAD

from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.mle.trainer import MleTrainer


class Trained(HuggingFace):
    """The package's `MleTrainer`, as a user runs it: rows in a `Dataset`, transformers' collator, its data loader."""

    def __init__(self, config: dict, **arguments):
        super().__init__(**arguments)
        self.config, self.trainers, self.clock = config, {}, EpochClock()
        self.folder = tempfile.TemporaryDirectory()

    def load(self, key: str, batches: list):
        pairs = [pair for batch in batches for pair in batch]
        columns = {
            "input_ids": [source for source, _ in pairs],
            "attention_mask": [[1] * len(source) for source, _ in pairs],
            "labels": [target for _, target in pairs],
            "length": [len(source) + len(target) for source, target in pairs],
        }
        self.trainers[key] = MleTrainer(
            model=self.model,
            args=MleConfig(
                output_dir=self.folder.name,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                max_grad_norm=MAX_NORM,
                num_train_epochs=1,
                logging_steps=10,
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
                **self.config,
            ),
            train_dataset=Dataset.from_dict(columns),
            data_collator=DataCollatorForSeq2Seq(make_tokenizer()),
            callbacks=[self.clock],
        )
        self.trainers[key].remove_callback(PrinterCallback)

    def train(self, key: str) -> dict:
        """One epoch. What `train` does before the first and after the last batch is not counted."""
        self.trainers[key].train()
        return self.clock.took


class EpochClock(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        self.start = now()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.took = since(self.start)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """What the collator needs: the padding token and its side."""
    vocabulary = tokenizers.models.WordLevel({"<pad>": PAD, "<s>": BOS, "</s>": EOS, "<unk>": 3}, unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(vocabulary), pad_token="<pad>")


if __name__ == "__main__":
    serve(maker({"trainer": Trained}))
