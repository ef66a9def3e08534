"""`pipeline("automatic-speech-recognition")` for the recognisers of this package: sound of any rate and format."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline

from hf_localgan.data.audio import read_audio
from hf_localgan.models import RnnSpeechForConditionalGeneration
from hf_localgan.pipelines.text2text import SAME_LIMIT


class SpeechRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """transformers' pipeline, which reads sound by soundfile and resamples it by soxr for recognisers of this package.

    The stock pipeline needs ffmpeg for files and torchaudio for other sampling rates. For other models, this is the
    stock pipeline.

    Accepts the inputs of the stock pipeline: the path of a file, its bytes, an array at the model's sampling rate, or
    `{"raw": array, "sampling_rate": rate}`; a list of these or a generator; `batch_size`; arguments of `generate`, of
    which `max_length` and `max_new_tokens` are one limit and the one that a call gives holds, as do `min_length` and
    `min_new_tokens`. Returns `{"text": phones}` for each.

    Raises:
        TypeError: for inputs of another type.
        OSError: for a file that is not there, or a URL that cannot be read.
        ValueError: for what holds no sound.
    """

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as the stock method
        if isinstance(inputs, (list, tuple)) and isinstance(self.model, RnnSpeechForConditionalGeneration):
            inputs = list(inputs)
            return super().__call__(cast(Any, inputs), **kwargs) if inputs else []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, *args: Any, **parameters: Any) -> tuple[dict[str, Any], ...]:
        preprocessing, generation, postprocessing = super()._sanitize_parameters(*args, **parameters)
        if isinstance(self.model, RnnSpeechForConditionalGeneration):
            given = [name for name in SAME_LIMIT if generation.get(name) is not None]
            generation = {**dict.fromkeys(SAME_LIMIT[name] for name in given), **generation}
        return preprocessing, generation, postprocessing

    def preprocess(  # type: ignore[override]  # as the stock method, which departs from its base class
        self, inputs: Any, *args: Any, **kwargs: Any
    ) -> Iterator[dict[str, Any]]:
        if isinstance(self.model, RnnSpeechForConditionalGeneration):
            inputs = self._read(inputs)
        yield from super().preprocess(inputs, *args, **kwargs)

    def _read(self, inputs: Any) -> Any:
        assert self.feature_extractor is not None
        rate = self.feature_extractor.sampling_rate
        if isinstance(inputs, str) and inputs.startswith(("http://", "https://")):
            import httpx

            try:
                inputs = httpx.get(inputs, follow_redirects=True).raise_for_status().content
            except httpx.HTTPError as error:
                raise OSError(f'The sound "{inputs}" cannot be read: {error}') from error
        if isinstance(inputs, Mapping):
            others = {key: value for key, value in inputs.items() if key not in SOUND}
            sound = {key: value.numpy() if hasattr(value, "numpy") else value for key, value in inputs.items()}
            return {"raw": read_audio(sound, rate)[0], "sampling_rate": rate, **others}
        if isinstance(inputs, (str, bytes)):
            return read_audio(inputs, rate)[0]
        if not isinstance(inputs, (np.ndarray, torch.Tensor)):
            raise TypeError(
                "Each input must be the path of a sound file, its bytes, an array of samples, or a mapping with `raw` "
                f"and `sampling_rate`, got {type(inputs).__name__}: {inputs!r:.60}."
            )
        return inputs


SOUND = ("raw", "array", "sampling_rate", "path", "bytes")
