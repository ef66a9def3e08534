"""The first and the last part of a recipe that trains a recogniser: data and model, then evaluation and card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import EarlyStoppingCallback, PreTrainedModel, ProcessorMixin, set_seed

from hf_localgan.decoding.transcripts import transcript_limit
from hf_localgan.evaluation.chosen import chosen_evaluation
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.evaluation.recognition import (
    BEST_OF,
    RecognitionEvaluation,
    evaluate_recognition,
    recognition_metrics,
)
from hf_localgan.evaluation.speech_plots import plot_speech_training
from hf_localgan.recipes.finish import (
    check_publishing,
    chosen_about,
    likelihood_about,
    publish,
    save_state,
    scored_about,
    show_report,
)
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.speech import (
    RecogniserArguments,
    RecognitionArguments,
    SpeechArguments,
    shown_name,
)
from hf_localgan.terminal import progress_shown
from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.speech.trainer import SpeechMixin, SpeechRamlTrainer


@dataclass(frozen=True)
class SpeechSetup:
    """The recogniser and the utterances, for the trainer and for `finish_speech`.

    Attributes:
        model: the recogniser to train.
        processor: its processor.
        train, validation, test: encoded utterances.
        checkpoint: the checkpoint to resume from, `None` for a new run.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    train: Dataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None


def set_up_speech(speech: SpeechArguments, recogniser: RecogniserArguments, args: TokenLossConfig) -> SpeechSetup:
    """Loads, checks and encodes the utterances, and loads or makes the recogniser, on every process.

    Checks now what only the end of the training needs, so that a missing package shows before hours are spent.

    Args:
        args: arguments of the trainer; the decoding of the validation set is filled in where it is not set. Its
            `generation_max_length`, by default `transcript_limit` of the training labels, goes into the model, so that
            it is the limit of all transcripts: of both splits, of the sample table, and of the saved model.

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together.
    """
    require_matplotlib()
    check_publishing(args, shown_name(speech.dataset))
    if (args.metric_for_best_model or "").endswith(("per", "wer")) and args.greater_is_better is not False:
        raise ValueError(
            f"Fewer errors are better, but `greater_is_better` is not false for `metric_for_best_model: "
            f"{args.metric_for_best_model}`. Set `greater_is_better: false`."
        )
    set_seed(args.seed)
    checkpoint = checkpoint_to_resume(args)
    with PartialState().main_process_first():
        utterances = speech.load()
        model: PreTrainedModel
        processor: ProcessorMixin
        if recogniser.model is None:
            processor = speech.processor(utterances["train"])
            set_seed(args.seed)
            model = recogniser.make(processor)
        else:
            model, processor = recogniser.load()
        train, validation, test = (speech.encode(utterances[split], processor) for split in speech.splits())
    args.predict_with_generate = True
    if args.generation_max_length is None:
        args.generation_max_length = transcript_limit(train["labels"])
    model.generation_config.max_length, model.generation_config.max_new_tokens = args.generation_max_length, None
    if PartialState().is_main_process:
        print(f"{type(model).__name__}: {model.num_parameters():,} parameters, {len(processor.tokenizer):,} tokens")
    return SpeechSetup(model, processor, train, validation, test, checkpoint)


def make_speech_trainer(
    trainer_class: type[SpeechMixin],
    setup: SpeechSetup,
    speech: SpeechArguments,
    recogniser: RecogniserArguments,
    recognition: RecognitionArguments,
    args: TokenLossConfig,
) -> SpeechMixin:
    """The trainer of a recogniser, watched by its error rate on the validation split.

    Args:
        trainer_class: `SpeechMleTrainer` or `SpeechRamlTrainer`.
        setup: as `set_up_speech` made it.
        speech, recogniser, recognition, args: the settings.
    """
    method: dict[str, Any] = (
        {"ctc_labels": recogniser.ctc_labels} if issubclass(trainer_class, SpeechRamlTrainer) else {}
    )
    scoring = {"target": speech.target, "fold": recognition.fold, "silence": recognition.silence}
    return trainer_class(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation, processing_class=setup.processor,
        guided_attention_weight=recogniser.guided_attention_weight,
        compute_metrics=recognition_metrics(setup.processor.tokenizer, **scoring), **method,
    )  # fmt: skip


def finish_speech(
    trainer: SpeechMixin,
    setup: SpeechSetup,
    speech: SpeechArguments,
    recognition: RecognitionArguments,
    about: Mapping[str, Any],
) -> RecognitionEvaluation | None:
    """Measures the likelihood of the test split, transcribes it, and writes scores, pictures and the model card.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `training.png`,
    `attention.png`, what `Evaluation.write` writes, and `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer: after `train`.
        setup: as `set_up_speech` made it.
        speech, recognition: the settings.
        about: facts about this run beside model, data set, split and seed.

    Returns:
        The evaluation, on the main process.
    """
    metrics, trainer.compute_metrics = trainer.compute_metrics, None  # they are of the validation split
    trainer.remove_callback(EarlyStoppingCallback)
    trainer.args.predict_with_generate = False
    likelihood = trainer.evaluate(setup.test, metric_key_prefix="test")
    trainer.compute_metrics, result = metrics, None
    if trainer.is_world_process_zero():
        folder = save_state(trainer)
        facts = {
            "model": folder.resolve().name, "dataset": shown_name(speech.dataset), "split": speech.test_split,
            "seed": trainer.args.seed, **about, **chosen_about(trainer), **_chosen_rate(trainer),
            **likelihood_about(likelihood), **scored_about(folder),
            "transcript_limit": trainer.args.generation_max_length,
        }  # fmt: skip
        with progress_shown():
            result = evaluate_recognition(
                trainer.accelerator.unwrap_model(trainer.model), setup.processor, setup.test,
                decodings=recognition.decodings(), target=speech.target, fold=recognition.fold,
                silence=recognition.silence, resamples=recognition.resamples, pictures=recognition.attention_pictures,
                about=facts, seed=trainer.args.seed, batch_size=recognition.answer_batch_size,
            )  # fmt: skip
        files = [*result.write(folder), folder / "training.png"]
        plot_speech_training(trainer.state.log_history, folder / "training.png")
        perplexity, nats = likelihood["test_perplexity"], likelihood["test_loss"]
        show_report(trainer, result, files, f"test perplexity {perplexity:.2f} ({nats:.3f} nats per label)")
    trainer.accelerator.wait_for_everyone()
    publish(trainer)
    return result


def _chosen_rate(trainer: SpeechMixin) -> dict[str, float]:
    """The error rate on the validation split of the model that was kept, in per cent.

    Where it is the smallest of several evaluations, their number is beside it: chosen so, it is biased low.
    """
    chosen = chosen_evaluation(vars(trainer.state), trainer.args.load_best_model_at_end, ["eval_loss"])
    name = None if chosen is None else next((key for key in ("eval_per", "eval_wer") if key in chosen.scores), None)
    if chosen is None or name is None:
        return {}
    rates = [entry[name] for entry in trainer.state.log_history if name in entry]
    smallest = chosen.is_best and len(rates) > 1 and chosen.scores[name] == min(rates)
    rate = {"validation_error_rate": round(100 * chosen.scores[name], 2)}
    return {**rate, **({BEST_OF: len(rates)} if smallest else {})}
