"""Pipelines of encoder-decoders: text in, text out, as transformers 4 had them.

This file imports nothing but torch and transformers, so that a checkpoint can carry it as its own code.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    GenerationConfig,
    Pipeline,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import ModelOutput, logging

logger = logging.get_logger(__name__)

TEXT_COLUMNS = ("text", "query", "source")


class StopAtText(StoppingCriteria):
    """Ends a sequence once its text contains one of `stops`.

    `generate` has `stop_strings`, which does not work for vocabularies of whole words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Iterable[str]):
        self.tokenizer = tokenizer
        self.stops = tuple(stops)
        if not self.stops or not all(isinstance(stop, str) and stop for stop in self.stops):
            raise ValueError(f"`stop_sequence` must be a non-empty string or several, got {list(self.stops)}.")

    def __call__(self, input_ids: Tensor, scores, **kwargs) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)


class Text2TextGenerationPipeline(Pipeline):
    """`pipeline("text2text-generation")`: a response, a translation or any other text for a text.

    Answers have the form they had in transformers 4:

    * one text: a list of `{"generated_text": ...}`, one per returned sequence;
    * a list of texts: a flat list of such dictionaries, or a list of lists where a text has several;
    * a generator, a `KeyDataset` or another stream: an iterator over lists, one per text.

    An input is a string or a row, a dictionary with the string under `text`, `query` or `source`. The constructor and,
    with precedence, each call accept:

    * whatever `generate` accepts. Where neither the caller nor the model's generation configuration says otherwise, 4
      beams search for at most 256 new tokens; `num_beams=1` is greedy or, with `do_sample=True`, plain sampling;
    * `decoding`: a way of decoding, such as `hf_localgan.Decoding.sampling(0.7)` or one of your own: any object with a
      method `generate(model, batch, *, tokenizer, num_return_sequences, max_new_tokens, **more)` that returns token
      ids, shape `(batch * num_return_sequences, time)`. `more` is what else was given for `generate` at the same place,
      the constructor or the call. `decoding=None` in a call turns off the constructor's;
    * `return_tensors`, `return_text`: whether answers carry `generated_token_ids` (padded as generated), the text, or
      both. The text alone is the default, the ids alone what `return_tensors=True` gives;
    * `truncation`: cut inputs at the tokenizer's `model_max_length`;
    * `prefix`: put before every input; by default `config.task_specific_params[task]["prefix"]` or `config.prefix`. The
      other task-specific parameters are defaults of `generate`;
    * `stop_sequence`: a string or several; an answer ends with the first that it contains. (All of its tokens count;
      transformers 4 looked at the first one only.)
    * `clean_up_tokenization_spaces`: passed to `decode`, `False` by default;
    * `batch_size`, `num_workers`: as in every pipeline.

    Raises:
        ValueError: for a model that is no encoder-decoder, a row without text, an input without tokens, a `decoding`
            that cannot generate or comes with a `generation_config`.
        TypeError: for inputs that are neither strings nor rows.
    """

    # Generation parameters are merged below and not by `Pipeline`, whose way to do it differs from release to release.
    _pipeline_calls_generate = False
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    return_name = "generated"
    default_generation = {"max_new_tokens": 256, "num_beams": 4}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not getattr(self.model.config, "is_encoder_decoder", False):
            raise ValueError(
                f'"{self.task}" needs an encoder-decoder such as T5, BART or `rnn_seq2seq`, got a '
                f'{type(self.model).__name__}. For a causal language model use `pipeline("text-generation")`.'
            )
        if self.tokenizer is None:
            raise ValueError(f'"{self.task}" needs a `tokenizer`: give the one that the model was trained with.')
        task_parameters = dict((getattr(self.model.config, "task_specific_params", None) or {}).get(self.task, {}))
        prefix = task_parameters.pop("prefix", None) or getattr(self.model.config, "prefix", None)
        if prefix is not None:
            self._preprocess_params.setdefault("prefix", prefix)
        self._own_generation = self._forward_params
        if "generation_config" not in self._forward_params:
            self._forward_params = {**task_parameters, **self._forward_params}
        # Kept apart from the parameters of a call: a generation configuration given there takes their place.
        self._standing_generation, self._forward_params = self._forward_params, {}

    def _sanitize_parameters(
        self,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        prefix: str | None = None,
        stop_sequence: str | list[str] | None = None,
        **generation,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocessing = {"truncation": truncation, "prefix": prefix}
        postprocessing = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
        if return_tensors is not None or return_text is not None:
            postprocessing["return_tensors"] = bool(return_tensors)
            postprocessing["return_text"] = not return_tensors if return_text is None else return_text
            if not (postprocessing["return_tensors"] or postprocessing["return_text"]):
                raise ValueError("`return_text=False` leaves nothing to return; add `return_tensors=True`.")
        if stop_sequence is not None:
            stop = StopAtText(self.tokenizer, [stop_sequence] if isinstance(stop_sequence, str) else stop_sequence)
            generation["stopping_criteria"] = StoppingCriteriaList([*generation.get("stopping_criteria", ()), stop])
        return _given(preprocessing), generation, _given(postprocessing)

    def __call__(self, inputs, **kwargs) -> list[dict[str, Any]] | list[list[dict[str, Any]]] | Iterable:
        if isinstance(inputs, (str, Mapping)):
            return super().__call__(inputs, **kwargs)
        if isinstance(inputs, Sequence):  # tuples and columns of a data set, too
            results = super().__call__(list(inputs), **kwargs) if len(inputs) else []
            return [result[0] for result in results] if all(len(result) == 1 for result in results) else results
        if isinstance(inputs, Dataset):  # `KeyDataset` and every other data set of torch
            empty = hasattr(inputs, "__len__") and len(inputs) == 0
            return iter(()) if empty else super().__call__(inputs, **kwargs)
        if isinstance(inputs, Iterable):
            return super().__call__((item for item in inputs), **kwargs)
        raise TypeError(f"Inputs must be a string, a row or an iterable of them, got {type(inputs).__name__}.")

    def preprocess(self, inputs: str | Mapping[str, Any], prefix: str = "", **tokenization) -> dict[str, Any]:
        encoded = self.encode(prefix + _text(inputs), **tokenization)
        encoded.pop("token_type_ids", None)  # models with such a tokenizer do not take them in `generate`
        if encoded["input_ids"].shape[1] == 0:
            raise ValueError(
                f"The input {inputs!r} has no tokens, not even an end of sequence, so there is nothing to encode. "
                "Leave empty inputs out."
            )
        return encoded

    def encode(self, text: str, **tokenization) -> dict[str, Any]:
        """Token ids and mask of one text, each of shape `(1, time)`."""
        return dict(self.tokenizer(text, return_tensors="pt", **tokenization))

    def _forward(self, model_inputs: dict[str, Any], **generation) -> dict[str, Tensor]:
        batch, length = model_inputs["input_ids"].shape
        generation = self.merge_generation(generation)
        self.check_lengths(length, generation)
        decoding = generation.pop("decoding", None)
        if decoding is None:
            output = self.model.generate(**model_inputs, **generation)
        else:
            output = decoding.generate(self.model, model_inputs, **{"tokenizer": self.tokenizer, **generation})
        ids = output.sequences if isinstance(output, ModelOutput) else output
        return {"output_ids": ids.reshape(batch, -1, ids.shape[-1])}  # (batch, returned, time)

    def merge_generation(self, call: dict[str, Any]) -> dict[str, Any]:
        """What `generate` is called with, that of the model or of a `decoding`.

        In falling precedence: the call, the constructor and the task-specific parameters (not where the call brings a
        `generation_config`), the model's generation configuration, the defaults of the pipeline.
        """
        chosen = dict(call) if "generation_config" in call else {**self._standing_generation, **call}
        settings: GenerationConfig | None = chosen.pop("generation_config", None)
        decoding = chosen.pop("decoding", None)
        if decoding is not None:
            _check_decoding(decoding, settings)
        known = self.model.generation_config.to_diff_dict()
        if settings is not None:
            known |= settings.to_diff_dict()
        known |= chosen
        defaults = {**self.default_generation, "pad_token_id": self.tokenizer.pad_token_id}
        if positions := getattr(self.model.config, "max_position_embeddings", None):
            defaults["max_new_tokens"] = min(defaults["max_new_tokens"], positions - 1)  # one is the start token's
        if decoding is not None:
            return self._merge_decoding(decoding, call, known, defaults)
        if known.get("max_length") is not None:
            del defaults["max_new_tokens"]  # it would take precedence over a length that somebody chose
        defaults = {name: value for name, value in defaults.items() if known.get(name) is None and value is not None}
        if settings is None:
            return {**defaults, **chosen}
        settings = deepcopy(settings)  # `generate` wants its parameters here or there, not in both places
        return {**settings.update(**{**defaults, **chosen}), "generation_config": settings}

    def _merge_decoding(self, decoding, call: dict[str, Any], known: dict[str, Any], defaults: dict[str, Any]):
        """The decoding with what its `generate` is called with.

        Lengths and numbers hold wherever they come from. Another way of search holds only where it was asked for beside
        this decoding: neither the model's nor, for a decoding of the call, the constructor's.
        """
        own = self._own_generation
        if call.get("decoding") is not None:
            search = GenerationConfig().to_dict()
            own = {name: value for name, value in own.items() if name not in search}
        chosen = {name: value for name, value in {**own, **call}.items() if name not in ("max_length", "decoding")}
        longest = known.get("max_new_tokens")
        if longest is None and known.get("max_length") is not None:
            longest = known["max_length"] - 1  # the start token counts there
        always = {
            "decoding": decoding, "max_new_tokens": longest or defaults["max_new_tokens"],
            "num_return_sequences": known.get("num_return_sequences") or 1,
        }  # fmt: skip
        if known.get("pad_token_id") is None and defaults["pad_token_id"] is not None:
            always["pad_token_id"] = defaults["pad_token_id"]
        return chosen | always

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        """A place for warnings: `input_length` tokens go in, `generation` is what `generate` is called with."""

    def postprocess(
        self,
        model_outputs: dict[str, Tensor],
        return_tensors: bool = False,
        return_text: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        records = []
        for ids in model_outputs["output_ids"][0]:  # (time,)
            record: dict[str, Any] = {}
            if return_tensors:
                record[f"{self.return_name}_token_ids"] = ids
            if return_text:
                record[f"{self.return_name}_text"] = self.tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up_tokenization_spaces
                )
            records.append(record)
        return records

    def _longest(self, generation: dict[str, Any]) -> int | None:
        """The largest number of tokens that an answer can have."""
        known = self.model.generation_config.to_diff_dict()
        if "generation_config" in generation:
            known |= generation["generation_config"].to_diff_dict()
        known |= generation
        return known.get("max_new_tokens") or known.get("max_length")


class SummarizationPipeline(Text2TextGenerationPipeline):
    """`pipeline("summarization")`: as `Text2TextGenerationPipeline`, with answers under `summary_text`."""

    return_name = "summary"

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        longest = self._longest(generation)
        if longest is not None and input_length < longest:
            logger.warning(
                f"The text has {input_length} tokens and its summary may have {longest}. For a shorter one lower "
                f"`max_new_tokens`, to {max(input_length // 2, 1)} for example."
            )


class TranslationPipeline(Text2TextGenerationPipeline):
    """`pipeline("translation")` and `pipeline("translation_xx_to_yy")`: with answers under `translation_text`.

    `src_lang` and `tgt_lang`, given or read from the task's name, reach the tokenizer of a multilingual model.
    """

    return_name = "translation"

    def _sanitize_parameters(self, src_lang: str | None = None, tgt_lang: str | None = None, **parameters):
        preprocessing, generation, postprocessing = super()._sanitize_parameters(**parameters)
        parts = self.task.split("_")
        if len(parts) == 4 and not hasattr(self, "_preprocess_params"):  # in the constructor: a call may say otherwise
            src_lang, tgt_lang = src_lang or parts[1], tgt_lang or parts[3]
        return preprocessing | _given({"src_lang": src_lang, "tgt_lang": tgt_lang}), generation, postprocessing

    def encode(self, text: str, src_lang: str | None = None, tgt_lang: str | None = None, **tokenization):
        multilingual = getattr(self.tokenizer, "_build_translation_inputs", None)
        if multilingual is None:
            return super().encode(text, **tokenization)
        return dict(multilingual(text, return_tensors="pt", src_lang=src_lang, tgt_lang=tgt_lang, **tokenization))

    def _forward(self, model_inputs: dict[str, Any], **generation) -> dict[str, Tensor]:
        first = model_inputs.get("forced_bos_token_id")
        if isinstance(first, list):  # one per text of a batch, all the same
            model_inputs["forced_bos_token_id"] = first[0]
        return super()._forward(model_inputs, **generation)

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        longest = self._longest(generation)
        if longest is not None and input_length > 0.9 * longest:
            logger.warning(
                f"The text has {input_length} tokens and its translation may have {longest} at most, so that it may be "
                "cut. Raise `max_new_tokens`."
            )


def _check_decoding(decoding, settings: GenerationConfig | None):
    if not callable(getattr(decoding, "generate", None)):
        raise ValueError(
            f"`decoding` must have a method `generate`, as a `hf_localgan.Decoding` has, got {decoding!r}. "
            "`Decoding.parse` makes one of a name."
        )
    if settings is not None:
        raise ValueError(
            "Give either `decoding` or `generation_config`: both say how to search. Single arguments of `generate` may "
            "stand beside a `decoding`."
        )


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _text(inputs: str | Mapping[str, Any]) -> str:
    if isinstance(inputs, Mapping):
        column = next((name for name in TEXT_COLUMNS if name in inputs), None)
        if column is None:
            accepted, found = (", ".join(f"`{name}`" for name in names) for names in (TEXT_COLUMNS, inputs))
            raise ValueError(f"A row must have its text under one of {accepted}; found: {found}.")
        inputs = inputs[column]
    if not isinstance(inputs, str):
        raise TypeError(f"Each input must be a string or a row with one, got {type(inputs).__name__}: {inputs!r:.80}.")
    return inputs
