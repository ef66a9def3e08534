"""Exported checkpoints in an interpreter that has every library that this one has, but not this package."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast, pipeline

from hf_localgan.hub import export_with_code
from hf_localgan.models import (
    DbmConfig,
    DbmModel,
    LogMelFeatureExtractor,
    PairDiscriminator,
    PairDiscriminatorConfig,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)

TEXTS = ["hello how are you", "what is your name ?"]
IDS = [[4, 5, 6, 2], [7, 8, 2, 0]]
DECODINGS = {"greedy": {"num_beams": 1}, "beams": {"num_beams": 3, "num_return_sequences": 2}}

SCRIPT = """
import importlib.util, json, sys
assert importlib.util.find_spec("hf_localgan") is None
import torch
import transformers.pipelines
import numpy as np
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq
from transformers import AutoProcessor, AutoTokenizer, pipeline
assert "text2text-generation" in transformers.pipelines.REMOVED_TASKS
texts, ids, decodings, places = json.loads(sys.argv[1])
class Greedy:
    def generate(self, model, batch, *, tokenizer, num_return_sequences, max_new_tokens, **more):
        assert num_return_sequences == 1 and tokenizer.pad_token_id == 0
        return model.generate(**batch, num_beams=1, max_new_tokens=max_new_tokens, **more)
talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "how are you"}]
talk += [{"role": "user", "content": "fine"}]
trusted, batch, found = {"trust_remote_code": True}, torch.tensor(ids), {}
for name in ("rnn_seq2seq", "t5"):
    answer = pipeline("text2text-generation", model=places[name], device="cpu", **trusted)
    model = AutoModelForSeq2SeqLM.from_pretrained(places[name], **trusted).eval()
    inputs = AutoTokenizer.from_pretrained(places[name], **trusted)(texts, return_tensors="pt", padding=True)
    found[name] = {
        "pipeline": {key: answer(texts, max_new_tokens=6, **settings) for key, settings in decodings.items()},
        "decoding": answer(texts, max_new_tokens=6, decoding=Greedy()),
        "ids": {key: model.generate(**inputs, max_new_tokens=6, **some).tolist() for key, some in decodings.items()},
        "conversation": [answer.read(talk), answer(talk, max_new_tokens=6)],
        "module": type(model).__module__.split(".")[0],
        "without a task": type(pipeline(model=places[name], device="cpu", **trusted)).__name__,
    }
assert type(AutoConfig.from_pretrained(places["rnn_seq2seq"], **trusted)).__name__ == "RnnSeq2SeqConfig"
hear = pipeline("automatic-speech-recognition", model=places["speech"], device="cpu", **trusted)
processor = AutoProcessor.from_pretrained(places["speech"], **trusted)
recogniser = AutoModelForSpeechSeq2Seq.from_pretrained(places["speech"], **trusted).eval()
sound = np.sin(np.arange(8_000) / 20).astype(np.float32)
inputs = processor(audio=sound, sampling_rate=16_000, return_tensors="pt")
found["speech"] = {
    "pipeline": hear({"raw": sound, "sampling_rate": 16_000}, max_new_tokens=6),
    "ids": recogniser.generate(**inputs, max_new_tokens=6, num_beams=3).tolist(),
    "module": type(processor).__module__.split(".")[0],
}
for name in ("energy", "discriminator"):
    for kind, place, options in (("alone", places[name], {}), ("beside", places["rnn_seq2seq"], {"subfolder": name})):
        model = AutoModel.from_pretrained(place, **options, **trusted).eval()
        assert type(model).__module__.startswith("transformers_modules.")
        with torch.no_grad():
            found[f"{name} {kind}"] = model(input_ids=batch, labels=batch)[0].tolist()
try:
    AutoModelForSeq2SeqLM.from_pretrained(places["rnn_seq2seq"], trust_remote_code=False)
except ValueError as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """An interpreter of an environment of links to all that is installed here but this package."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    interpreter = str(folder / "bin" / "python")
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([interpreter, "-c", asked], text=True, capture_output=True, check=True).stdout.strip())
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for found in Path(place).iterdir():
            # a .pth file may lead back to this package, as that of an editable install does
            if "localgan" not in found.name.lower() and found.suffix != ".pth" and not (site / found.name).exists():
                (site / found.name).symlink_to(found)
    return interpreter


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    vocabulary = "<pad> <s> </s> <unk> hello how are you i am fine thanks what is your name my ? . !".split()
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], history_turns=1,
        turn_separator=" . ", **special,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny_generator, tiny_t5):
    """Generators of both kinds, an energy as if trained, and a discriminator."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        energy = DbmModel(DbmConfig(query_size=5, response_size=5, hidden_size=6, top_size=4, vocab_size=20))
        for parameter in energy.parameters():
            parameter.normal_(std=0.5)
        energy.word_vectors.load(torch.randn(20, 5), range(4, 20))
        for scaler in (energy.query_scaler, energy.response_scaler):
            scaler.count.fill_(9)
        sizes = {"vocab_size": 20, "embedding_size": 6, "filters": 4, "widths": [1, 2], "head_size": 6}
        discriminator = PairDiscriminator(PairDiscriminatorConfig(**sizes, pad_token_id=0, eos_token_id=2))
        layers = {"encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 6, "embedding_size": 6}
        speech = RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=20, feature_size=21, **layers))
        for parameter in speech.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    made = {"rnn_seq2seq": tiny_generator(), "t5": tiny_t5(), "energy": energy, "discriminator": discriminator}
    made["speech"] = speech
    return {name: model.eval() for name, model in made.items()}


def processor_of(words) -> RnnSpeechProcessor:
    return RnnSpeechProcessor(LogMelFeatureExtractor(num_mel_filters=6, normalization="utterance"), words)


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory, words) -> dict[str, str]:
    """Folder of each export; those of energy and discriminator are in that of the recurrent generator, too."""
    folder = tmp_path_factory.mktemp("exported")
    places = {name: str(folder / name) for name in models}
    for name, model in models.items():
        inside = {"energy": "energy", "discriminator": "discriminator"}.get(name, "")
        source = folder / "trained" / (f"rnn_seq2seq/{inside}" if inside else name)
        model.save_pretrained(source)
        (processor_of(words) if name == "speech" else words).save_pretrained(source)
        assert {"auto_map", "custom_pipelines"}.isdisjoint(json.loads((source / "config.json").read_text()))
    for name, place in places.items():
        inside = name in ("energy", "discriminator")
        export_with_code(folder / "trained" / (f"rnn_seq2seq/{name}" if inside else name), place)
    return places


@pytest.fixture(scope="module")
def found(bare, exported, tmp_path_factory) -> dict:
    """What the script has found there."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    environment |= {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [bare, "-I", "-c", SCRIPT, json.dumps([TEXTS, IDS, DECODINGS, exported])]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5"])
def test_generator_and_pipeline_answer_as_with_the_package(name, found, models, words):
    own = pipeline("text2text-generation", model=models[name], tokenizer=words, device="cpu")
    batch = words(TEXTS, return_tensors="pt", padding=True)
    for key, settings in DECODINGS.items():
        assert found[name]["pipeline"][key] == own(TEXTS, max_new_tokens=6, **settings)
        assert found[name]["ids"][key] == models[name].generate(**batch, max_new_tokens=6, **settings).tolist()
    assert found[name]["decoding"] == own(TEXTS, max_new_tokens=6, num_beams=1)
    read = "how are you . fine"  # as many turns as the tokenizer's configuration says
    assert found[name]["conversation"] == [read, own(read, max_new_tokens=6)]
    assert found[name]["module"] == ("transformers_modules" if name == "rnn_seq2seq" else "transformers")
    assert found[name]["without a task"] == "Text2TextGenerationPipeline"


def test_a_recogniser_hears_as_with_the_package(found, models, words):
    processor, model = processor_of(words), models["speech"]
    sound = np.sin(np.arange(8_000) / 20).astype(np.float32)
    ids = model.generate(**processor(audio=sound, return_tensors="pt"), max_new_tokens=6, num_beams=3)
    assert found["speech"]["ids"] == ids.tolist() and found["speech"]["module"] == "transformers_modules"
    parts = {"tokenizer": words, "feature_extractor": processor.feature_extractor, "device": "cpu"}
    own = pipeline("automatic-speech-recognition", model=model, **parts)
    assert found["speech"]["pipeline"] == own({"raw": sound, "sampling_rate": 16_000}, max_new_tokens=6)


@pytest.mark.parametrize("name", ["energy", "discriminator"])
def test_energies_and_discriminators_score_as_with_the_package(name, found, models):
    batch = torch.tensor(IDS)
    with torch.no_grad():
        wanted = models[name](input_ids=batch, labels=batch)[0]
    for kind in ("alone", "beside"):
        torch.testing.assert_close(torch.tensor(found[f"{name} {kind}"]), wanted)


def test_code_is_not_run_unless_it_is_trusted(found):
    assert "trust_remote_code=True" in found["refused"]


def test_the_package_reads_its_own_export(exported, models):
    own = AutoModelForSeq2SeqLM.from_pretrained(exported["rnn_seq2seq"])
    assert type(own) is type(models["rnn_seq2seq"])
    assert type(AutoModel.from_pretrained(exported["energy"])) is DbmModel
    with pytest.raises(ValueError, match="trust_remote_code=True"):  # transformers asks for the pipeline's code
        pipeline("text2text-generation", model=exported["rnn_seq2seq"])
