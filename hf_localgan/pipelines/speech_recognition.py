"""`pipeline("automatic-speech-recognition")` for the recognisers of this package: sound of any rate and format."""

from collections.abc import Mapping
from typing import Any

from transformers import AutomaticSpeechRecognitionPipeline

from hf_localgan.data.audio import read_audio
from hf_localgan.models import RnnSpeechForConditionalGeneration


class SpeechRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """transformers' pipeline, which for a recogniser of this package reads sound by soundfile and resamples it by soxr.

    The stock pipeline needs ffmpeg for files and torchaudio for other sampling rates. For models that are not of this
    package this is the stock pipeline.

    Takes what the stock one takes: the path of a file, the bytes of one, an array at the model's sampling rate, or
    `{"raw": array, "sampling_rate": rate}`; a list of these or a generator; `batch_size`; arguments of `generate`.
    Returns `{"text": phones}` for each.
    """

    def preprocess(self, inputs: Any, *args, **kwargs):
        if isinstance(self.model, RnnSpeechForConditionalGeneration):
            inputs = self._read(inputs)
        yield from super().preprocess(inputs, *args, **kwargs)

    def _read(self, inputs: Any) -> Any:
        rate = self.feature_extractor.sampling_rate
        if isinstance(inputs, str) and inputs.startswith(("http://", "https://")):
            import httpx

            inputs = httpx.get(inputs, follow_redirects=True).raise_for_status().content
        if isinstance(inputs, Mapping):
            others = {key: value for key, value in inputs.items() if key not in SOUND}
            sound = {key: value.numpy() if hasattr(value, "numpy") else value for key, value in inputs.items()}
            return {"raw": read_audio(sound, rate)[0], "sampling_rate": rate, **others}
        if isinstance(inputs, (str, bytes)):
            return read_audio(inputs, rate)[0]
        return inputs


SOUND = ("raw", "array", "sampling_rate", "path", "bytes")
