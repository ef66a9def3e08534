"""Log-mel features of speech with differences in time, as Kaldi computes them, and their processor.

The spectrogram is transformers' own, which needs numpy alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    BatchEncoding,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    SequenceFeatureExtractor,
)
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

NORMALIZATIONS = ("none", "global", "speaker", "utterance")
FLOOR = torch.finfo(torch.float32).eps  # of power and energy, before the logarithm
SCALE = 2.0**15  # Kaldi reads samples as 16-bit integers
SMALLEST_DEVIATION = 1e-5  # numbers that vary less are constants, and are only centred


class LogMelFeatureExtractor(SequenceFeatureExtractor):
    """From waveforms to log-mel features, their log energy, and first and second differences, normalised.

    40 mel filters, the energy and two differences make the 123 numbers per frame of the RAML paper.

    Args:
        feature_size: numbers per frame; by default, and only, the size that follows from the other arguments.
        sampling_rate: in Hz.
        padding_value: value of padded frames.
        num_mel_filters: number of filters from 20 Hz to half of the sampling rate, triangles on Kaldi's mel scale.
        frame_length_ms, frame_shift_ms: length and shift of the windows (Povey's), in milliseconds.
        preemphasis: coefficient of the high-pass filter.
        energy: whether the first number of a frame is the logarithm of its energy.
        differences: number of times that the features are differentiated in time (`time_differences`).
        normalization: "global" and "speaker" centre and scale each number by means and deviations of the training data
            (`fit`), "speaker" by those of the utterance's speaker if it is known and otherwise by the global ones;
            "utterance" by the utterance's own; "none" does neither.
        mean, std: means and deviations of the training data, lists of `feature_size` numbers.
        speaker_statistics: mean and std by speaker.

    Raises:
        ValueError: for names that are not listed, and sizes that do not fit together.
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int | None = None,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        num_mel_filters: int = 40,
        frame_length_ms: float = 25.0,
        frame_shift_ms: float = 10.0,
        preemphasis: float = 0.97,
        energy: bool = True,
        differences: int = 2,
        normalization: str = "global",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        speaker_statistics: dict[str, Sequence[Sequence[float]]] | None = None,
        **kwargs,
    ):
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"`normalization` must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}.")
        size = (num_mel_filters + energy) * (differences + 1)
        if feature_size not in (None, size):
            raise ValueError(
                f"`feature_size` must be {size} for {num_mel_filters} filters{' and the energy' if energy else ''} "
                f"with {differences} differences, got {feature_size}. Leave it out."
            )
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != size:
                raise ValueError(f"`{name}` must have a number for each of the {size} features, got {len(values)}.")
        super().__init__(feature_size=size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.num_mel_filters, self.energy, self.differences = num_mel_filters, energy, differences
        self.frame_length_ms, self.frame_shift_ms, self.preemphasis = frame_length_ms, frame_shift_ms, preemphasis
        self.normalization, self.mean, self.std = normalization, mean, std
        self.speaker_statistics = speaker_statistics or {}
        self.frame_length = round(sampling_rate * frame_length_ms / 1000)
        self.frame_shift = round(sampling_rate * frame_shift_ms / 1000)
        fft_length = 2 ** (self.frame_length - 1).bit_length()
        # transformers does not save these two attributes
        self.window = window_function(self.frame_length, "povey", periodic=False)
        self.mel_filters = mel_filter_bank(
            num_frequency_bins=fft_length // 2 + 1, num_mel_filters=num_mel_filters, min_frequency=20.0,
            max_frequency=sampling_rate / 2, sampling_rate=sampling_rate, mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )  # fmt: skip

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        speakers: Sequence[str | None] | str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """The features of one waveform or several, padded to a batch.

        Args:
            raw_speech: one waveform of one channel, floats from -1 to 1 or 16-bit integers, shape `(samples,)`; or a
                list of such.
            sampling_rate: sampling rate of the waveforms, in Hz; must be the extractor's.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors: as in `pad`;
                lengths are in frames.
            speakers: speaker of each waveform, for `normalization="speaker"`.

        Returns:
            `input_features` of shape `(batch, frames, feature_size)` and `attention_mask` of shape `(batch, frames)`.

        Raises:
            ValueError: for another sampling rate, several channels, other numbers, and sound shorter than a frame.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The features are of sound at {self.sampling_rate} Hz, got {sampling_rate} Hz. Resample it first: "
                f"`hf_localgan.data.audio.resample(waveform, {sampling_rate}, {self.sampling_rate})`."
            )
        is_list = isinstance(raw_speech, (list, tuple)) and len(raw_speech) and not isinstance(raw_speech[0], float)
        waveforms = list(raw_speech) if is_list else [raw_speech]
        speakers = [speakers] * len(waveforms) if speakers is None or isinstance(speakers, str) else list(speakers)
        if len(speakers) != len(waveforms):
            raise ValueError(
                f"`speakers` must have a name for each of the {len(waveforms)} waveforms, got {len(speakers)}."
            )
        features = [
            self.normalize(self.extract(waveform), speaker).numpy()
            for waveform, speaker in zip(waveforms, speakers, strict=True)
        ]
        return self.pad(
            BatchFeature({"input_features": features}),
            padding=padding, max_length=max_length, truncation=truncation, pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask, return_tensors=return_tensors,
        )  # fmt: skip

    def extract(self, waveform: Any) -> Tensor:
        """Features that are not normalised, shape `(frames, feature_size)`, float32.

        Args:
            waveform: shape `(samples,)`.
        """
        samples = self._samples(waveform)
        mel = spectrogram(
            samples.numpy(), self.window, frame_length=self.frame_length, hop_length=self.frame_shift,
            fft_length=2 * (len(self.mel_filters) - 1), power=2.0, center=False, preemphasis=self.preemphasis,
            mel_filters=self.mel_filters, log_mel="log", mel_floor=FLOOR, remove_dc_offset=True,
        )  # fmt: skip
        features = torch.from_numpy(mel).T
        if self.energy:
            frames = samples.unfold(0, self.frame_length, self.frame_shift)
            frames = frames - frames.mean(dim=1, keepdim=True)
            energy = frames.square().sum(dim=1).clamp(min=FLOOR).log()
            features = torch.cat([energy[:, None], features], dim=1)
        parts = [features.float()]
        for _ in range(self.differences):
            parts.append(time_differences(parts[-1]))
        return torch.cat(parts, dim=1).contiguous()

    def _samples(self, waveform: Any) -> Tensor:
        """The samples in Kaldi's range, float64."""
        samples = torch.as_tensor(waveform)
        if samples.dim() != 1:
            raise ValueError(
                f"A waveform must have one channel, shape (samples,), got {tuple(samples.shape)}. Take the mean of its "
                "channels first."
            )
        if samples.is_floating_point():
            samples = samples.double() * SCALE
        elif samples.dtype == torch.int16:
            samples = samples.double()
        else:
            raise ValueError(f"A waveform must hold floats from -1 to 1 or 16-bit integers, got {samples.dtype}.")
        if len(samples) < self.frame_length:
            raise ValueError(
                f"The sound has {len(samples)} samples, {1000 * len(samples) / self.sampling_rate:.0f} ms, which is "
                f"less than one frame of {self.frame_length_ms:g} ms. Leave such utterances out."
            )
        if not bool(samples.isfinite().all()):
            raise ValueError("The waveform must be finite, got NaN or infinity. Check how it was read or made.")
        return samples

    def fit(self, features: Iterable[Any], speakers: Iterable[str] | None = None) -> "LogMelFeatureExtractor":
        """Takes the means and deviations of the training data, which `normalize` uses from then on.

        Args:
            features: features of each utterance, as `extract` returns them, shape `(frames, feature_size)`.
            speakers: speaker of each utterance, for statistics by speaker.

        Returns:
            The extractor itself.

        Raises:
            ValueError: without utterances.
        """
        sums: dict[str | None, Tensor] = {}
        names = iter(speakers) if speakers is not None else None
        for rows in features:
            rows = torch.as_tensor(rows).double()
            count = torch.full_like(rows[0], len(rows))
            moments = torch.stack([count, rows.sum(dim=0), rows.square().sum(dim=0)])
            for key in {None} if names is None else {None, next(names)}:
                sums[key] = sums.get(key, 0) + moments
        if not sums:
            raise ValueError("There are no utterances to compute means and deviations from. Give at least one.")
        self.mean, self.std = _mean_and_std(sums.pop(None))
        self.speaker_statistics = {
            name: list(_mean_and_std(sums[name])) for name in sorted(name for name in sums if name is not None)
        }
        return self

    def normalize(self, features: Any, speaker: str | None = None) -> Tensor:
        """The same features with mean 0 and deviation 1, according to `normalization`.

        Args:
            features: as `extract` returns them, shape `(frames, feature_size)`.
            speaker: speaker of the utterance.

        Returns:
            Shape `(frames, feature_size)`, float32.

        Raises:
            ValueError: if there are no means and deviations yet.
        """
        features = torch.as_tensor(features).float()
        if self.normalization == "none":
            return features
        if self.normalization == "utterance":
            mean, std = features.mean(dim=0), features.std(dim=0, unbiased=False)
            return (features - mean) / torch.where(std < SMALLEST_DEVIATION, 1.0, std)
        if self.mean is None or self.std is None:
            raise ValueError(
                f'`normalization="{self.normalization}"` needs the means and deviations of the training data. Call '
                '`fit` with its features, or choose "utterance" or "none".'
            )
        mean, std = self.mean, self.std
        if self.normalization == "speaker":
            mean, std = self.speaker_statistics.get(speaker or "", (mean, std))
        return (features - torch.tensor(mean)) / torch.tensor(std)


def time_differences(features: Tensor, reach: int = 2) -> Tensor:
    """Slopes of the regression line through `reach` frames on either side; the first and the last frame are repeated.

    `d_t = sum_n n (x_(t+n) - x_(t-n)) / (2 sum_n n^2)` (Young et al., The HTK Book, Eq. 5.16).

    Args:
        features: shape `(frames, size)`.
        reach: frames on either side.

    Returns:
        The same shape.
    """
    steps = torch.arange(-reach, reach + 1, dtype=features.dtype)
    padded = F.pad(features.T[:, None], (reach, reach), mode="replicate")  # (size, 1, frames + 2 reach)
    return F.conv1d(padded, (steps / steps.square().sum())[None, None])[:, 0].T


def _mean_and_std(moments: Tensor) -> tuple[list[float], list[float]]:
    count, total, squares = moments
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std < SMALLEST_DEVIATION, 1.0, std)
    return mean.float().tolist(), std.float().tolist()


class RnnSpeechProcessor(ProcessorMixin):
    """The feature extractor of sound and the tokenizer of its transcripts, saved and loaded together.

    Args:
        feature_extractor (`LogMelFeatureExtractor`): for `audio`.
        tokenizer: for `text`.
    """

    def __init__(self, feature_extractor: SequenceFeatureExtractor, tokenizer: PreTrainedTokenizerBase):
        super().__init__(feature_extractor, tokenizer)

    def __call__(  # type: ignore[override]  # sound before text, and no images or videos
        self,
        audio: Any = None,
        text: str | list[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature | BatchEncoding:
        """Features of `audio`, ids of `text`, or features with the ids as `labels`.

        Args:
            audio: see the feature extractor.
            text: a transcript or several; phones are separated by spaces.
            sampling_rate: sampling rate of the sound, in Hz.
            return_tensors: "pt" or "np".
            kwargs: further arguments of the feature extractor if there is `audio`, otherwise of the tokenizer.

        Raises:
            ValueError: if there is neither.
        """
        if audio is None and text is None:
            raise ValueError("Give `audio`, `text` or both.")
        if audio is None:
            return self.tokenizer(text, return_tensors=return_tensors, **kwargs)
        inputs = self.feature_extractor(audio, sampling_rate=sampling_rate, return_tensors=return_tensors, **kwargs)
        if text is not None:
            padding = {"padding": True} if return_tensors else {}
            inputs["labels"] = self.tokenizer(text, return_tensors=return_tensors, **padding).input_ids
        return inputs

    def save_pretrained(self, save_directory, **kwargs):
        """Writes processor and tokenizer, and the feature extractor into `preprocessor_config.json`, too."""
        written = super().save_pretrained(save_directory, **kwargs)
        return [*written, *self.feature_extractor.save_pretrained(save_directory)]


__all__ = ["LogMelFeatureExtractor", "RnnSpeechProcessor", "time_differences"]
