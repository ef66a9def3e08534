"""Made-up speech whose phones are chords, which a small recogniser learns in seconds: for tests and first steps."""

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Sequence as ListOf

from hf_localgan.data.speech import Speech, load_speech

TONES = tuple(f"t{number}" for number in range(12))
_FEATURES = Features(
    {
        "id": Value("string"),
        "audio": {"array": ListOf(Value("float32")), "sampling_rate": Value("int32")},
        "phones": ListOf(Value("string")),
        "speaker": Value("string"),
    }
)


def load_tones(
    train: int = 400,
    validation: int = 60,
    test: int = 60,
    *,
    phones: int = 12,
    shortest: int = 3,
    longest: int = 7,
    noise: float = 0.02,
    sampling_rate: int = 16_000,
    seed: int = 0,
) -> Speech:
    """Utterances of `shortest` to `longest` chords of 50 to 110 ms, each a low and a high tone, in noise.

    Four voices sing at four pitches. The same arguments make the same sound.

    Args:
        train, validation, test: utterances of each split.
        phones: different chords, at most 12.
        shortest, longest: chords of an utterance; no chord follows itself.
        noise: standard deviation of the noise beside chords of amplitude 0.2.
        sampling_rate: in Hz.
        seed: seed of all random numbers.
    """
    if not 2 <= phones <= len(TONES):
        raise ValueError(f"`phones` must be from 2 to {len(TONES)}, got {phones}.")
    if not 1 <= shortest <= longest:
        raise ValueError(f"`shortest` must be from 1 to `longest`, got {shortest} and {longest}.")
    rng = np.random.default_rng(seed)
    settings = (phones, shortest, longest, noise, sampling_rate)
    splits = {}
    for split, number in (("train", train), ("validation", validation), ("test", test)):
        rows = [{"id": f"{split}-{index}", **_utterance(rng, *settings)} for index in range(number)]
        splits[split] = Dataset.from_list(rows, features=_FEATURES)
    return load_speech(DatasetDict(splits), sampling_rate=sampling_rate)


def _utterance(rng: np.random.Generator, phones: int, shortest: int, longest: int, noise: float, rate: int) -> dict:
    chosen: list[int] = []
    for _ in range(rng.integers(shortest, longest + 1)):
        chosen.append(int(rng.choice([phone for phone in range(phones) if phone not in chosen[-1:]])))
    voice = int(rng.integers(4))
    parts = [_chord(phone, 0.9 + 0.07 * voice, rng.uniform(0.05, 0.11), rate) for phone in chosen]
    sound = np.concatenate(parts)
    sound = sound + noise * rng.standard_normal(len(sound))
    audio = {"array": sound.astype(np.float32), "sampling_rate": rate}
    return {"audio": audio, "phones": [TONES[phone] for phone in chosen], "speaker": f"voice{voice}"}


def _chord(phone: int, pitch: float, seconds: float, rate: int) -> np.ndarray:
    """Twelve chords: one of three low tones with one of four high ones."""
    time = np.arange(round(seconds * rate)) / rate
    low, high = (300, 480, 760)[phone % 3], (1200, 1700, 2400, 3300)[phone // 3]
    return 0.1 * (np.sin(2 * np.pi * low * pitch * time) + np.sin(2 * np.pi * high * pitch * time))
