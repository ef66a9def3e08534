import pytest
from datasets import Dataset
from transformers import pipeline

from hf_localgan.pipelines import register_pipeline

register_pipeline()
DATA = Dataset.from_dict(
    {"query": ["hello how are you", "what is your name", "fine"], "reference": ["fine thanks", "my name", "hello !"]}
)


class Recorder:
    """A metric that keeps what it was given, and scores the share of equal texts."""

    name = "recorder"

    def compute(self, predictions, references):
        self.predictions, self.references = list(predictions), list(references)
        return {"equal": sum(map(str.__eq__, self.predictions, self.references)) / len(self.references)}


@pytest.mark.parametrize("given", ["folder", "model"])
def test_the_evaluator_of_evaluate_scores_a_generator(tiny_generator, tiny_tokenizer, tmp_path, monkeypatch, given):
    from evaluate import Text2TextGenerationEvaluator, evaluator

    monkeypatch.setattr(Text2TextGenerationEvaluator, "PIPELINE_KWARGS", {"truncation": True})  # it is written to
    model = tiny_generator()
    expected = [
        answer["generated_text"]
        for answer in pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")(
            DATA["query"], max_new_tokens=5, num_beams=1
        )
    ]
    if given == "folder":
        model.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        arguments = {"model_or_pipeline": str(tmp_path)}
    else:
        arguments = {"model_or_pipeline": model, "tokenizer": tiny_tokenizer}
    data = DATA.map(lambda row, index: {"reference": expected[0] if index == 0 else "?"}, with_indices=True)
    metric = Recorder()
    scores = evaluator("text2text-generation").compute(
        **arguments, data=data, metric=metric, input_column="query", label_column="reference", device=-1,
        generation_kwargs={"max_new_tokens": 5, "num_beams": 1},
    )  # fmt: skip
    assert metric.predictions == expected
    assert scores["equal"] == pytest.approx(1 / 3)
