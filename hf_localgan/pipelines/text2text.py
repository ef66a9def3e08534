"""Pipelines of encoder-decoders: text in, text out, as transformers 4 had them.

This file imports nothing but torch, transformers and `turns`, so that a checkpoint can carry both as its own code.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

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

from hf_localgan.turns import (
    History,
    instruction_text,
    is_conversation,
    is_message,
    kept_history,
    query_of,
    token_counts,
)

logger = logging.get_logger(__name__)

TEXT_COLUMNS = ("text", "query", "source", "prompt", "question", "instruction", "input")
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
# Two names for one limit, with and without the start token. `generate` prefers the names on the right, wherever they
# come from.
SAME_LIMIT = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
SAME_LIMIT |= {new_tokens: length for length, new_tokens in SAME_LIMIT.items()}
# Arguments of `generate` whose `None` in a call means that they are not given.
RETRACTABLE = (*SAME_LIMIT, "num_beams", "pad_token_id")


class StopAtText(StoppingCriteria):
    """Ends a sequence once its text contains one of `stops`.

    The `stop_strings` of `generate` do not work for vocabularies of whole words.

    Args:
        tokenizer: decodes the sequences.
        stops: non-empty strings, at least one.

    Raises:
        ValueError: for other `stops`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Iterable[str]):
        self.tokenizer = tokenizer
        self.stops = tuple(stops)
        if not self.stops or not all(isinstance(stop, str) and stop for stop in self.stops):
            raise ValueError(f"`stop_sequence` must be a non-empty string or several, got {list(self.stops)}.")

    def __call__(  # type: ignore[override]  # its class is a `BoolTensor`, which no function of torch returns
        self, input_ids: Tensor, scores: Tensor, **kwargs: Any
    ) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)


class Text2TextGenerationPipeline(Pipeline):
    """`pipeline("text2text-generation")`: a response, a translation or any other text for a text.

    Answers have the form they had in transformers 4:

    * one text: a list of `{"generated_text": ...}`, one per returned sequence;
    * a list of texts: a flat list of such dictionaries, or a list of lists where a text has several;
    * a generator, a `KeyDataset` or another stream: an iterator over lists, one per text.

    An input is a string, a conversation or a row. A conversation is a list of messages such as `{"role": "user",
    "content": "Hello."}` that ends with one of the user; the model gets as many of its last turns as it was trained on
    (`history_turns`, which the tokenizer's configuration keeps), without the oldest ones where they do not fit. The
    answer is the same as to a string. A row is a dictionary with the string under `text`, `query`, `source`, `prompt`,
    `question`, `instruction` or `input`, or a conversation under `messages` or `prompt`. The constructor and, with
    precedence, each call accept:

    * all arguments of `generate`. By default, unless the model's generation configuration differs, 4 beams search for
      at most 256 new tokens; `num_beams=1` is greedy or, with `do_sample=True`, plain sampling. `max_length` and
      `max_new_tokens` are two names for one limit, as are `min_length` and `min_new_tokens`: one that is given beats
      the other from a place of lower precedence. A limit or `num_beams` of `None` in a call takes back the
      constructor's;
    * `decoding`: a decoding, such as `hf_localgan.Decoding.sampling(0.7)`, or any object with a method
      `generate(model, batch, *, tokenizer, num_return_sequences, max_new_tokens, **options)` that returns token ids,
      shape `(batch * num_return_sequences, time)`. `options` are the other arguments of `generate` that were given at
      the same place, the constructor or the call. `decoding=None` in a call turns off the constructor's;
    * `return_tensors`, `return_text`: whether answers hold `generated_token_ids` (padded as generated), the text, or
      both. The default is the text alone; `return_tensors=True` is the ids alone;
    * `truncation`: cut inputs at the tokenizer's `model_max_length`;
    * `prefix`: text before every input; by default `config.task_specific_params[task]["prefix"]` or `config.prefix`.
      The other task-specific parameters are defaults of `generate`;
    * `stop_sequence` or, the same, `stop_strings`: a string or several; an answer ends with the first of them that it
      contains. (All of its tokens count; in transformers 4 the first token alone.)
    * `clean_up_tokenization_spaces`: passed to `decode`, `False` by default;
    * `batch_size`, `num_workers`: as in every pipeline.

    Surrogates, which are no characters, are joined to characters where they stand in pairs; U+FFFD replaces others, and
    a warning tells of the first.

    Raises:
        ValueError: for a model that is no encoder-decoder, a row without text, an input without tokens, a `decoding`
            that cannot generate or comes with a `generation_config`, and a conversation that cannot be read.
        TypeError: for inputs that are neither strings, conversations nor rows, such as bytes. The inputs of a list are
            looked at before the first is answered.
    """

    tokenizer: PreTrainedTokenizerBase  # type: ignore[assignment]  # narrower in the stub than at run time

    # Generation parameters are merged below and not by `Pipeline`, which does it differently from release to release.
    _pipeline_calls_generate = False
    _load_processor = False  # type: ignore[assignment]  # `None` in the stub, as the next four
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = True  # type: ignore[assignment]

    return_name = "generated"
    default_generation = {"max_new_tokens": 256, "num_beams": 4}

    def __init__(self, *args: Any, **kwargs: Any):
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
        self._constructor_generation = self._forward_params
        if "generation_config" not in self._forward_params:
            self._forward_params = _over(task_parameters, self._forward_params)
        # Kept apart from the parameters of a call, where a generation configuration replaces them.
        self._standing_generation, self._forward_params = self._forward_params, {}
        self._told_of_surrogates = False

    def _sanitize_parameters(
        self,
        *,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        prefix: str | None = None,
        stop_sequence: str | list[str] | None = None,
        stop_strings: str | list[str] | None = None,
        **generation: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"`prefix` must be a string, got {type(prefix).__name__}: {prefix!r:.80}.")
        for name in ("num_beams", "num_return_sequences", "max_new_tokens", "max_length"):
            number = generation.get(name)
            if isinstance(number, int) and number < 1:
                raise ValueError(f"`{name}` must be at least 1, got {number}.")
        if stop_sequence is not None and stop_strings is not None:
            raise ValueError("Give either `stop_sequence` or `stop_strings`, which mean the same here.")
        stop_sequence = stop_strings if stop_sequence is None else stop_sequence
        preprocessing = {"truncation": truncation, "prefix": prefix}
        postprocessing: dict[str, Any] = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
        if return_tensors is not None or return_text is not None:
            postprocessing["return_tensors"] = bool(return_tensors)
            postprocessing["return_text"] = not return_tensors if return_text is None else return_text
            if not (postprocessing["return_tensors"] or postprocessing["return_text"]):
                raise ValueError("`return_text=False` leaves nothing to return. Add `return_tensors=True`.")
        if stop_sequence is not None:
            stop = StopAtText(self.tokenizer, [stop_sequence] if isinstance(stop_sequence, str) else stop_sequence)
            generation["stopping_criteria"] = StoppingCriteriaList([*generation.get("stopping_criteria", ()), stop])
        return _without_none(preprocessing), generation, _without_none(postprocessing)

    def __call__(  # type: ignore[override]  # no further positional arguments, which `Pipeline` ignores
        self, inputs: Any, **kwargs: Any
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]] | Iterable[Any]:
        if isinstance(inputs, (str, Mapping)):
            return super().__call__(inputs, **kwargs)
        if isinstance(inputs, Sequence) and not isinstance(inputs, (bytes, bytearray)):
            # tuples and columns of a data set, too
            if is_conversation(inputs):
                return super().__call__({CONVERSATION_COLUMNS[0]: inputs}, **kwargs)
            for number, item in enumerate(inputs):
                try:
                    self.read(item)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"Input {number} of {len(inputs)}: {error}") from None
            results = super().__call__([_row(item) for item in inputs], **kwargs) if len(inputs) else []
            return [result[0] for result in results] if all(len(result) == 1 for result in results) else results
        if isinstance(inputs, Dataset):  # `KeyDataset` and every other data set of torch
            empty = hasattr(inputs, "__len__") and len(inputs) == 0
            return iter(()) if empty else super().__call__(inputs, **kwargs)
        if isinstance(inputs, Iterable) and not isinstance(inputs, (bytes, bytearray, memoryview)):
            return super().__call__((_row(item) for item in inputs), **kwargs)
        raise TypeError(
            f"`inputs` must be a string, a row or an iterable of these, got {type(inputs).__name__}: {inputs!r:.80}."
        )

    def preprocess(  # type: ignore[override]  # the stub has dictionaries as values of keywords
        self, inputs: str | Mapping[str, Any], prefix: str = "", **tokenization: Any
    ) -> dict[str, Any]:
        encoded = self.encode(self._repair(self.read(inputs, prefix)), **tokenization)
        encoded.pop("token_type_ids", None)  # `generate` of models with such a tokenizer refuses them
        if encoded["input_ids"].shape[1] == 0:
            raise ValueError(
                f"The input {inputs!r} has no tokens, not even an end of sequence. Leave empty inputs out."
            )
        return encoded

    def read(self, inputs: Any, prefix: str = "") -> str:
        """The text that an input stands for, with a prefix.

        Raises:
            TypeError, ValueError: for inputs that are not accepted.
        """
        inputs = getattr(inputs, "messages", inputs)  # `Pipeline` wraps conversations
        row = inputs if isinstance(inputs, Mapping) else {}
        column = next((name for name in (*TEXT_COLUMNS, *CONVERSATION_COLUMNS) if name in row), None)
        content = inputs if column is None else row[column]
        if column not in CONVERSATION_COLUMNS and not is_conversation(content):
            return prefix + _text(inputs)
        history = kept_history(self.tokenizer.init_kwargs) or History()
        limits = (self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None))
        limit = min(limit for limit in limits if limit)
        counts = token_counts(self.tokenizer)
        added = len(self.tokenizer(prefix, add_special_tokens=False).input_ids) if prefix else 0
        return prefix + history.fit([self._repair(query_of(content, history))], limit - added, counts)[0]

    def _repair(self, text: str) -> str:
        """A text without surrogates, which tokenizers refuse."""
        repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if repaired != text and not self._told_of_surrogates:
            self._told_of_surrogates = True
            logger.warning(
                f"The input {text!r:.80} holds surrogates, no characters: halves of emoji, or bytes that are no "
                "UTF-8. Pairs of them are joined, and U+FFFD stands in the place of others. Later ones are not told."
            )
        return repaired

    def encode(self, text: str, **tokenization: Any) -> dict[str, Any]:
        """Token ids and mask of one text, each of shape `(1, time)`."""
        return dict(self.tokenizer(text, return_tensors="pt", **tokenization))

    def _forward(  # type: ignore[override]  # the stub wants a `ModelOutput`; a dictionary will do
        self, model_inputs: dict[str, Any], **generation: Any
    ) -> dict[str, Tensor]:
        batch, length = model_inputs["input_ids"].shape
        generation = self.merge_generation(generation)
        self.check_lengths(length, generation)
        decoding = generation.pop("decoding", None)
        if decoding is None:
            output = cast(Any, self.model).generate(**model_inputs, **generation)
        else:
            output = decoding.generate(self.model, model_inputs, **{"tokenizer": self.tokenizer, **generation})
        ids = output["sequences"] if isinstance(output, ModelOutput) else output
        return {"output_ids": ids.reshape(batch, -1, ids.shape[-1])}  # (batch, returned, time)

    def merge_generation(self, call: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `generate`, the model's or that of a `decoding`.

        In falling precedence: the call, the constructor and the task-specific parameters (unless the call has a
        `generation_config`), the model's generation configuration, the defaults of the pipeline.

        Raises:
            ValueError: for a `decoding` that cannot generate or comes with a `generation_config`.
        """
        chosen = dict(call) if "generation_config" in call else _over(self._standing_generation, call)
        settings: GenerationConfig | None = chosen.pop("generation_config", None)
        decoding = chosen.pop("decoding", None)
        if decoding is not None:
            _check_decoding(decoding, settings)
        explicit = stored = self._model_generation()
        if settings is not None:
            explicit = _over(explicit, settings.to_diff_dict())
        chosen = {name: value for name, value in chosen.items() if value is not None or name not in RETRACTABLE}
        explicit = _over(explicit, chosen)
        defaults: dict[str, Any] = {**self.default_generation, "pad_token_id": self.tokenizer.pad_token_id}
        if positions := getattr(self.model.config, "max_position_embeddings", None):
            defaults["max_new_tokens"] = min(
                defaults["max_new_tokens"], positions - 1
            )  # one position is the start token's
        if decoding is not None:
            return self._merge_decoding(decoding, call, explicit, defaults)
        if explicit.get("max_length") is not None:
            del defaults["max_new_tokens"]  # it would take precedence over a chosen length
        defaults = {name: value for name, value in defaults.items() if explicit.get(name) is None and value is not None}
        # `generate` would read these from the model's generation configuration, and prefer them.
        beaten = [name for name in SAME_LIMIT if stored.get(name) is not None and explicit.get(name) is None]
        if settings is None:
            return {**defaults, **chosen, **dict.fromkeys(beaten)}
        settings = deepcopy(settings)  # `generate` accepts a parameter in one place only
        limits: dict[str, int | None] = {name: None for name in SAME_LIMIT if explicit.get(name) is None}
        for name in beaten:  # it fills what is `None` from the model's, so the limit goes under the preferred name
            if name.endswith("_new_tokens"):
                limits |= {name: explicit[SAME_LIMIT[name]] - 1, SAME_LIMIT[name]: None}
        return {**settings.update(**{**chosen, **limits, **defaults}), "generation_config": settings}

    def _merge_decoding(
        self, decoding: Any, call: dict[str, Any], explicit: dict[str, Any], defaults: dict[str, Any]
    ) -> dict[str, Any]:
        """The decoding, with the arguments of its `generate`.

        Lengths and numbers hold wherever they come from. Arguments of the search hold only if they were given beside
        this decoding: neither the model's nor, for a decoding of the call, the constructor's.
        """
        options = self._constructor_generation
        if call.get("decoding") is not None:
            search = GenerationConfig().to_dict()
            options = {name: value for name, value in options.items() if name not in search}
        options = {
            name: value for name, value in _over(options, call).items() if name not in ("max_length", "decoding")
        }
        max_new_tokens = explicit.get("max_new_tokens")
        if max_new_tokens is None and explicit.get("max_length") is not None:
            max_new_tokens = explicit["max_length"] - 1  # the start token counts there
        required = {
            "decoding": decoding, "max_new_tokens": max_new_tokens or defaults["max_new_tokens"],
            "num_return_sequences": explicit.get("num_return_sequences") or 1,
        }  # fmt: skip
        if explicit.get("pad_token_id") is None and defaults["pad_token_id"] is not None:
            required["pad_token_id"] = defaults["pad_token_id"]
        return options | required

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        """Warns of lengths that do not fit the task; here of none.

        Args:
            input_length: tokens of the input.
            generation: arguments of `generate`.
        """

    def postprocess(  # type: ignore[override]  # as `_forward`
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

    def _max_length(self, generation: dict[str, Any]) -> int | None:
        """Largest number of tokens of an answer."""
        settings = self._model_generation()
        if "generation_config" in generation:
            settings |= generation["generation_config"].to_diff_dict()
        settings |= generation
        return settings.get("max_new_tokens") or settings.get("max_length")

    def _model_generation(self) -> dict[str, Any]:
        return cast(GenerationConfig, self.model.generation_config).to_diff_dict()


class SummarizationPipeline(Text2TextGenerationPipeline):
    """`pipeline("summarization")`: as `Text2TextGenerationPipeline`, with answers under `summary_text`."""

    return_name = "summary"

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        max_length = self._max_length(generation)
        if max_length is not None and input_length < max_length:
            logger.warning(
                f"The text has {input_length} tokens and its summary may have {max_length}. For a shorter summary "
                f"lower `max_new_tokens`, to {max(input_length // 2, 1)} for example."
            )


class TranslationPipeline(Text2TextGenerationPipeline):
    """`pipeline("translation")` and `pipeline("translation_xx_to_yy")`: with answers under `translation_text`.

    `src_lang` and `tgt_lang`, given or read from the task's name, reach the tokenizer of a multilingual model.
    """

    return_name = "translation"

    def _sanitize_parameters(
        self, *, src_lang: str | None = None, tgt_lang: str | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocessing, generation, postprocessing = super()._sanitize_parameters(**parameters)
        parts = self.task.split("_")
        if len(parts) == 4 and not hasattr(self, "_preprocess_params"):  # in the constructor; a call has precedence
            src_lang, tgt_lang = src_lang or parts[1], tgt_lang or parts[3]
        return preprocessing | _without_none({"src_lang": src_lang, "tgt_lang": tgt_lang}), generation, postprocessing

    def encode(
        self, text: str, src_lang: str | None = None, tgt_lang: str | None = None, **tokenization: Any
    ) -> dict[str, Any]:
        multilingual = getattr(self.tokenizer, "_build_translation_inputs", None)
        if multilingual is None:
            return super().encode(text, **tokenization)
        return dict(multilingual(text, return_tensors="pt", src_lang=src_lang, tgt_lang=tgt_lang, **tokenization))

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], **generation: Any
    ) -> dict[str, Tensor]:
        language = model_inputs.get("forced_bos_token_id")
        if isinstance(language, list):  # an entry for each text of a batch, all equal
            model_inputs["forced_bos_token_id"] = language[0]
        return super()._forward(model_inputs, **generation)

    def check_lengths(self, input_length: int, generation: dict[str, Any]):
        max_length = self._max_length(generation)
        if max_length is not None and input_length > 0.9 * max_length:
            logger.warning(
                f"The text has {input_length} tokens and its translation may have {max_length} at most, so it may be "
                "cut. Raise `max_new_tokens`."
            )


def _check_decoding(decoding: Any, settings: GenerationConfig | None):
    if not callable(getattr(decoding, "generate", None)):
        raise ValueError(
            f"`decoding` must have a method `generate`, as a `hf_localgan.Decoding` has, got {decoding!r}. "
            "`Decoding.parse` makes a decoding from a name."
        )
    if settings is not None:
        raise ValueError(
            "Give either `decoding` or `generation_config`, for both set the search. Single arguments of `generate` "
            "may stand beside a `decoding`."
        )


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `lower` and `upper`; where `upper` has a limit, that of `lower` goes, under either name."""
    limits = {SAME_LIMIT[name] for name in SAME_LIMIT if upper.get(name) is not None}
    return {name: value for name, value in lower.items() if name not in limits} | dict(upper)


def _without_none(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _row(item: Any) -> Any:
    """An input; a conversation as a row, for `Pipeline` would read a list of messages as several inputs."""
    return {CONVERSATION_COLUMNS[0]: item} if is_conversation(item) else item


def _text(inputs: Any) -> str:
    """The text of a string or a row."""
    value = inputs
    if isinstance(inputs, Mapping):
        column = next((name for name in TEXT_COLUMNS if name in inputs), None)
        if column is None:
            if is_message(inputs):
                raise TypeError(_not_a_text(inputs))
            accepted, columns = (
                ", ".join(f"`{name}`" for name in names) for names in ((*TEXT_COLUMNS, "messages"), inputs)
            )
            raise ValueError(f"A row must have its text under one of {accepted}; found: {columns or 'nothing'}.")
        value = instruction_text(inputs[column], inputs.get("input")) if column == "instruction" else inputs[column]
    if not isinstance(value, str):
        raise TypeError(_not_a_text(value))
    return value


def _not_a_text(value: Any) -> str:
    """What to do about an input that is no string."""
    if is_message(value):
        return (
            f"Each input must be a string, a conversation or a row, got one message: {value!r:.80}. Messages stand in "
            "a list, which is one conversation."
        )
    advice = {
        bytes: " Decode them first, for example by `.decode()`.",
        list: " Texts stand in one flat list.",
        tuple: " Texts stand in one flat list.",
        type(None): " Leave missing texts out.",
    }.get(type(value), "")
    return (
        f"Each input must be a string or a row that holds a string, got {type(value).__name__}: {value!r:.80}.{advice}"
    )
