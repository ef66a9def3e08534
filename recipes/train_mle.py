"""Trains a generator by maximum likelihood, and shows what it has learned.

    accelerate launch recipes/train_mle.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. Leaves the generator with its tokenizer, checkpoints, samples, scores and plots in
`output_dir`.
"""

import sys
from pathlib import Path

from accelerate import PartialState
from transformers import DataCollatorForSeq2Seq, set_seed

from hf_localgan.arguments import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    RecipeParser,
    TokenizerArguments,
    checkpoint_to_resume,
)
from hf_localgan.evaluation import evaluate_generator, plot_training, require_matplotlib
from hf_localgan.trainers import MleConfig, MleTrainer

DEFAULT = Path(__file__).parent / "smalltalk" / "mle.yaml"


def main(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: MleConfig,
):
    require_matplotlib()  # what the end needs is looked at now
    set_seed(args.seed)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        if generator.model is not None:
            model, tokenizer = generator.load()
        else:
            tokenizer = tokens.make(pairs, data.language)
            model = generator.make(tokenizer)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    if PartialState().is_main_process:
        vectors = evaluation.vectors(pairs, data)
        print(pairs.report)
        print(f"{type(model).__name__}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens")

    trainer = MleTrainer(
        model, args, train_dataset=train, eval_dataset=validation,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model), processing_class=tokenizer,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    likelihood = trainer.evaluate(test, metric_key_prefix="test")
    if trainer.is_world_process_zero():
        trainer.state.save_to_json(str(Path(args.output_dir) / "trainer_state.json"))
        grouped, rows = pairs.grouped[data.test_split], slice(evaluation.max_test_queries)
        result = evaluate_generator(
            trainer.accelerator.unwrap_model(trainer.model), tokenizer, grouped["query"][rows],
            grouped["responses"][rows], decodings=evaluation.decodings(), vectors=vectors,
            tokenization=evaluation.tokenization(data.language), lowercase=evaluation.metric_lowercase,
            num_samples=evaluation.num_samples, resamples=evaluation.resamples, seed=args.seed,
            about={
                "model": Path(args.output_dir).name, "dataset": data.dataset, "split": data.test_split,
                "seed": args.seed, "nats_per_token": round(likelihood["test_loss"], 4),
                "perplexity": round(likelihood["test_perplexity"], 2), "tokens": likelihood["test_tokens"],
            },
            **evaluation.answering(data),
        )  # fmt: skip
        files = result.write(args.output_dir)
        plot_training(trainer.state.log_history, Path(args.output_dir) / "training.png")
        result.print()
        print(f"test perplexity {likelihood['test_perplexity']:.2f} ({likelihood['test_loss']:.3f} nats per token)")
        print("written:", ", ".join(str(path) for path in [*files, Path(args.output_dir) / "training.png"]))
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    parser = RecipeParser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig,
        default_config=DEFAULT, description=__doc__,
    )  # fmt: skip
    try:
        main(*parser.read())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
