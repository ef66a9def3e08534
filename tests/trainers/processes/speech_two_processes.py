"""What `test_speech_two_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tiny_runs import flat, report, settings

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.speech.trainer import SpeechMleTrainer, SpeechRamlTrainer


def utterances(number: int) -> Dataset:
    rng, rows = np.random.default_rng(0), []
    for index in range(number):
        frames, phones = int(rng.integers(12, 30)), rng.integers(4, 12, rng.integers(1, 4)).tolist()
        rows.append({"input_features": rng.normal(size=(frames, 6)).astype(np.float32), "labels": [*phones, 2]})
        rows[-1] |= {"draw_key": index, "length": frames}
    return Dataset.from_list(rows).with_format("numpy", columns=["input_features"], output_all_columns=True)


def train(name: str, processes: int, folder: Path) -> dict:
    torch.manual_seed(3)
    sizes = {"encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 8, "embedding_size": 6}
    model = RnnSpeechForConditionalGeneration(
        RnnSpeechConfig(vocab_size=12, feature_size=6, ctc_weight=0.3, location_width=3, **sizes)
    )
    extractor = LogMelFeatureExtractor(num_mel_filters=2, energy=False, normalization="none")
    processor = RnnSpeechProcessor(extractor, phone_tokenizer([f"p{number}" for number in range(8)]))
    kind, config = (SpeechRamlTrainer, RamlConfig) if name == "raml" else (SpeechMleTrainer, MleConfig)
    draws = {"payoff": "edit", "temperature": 1.2} if name == "raml" else {}
    arguments = settings(processes, max_steps=4, train_sampling_strategy="group_by_length", **draws)
    run = kind(
        model, config(str(folder / name), **arguments), processing_class=processor, guided_attention_weight=1.0,
        train_dataset=utterances(24),
    )  # fmt: skip
    assert run.args.world_size == processes
    run.train()
    lines = [row for row in run.state.log_history if "loss" in row]
    return {"parameters": flat(run.model).tolist(), "loss": [row["loss"] for row in lines]}


def measure(processes: int, folder: Path) -> dict:
    return {name: train(name, processes, folder) for name in ("mle", "raml")}


if __name__ == "__main__":
    report(measure)
