"""What `test_two_processes.py` runs in one process and, under torchrun, in two.

Arguments: the number of processes that there should be, and a folder, where each process writes `rank<i>.json`.
"""

import json
import random
import sys
from pathlib import Path

import torch
from transformers import DataCollatorForSeq2Seq, T5Config, T5ForConditionalGeneration

from hf_localgan.data import train_tokenizer
from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration
from hf_localgan.trainers import MleConfig, MleTrainer
from hf_localgan.trainers.samples import read_samples

GLOBAL_BATCH = 8
ROWS = 68  # 17 batches of 4 over all processes: the last update of an epoch has one, the others two
EVALUATED = 7  # in batches of 2 for each of two processes, one example is repeated to fill the last


def rows(number: int, seed: int) -> list[dict]:
    draw = random.Random(seed)
    made = []
    for _ in range(number):
        query, response = ([draw.randrange(4, 12) for _ in range(draw.randint(1, 9))] + [2] for _ in range(2))
        made.append({"input_ids": query, "attention_mask": [1] * len(query), "labels": response})
    return made


def build(name: str, dropout: float = 0.0):
    torch.manual_seed(3)
    if name == "t5":
        sizes = {"vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1, "dropout_rate": dropout}
        return T5ForConditionalGeneration(T5Config(**sizes, **tokens))
    return RnnSeq2SeqForConditionalGeneration(RnnSeq2SeqConfig(vocab_size=16, embedding_size=6, hidden_size=8))


def accuracy(prediction) -> dict:
    """Counts the examples as well, so that a repeated one would show."""
    logits = prediction.predictions
    logits = torch.as_tensor(logits[0] if isinstance(logits, tuple) else logits)
    labels = torch.as_tensor(prediction.label_ids)
    kept = labels != -100
    return {"accuracy": (logits.argmax(-1) == labels)[kept].float().mean().item(), "examples": len(labels)}


class RecordingTrainer(MleTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.model.training:
            self.record(**{"test/rank": torch.tensor([0.0, 2.0 * self.args.process_index])})
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def flat(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])


class Runs:
    def __init__(self, processes: int, folder: Path):
        self.processes, self.folder = processes, folder
        self.tokenizer = train_tokenizer(["a b c d e f g h"] * 3)

    def trainer(self, model, output: str, compute_metrics=accuracy, **arguments) -> RecordingTrainer:
        settings = {
            "use_cpu": True, "optim": "sgd", "max_grad_norm": 1.0, "learning_rate": 0.5, "logging_steps": 1,
            "gradient_accumulation_steps": 2, "per_device_train_batch_size": GLOBAL_BATCH // 2 // self.processes,
            "per_device_eval_batch_size": 2, "num_train_epochs": 2, "save_strategy": "no", "disable_tqdm": True,
            "eval_strategy": "epoch", "sample_rows": 2, "sample_max_new_tokens": 4, "seed": 5, **arguments,
        }  # fmt: skip
        return RecordingTrainer(
            model, MleConfig(str(self.folder / output), **settings), train_dataset=rows(ROWS, 1),
            eval_dataset=rows(EVALUATED, 2), data_collator=DataCollatorForSeq2Seq(self.tokenizer),
            processing_class=self.tokenizer, compute_metrics=compute_metrics,
        )  # fmt: skip

    def train(self, name: str, sampling: str, fast_loss: bool) -> dict:
        run = self.trainer(
            build(name), f"{name}-{sampling}-{fast_loss}", train_sampling_strategy=sampling, fast_loss=fast_loss
        )
        assert run.args.world_size == run.accelerator.num_processes == self.processes
        run.train()
        assert run._separable is fast_loss
        history = run.state.log_history
        return {
            "parameters": flat(run.model).tolist(),
            "loss": [row["loss"] for row in history if "loss" in row],
            "eval": [[row[f"eval_{key}"] for key in ("loss", "tokens", "accuracy", "examples")]
                     for row in history if "eval_loss" in row],
            "terms": [row["test/rank"] for row in history if "test/rank" in row],
            "tokens_per_second": [row["tokens_per_second"] for row in history if "loss" in row],
            "samples": read_samples(run.args.output_dir + "/samples.parquet"),
        }  # fmt: skip

    def generate(self) -> dict:
        run = self.trainer(
            build("t5"), "generate", compute_metrics=lambda p: {"examples": len(p.predictions)},
            predict_with_generate=True, generation_max_length=5,
        )  # fmt: skip
        metrics = run.evaluate()
        return {"examples": metrics["eval_examples"], "loss": metrics["eval_loss"]}

    def resume(self, sampling: str) -> dict:
        """With dropout: whole, and from a checkpoint in the middle of the second epoch of 9 updates."""
        ends = []
        for name, start in (("whole", None), ("resumed", f"whole-{sampling}/checkpoint-12")):
            run = self.trainer(
                build("t5", dropout=0.3), f"{name}-{sampling}", save_strategy="steps", save_steps=12, sample_rows=0,
                train_sampling_strategy=sampling,
            )  # fmt: skip
            run.train(resume_from_checkpoint=start and str(self.folder / start))
            ends.append(flat(run.model))
        return {"steps": run.state.global_step, "difference": (ends[0] - ends[1]).abs().max().item()}


def measure(processes: int, folder: Path) -> dict:
    runs = Runs(processes, folder)
    measured = {
        f"{name} {sampling} {fast}": runs.train(name, sampling, fast)
        for name, sampling, fast in [
            ("t5", "random", True),
            ("t5", "group_by_length", False),
            ("rnn_seq2seq", "random", True),
        ]
    }
    measured["generate"] = runs.generate()
    measured["resume random"] = runs.resume("random")
    measured["resume group_by_length"] = runs.resume("group_by_length")
    return measured


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[2])
    result = measure(int(sys.argv[1]), target)
    (target / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()
