"""Pipelines that transformers 5 removed, and speech recognition of any sound format; importing registers them."""

import re

import transformers.pipelines
from transformers import AutoModelForSeq2SeqLM

from .speech_recognition import SpeechRecognitionPipeline
from .text2text import SummarizationPipeline, Text2TextGenerationPipeline, TranslationPipeline

TASKS = {
    "text2text-generation": Text2TextGenerationPipeline,
    "summarization": SummarizationPipeline,
    "translation": TranslationPipeline,
}


class _AliasesWithTranslation(dict):
    """Alias names of tasks; with `translation_xx_to_yy` for any two languages."""

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (
            isinstance(task, str) and re.fullmatch(r"translation_[^_]+_to_[^_]+", task) is not None
        )

    def __missing__(self, task: str) -> str:
        if task in self:
            return "translation"
        raise KeyError(task)


class _NoDefaultModel(dict):
    """The default model of a task that has none, so that `pipeline` says so."""

    def __init__(self, task: str):
        super().__init__()
        self.task = task

    def __contains__(self, key: object) -> bool:
        raise ValueError(
            f'There is no default model for "{self.task}": give `model`, the folder or Hub id of an encoder-decoder. '
            f'For example: pipeline("{self.task}", model="google-t5/t5-small").'
        )


def register_pipeline():
    """Registers `pipeline("text2text-generation")`, `"summarization"` and `"translation"`. Safe to call twice.

    A task that transformers or another package has registered already stays as it is. One exception: speech recognition
    gets the `SpeechRecognitionPipeline`, by which recognisers of this package read sound; other models notice nothing.
    """
    registry = transformers.pipelines.PIPELINE_REGISTRY
    for task, pipeline_class in TASKS.items():
        # `pipeline` refuses the tasks of this list before it reads the registry.
        getattr(transformers.pipelines, "REMOVED_TASKS", {}).pop(task, None)
        if task in registry.supported_tasks:
            continue
        registry.register_pipeline(task, pipeline_class, pt_model=AutoModelForSeq2SeqLM, type="text")
        registry.supported_tasks[task]["default"] = _NoDefaultModel(task)
        # With this mark `save_pretrained` would write the pipeline's code into the checkpoint, which then loads with
        # `trust_remote_code=True` only. The exporter of such checkpoints sets the mark itself.
        del pipeline_class._registered_impl
    speech = registry.supported_tasks.get("automatic-speech-recognition", {})
    stock = speech.get("impl")  # a class, or its dotted name
    if getattr(stock, "__name__", str(stock).rpartition(".")[2]) == "AutomaticSpeechRecognitionPipeline":
        speech["impl"] = SpeechRecognitionPipeline
    if "translation_en_to_de" not in registry.task_aliases:
        registry.task_aliases = _AliasesWithTranslation(registry.task_aliases)


register_pipeline()

__all__ = [
    "SpeechRecognitionPipeline",
    "SummarizationPipeline",
    "Text2TextGenerationPipeline",
    "TranslationPipeline",
    "register_pipeline",
]
