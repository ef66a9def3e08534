"""Pipelines that transformers 5 left out, and sound of any format for that of speech; importing them registers."""

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
    """Names of tasks that stand for other tasks, `translation_xx_to_yy` for any two languages among them."""

    def __contains__(self, task) -> bool:
        return super().__contains__(task) or re.fullmatch(r"translation_[^_]+_to_[^_]+", task) is not None

    def __missing__(self, task) -> str:
        if task in self:
            return "translation"
        raise KeyError(task)


def register_pipeline():
    """Makes `pipeline("text2text-generation")`, `"summarization"` and `"translation"` known. Safe to call twice.

    A task that transformers or another package serves already is left as it is, but that recognisers of this package
    read sound by their own `SpeechRecognitionPipeline`, which changes nothing for others.
    """
    registry = transformers.pipelines.PIPELINE_REGISTRY
    for task, pipeline_class in TASKS.items():
        # `pipeline` refuses what is in this list before it looks at the registry.
        getattr(transformers.pipelines, "REMOVED_TASKS", {}).pop(task, None)
        if task in registry.supported_tasks:
            continue
        registry.register_pipeline(task, pipeline_class, pt_model=AutoModelForSeq2SeqLM, type="text")
        # With this mark `save_pretrained` would write the pipeline's code into the checkpoint, which then loads with
        # `trust_remote_code=True` only. An exporter that wants this sets the mark itself.
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
