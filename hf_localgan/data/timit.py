"""TIMIT as Kaldi's recipe splits it, from the corpus as the LDC distributes it (LDC93S1), which is licensed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from hf_localgan.data.speech import Speech, load_speech
from hf_localgan.phones import fold_phones

VARIABLE = "HF_LOCALGAN_TIMIT"
# Kaldi's 50 speakers of the development set and the 24 of the core test set; all are from the corpus' test folder.
DEVELOPMENT = frozenset(
    """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0
    mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0
    fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
    """.split()
)
CORE_TEST = frozenset(
    """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0
    mnjm0 fdhc0 mjln0 mpam0 fmld0
    """.split()
)
UTTERANCES = {"train": 3696, "validation": 400, "test": 192}
SPEAKERS = {"train": 462, "validation": 50, "test": 24}
CORE_TEST_PHONES = 7215  # of the 39 classes


def load_timit(folder: str | os.PathLike | None = None, *, check_counts: bool = True, **options: Any) -> Speech:
    """TIMIT's training speakers, and Kaldi's development and core test sets, without the `sa` sentences.

    Every speaker reads the two `sa` sentences, so that a model would have heard the test's sentences in training.

    Args:
        folder: folder of the corpus, with `TRAIN` and `TEST` in it, in upper or lower case; by default the one that the
            environment variable HF_LOCALGAN_TIMIT names.
        check_counts: whether another number of utterances, speakers or phones than the corpus has is an error.
        options: further arguments of `load_speech`.

    Returns:
        Splits `train`, `validation` and `test`; phones are TIMIT's 61, `h#` at both ends and `q` included.

    Raises:
        ValueError: if no folder is named or it is none of this layout, for transcripts that are missing, and for other
            counts.
    """
    folder = os.environ.get(VARIABLE) if folder is None else folder
    if not folder:
        raise ValueError(
            f"Where TIMIT lies is not known. Name its folder, which holds TRAIN and TEST, in the environment variable "
            f"{VARIABLE}. The corpus is licensed by the Linguistic Data Consortium (LDC93S1)."
        )
    rows: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for row in _utterances(Path(folder).expanduser()):
        speaker = row["speaker"]
        test_split = "validation" if speaker in DEVELOPMENT else "test" if speaker in CORE_TEST else None
        split = "train" if row.pop("part") == "train" else test_split
        if split is not None:
            rows[split].append(row)
    empty = [split for split, utterances in rows.items() if not utterances]
    if empty:
        raise ValueError(f'"{folder}" holds no utterance of the split {", ".join(empty)}. Is it the whole corpus?')
    if check_counts:
        _check(rows, folder)
    splits = {split: Dataset.from_list(utterances) for split, utterances in rows.items()}
    return load_speech(DatasetDict(splits), **options)


def _utterances(folder: Path) -> Iterator[dict]:
    parts = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else {}
    if not {"train", "test"} <= set(parts):
        inner = parts.get("timit")
        if inner is not None:
            yield from _utterances(inner)
            return
        raise ValueError(f'"{folder}" has no folders TRAIN and TEST (found: {", ".join(sorted(parts)) or "nothing"}).')
    for part in ("train", "test"):
        sounds: dict[tuple[Path, str], Path] = {}
        for path in sorted(parts[part].rglob("*")):
            if path.suffix.lower() == ".wav" and not path.name.lower().startswith("sa"):
                sounds.setdefault((path.parent, path.name.lower().split(".")[0]), path)  # `SX1.WAV` and `SX1.WAV.wav`
        for (place, sentence), path in sounds.items():
            speaker = place.name.lower()
            phones = [line.split()[2] for line in _beside(path, sentence, "phn")]
            text = " ".join(" ".join(line.split()[2:]) for line in _beside(path, sentence, "txt"))
            name = f"{speaker}_{sentence}"
            yield {"id": name, "audio": str(path), "text": text, "phones": phones, "speaker": speaker, "part": part}


def _beside(path: Path, sentence: str, ending: str) -> list[str]:
    """Lines of the transcript that lies beside a sound."""
    for name in (f"{sentence}.{ending}", f"{sentence}.{ending}".upper(), f"{sentence.upper()}.{ending}"):
        if (path.parent / name).is_file():
            return (path.parent / name).read_text(encoding="ascii").splitlines()
    raise ValueError(f'"{path}" has no transcript {sentence.upper()}.{ending.upper()} beside it.')


def _check(rows: dict[str, list[dict]], folder: str | os.PathLike):
    counts = {split: len(utterances) for split, utterances in rows.items()}
    speakers = {split: len({row["speaker"] for row in utterances}) for split, utterances in rows.items()}
    phones = sum(len(fold_phones(row["phones"])) for row in rows["test"])
    for name, actual, expected in (("utterances", counts, UTTERANCES), ("speakers", speakers, SPEAKERS)):
        if actual != expected:
            raise ValueError(
                f'"{folder}" has {actual} {name}, TIMIT has {expected} without the `sa` sentences. Is a file missing? '
                "`check_counts=False` takes what is there."
            )
    if phones != CORE_TEST_PHONES:
        raise ValueError(
            f'The core test set in "{folder}" has {phones:,} phones of 39 classes, TIMIT has {CORE_TEST_PHONES:,}. '
            "Its transcripts were changed; `check_counts=False` takes them."
        )
