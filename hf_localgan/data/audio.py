"""Sound from files, bytes and arrays; soundfile reads it, of the `speech` extra."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SILENT = 10 ** (-80 / 20)  # peak of sound that counts as silence: 80 dB below full scale, two steps of 16 bits


def read_audio(source: Any, sampling_rate: int | None = None) -> tuple[np.ndarray, int]:
    """One channel of sound, and its sampling rate; several channels are averaged.

    Args:
        source: the path of a file, the bytes of one (WAV, FLAC, OGG, MP3 and what else libsndfile reads), or a mapping
            as data sets have it: `bytes` or `path`, or `array` (or `raw`) with `sampling_rate`.
        sampling_rate: what to resample to, in Hz; by default the sound is left as it is.

    Returns:
        Shape `(samples,)`, float32 from -1 to 1, and the rate.

    Raises:
        FileNotFoundError: for a path where no file is.
        ValueError: for what holds no sound, or cannot be read.
        ImportError: without soundfile, or where the rates differ without soxr.
    """
    samples, rate = _decode(source)
    samples = np.asarray(samples)
    if samples.dtype.kind in "iu":
        samples = samples / -float(np.iinfo(samples.dtype).min or -1)
    samples = samples.astype(np.float32)
    if samples.ndim == 2:  # soundfile puts channels last, data sets first; a sound has more samples than channels
        samples = samples.mean(axis=int(np.argmin(samples.shape)))
    if samples.ndim != 1:
        raise ValueError(f"Sound must have the shape (samples,) or (samples, channels), got {samples.shape}.")
    if sampling_rate is not None and sampling_rate != rate:
        samples, rate = resample(samples, rate, sampling_rate), sampling_rate
    return samples, rate


def resample(samples: np.ndarray, before: int, after: int) -> np.ndarray:
    """Sound at another rate, by soxr at its high quality.

    Args:
        samples: shape `(samples,)`.
        before, after: sampling rates in Hz.

    Raises:
        ImportError: without soxr.
    """
    if before == after:
        return samples
    try:
        import soxr
    except ImportError as error:
        raise ImportError(
            f'Resampling from {before} to {after} Hz needs soxr: `pip install "hf-localgan[speech]"`.'
        ) from error
    return soxr.resample(samples, before, after)


def require_soundfile():
    """The module soundfile.

    Raises:
        ImportError: that names the extra, where it is missing.
    """
    try:
        import soundfile
    except ImportError as error:
        raise ImportError('Sound is read by soundfile: `pip install "hf-localgan[speech]"`.') from error
    return soundfile


def _decode(source: Any) -> tuple[np.ndarray, int]:
    name = "the bytes"
    if isinstance(source, Mapping):
        array = source.get("array") if source.get("array") is not None else source.get("raw")
        if array is not None:
            if source.get("sampling_rate") is None:
                raise ValueError("An `array` of sound needs its `sampling_rate` beside it.")
            rate = source["sampling_rate"]
            if not isinstance(rate, (int, float, np.number)) or not 0 < rate < math.inf:
                raise ValueError(f"`sampling_rate` must be a number above 0, in Hz, got {rate!r}.")
            return array, int(rate)
        content, path = source.get("bytes"), source.get("path")
        if content is None and path is None:
            raise ValueError(
                f"The sound is empty: it needs `bytes`, `path`, or `array` with `sampling_rate` (found: "
                f"{', '.join(f'`{key}`' for key in source) or 'nothing'})."
            )
        name = path or name
        source = path if content is None else content
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'There is no sound file "{path}".')
        name, source = str(path), str(path)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    else:
        raise ValueError(f"Sound must be a path, bytes or a mapping, got {type(source).__name__}.")
    soundfile = require_soundfile()
    try:
        return soundfile.read(source, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name} cannot be read as sound: {error.error_string}") from error
