"""Lower precision, adapters, and training at a small scale."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

SOURCE = torch.tensor([[5, 9, 4, 17, 2], [8, 3, 2, 0, 0]])
MASK = (SOURCE != 0).long()
LABELS = torch.tensor([[7, 12, 19, 2], [4, 2, -100, -100]])
INPUTS = {"input_ids": SOURCE, "attention_mask": MASK, "labels": LABELS}
KINDS = pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cell_type": "lstm", "attention": "additive", "decoder_layers": 2},
        {"attention": "dot", "attention_position": "before", "input_feeding": True, "tie_word_embeddings": True},
    ],
)
# bfloat16 rounds by up to 2 ** -9 = 0.002 per operation; a handful of layers makes that a few percent.
BF16_TOLERANCE = 0.05


def relative_error(actual, expected):
    return ((actual.float() - expected).norm() / expected.norm()).item()


@KINDS
def test_bfloat16_weights_train_and_generate(tiny_generator, fields):
    expected = tiny_generator(**fields)(**INPUTS)
    model = tiny_generator(**fields).to(torch.bfloat16)
    outputs = model(**INPUTS)
    assert outputs.logits.dtype == torch.bfloat16 and outputs.loss.dtype == torch.float32
    assert relative_error(outputs.logits, expected.logits) < BF16_TOLERANCE
    assert abs(outputs.loss - expected.loss) < BF16_TOLERANCE * expected.loss
    outputs.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for beams in (1, 3):
        generated = model.generate(SOURCE, attention_mask=MASK, max_new_tokens=5, num_beams=beams)
        assert generated.shape[0] == 2


@KINDS
def test_bfloat16_autocast_trains_and_generates(tiny_generator, fields):
    model = tiny_generator(**fields)
    expected = model(**INPUTS)
    expected.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(**INPUTS)
        model.generate(SOURCE, attention_mask=MASK, max_new_tokens=5, num_beams=3)
    outputs.loss.backward()
    assert relative_error(outputs.logits, expected.logits) < BF16_TOLERANCE
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all(), name
    total = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert relative_error(total, torch.cat([gradients[name].flatten() for name in gradients])) < 2 * BF16_TOLERANCE


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_autocast_to_what_the_processor_lacks_trains_and_generates(tiny_generator, cell_type):
    # No processor trains an LSTM in float16, and many lack bfloat16.
    model = tiny_generator(cell_type=cell_type)
    expected = model(**INPUTS).logits
    with torch.autocast("cpu", dtype=torch.float16):
        outputs = model(**INPUTS)
        model.generate(SOURCE, attention_mask=MASK, max_new_tokens=5)
    outputs.loss.backward()
    assert relative_error(outputs.logits, expected) < BF16_TOLERANCE
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_a_float64_model_computes_its_loss_in_float64(tiny_generator):
    outputs = tiny_generator().double()(**INPUTS)
    assert outputs.loss.dtype == torch.float64
    expected = -outputs.logits.log_softmax(dim=-1)[LABELS != -100].gather(1, LABELS[LABELS != -100][:, None]).mean()
    torch.testing.assert_close(outputs.loss, expected, rtol=1e-12, atol=0)


@KINDS
def test_a_few_steps_learn_two_sentences_by_heart(tiny_generator, fields):
    model = tiny_generator(**fields).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        model(**INPUTS).loss.backward()
        optimizer.step()
    generated = model.eval().generate(SOURCE, attention_mask=MASK, max_new_tokens=5, do_sample=False)
    assert generated.tolist() == [[1, 7, 12, 19, 2], [1, 4, 2, 0, 0]]


def test_lora_adapters_wrap_the_linear_layers_and_train_a_step(tiny_generator):
    base = tiny_generator(attention="additive", cell_type="lstm")
    frozen = {name: p.clone() for name, p in base.named_parameters()}
    targets = ["query", "key", "readout", "bridge"]
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets))
    trained = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained} == set(targets)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.5)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(**INPUTS).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    after = dict(model.named_parameters())
    assert any(not torch.equal(after[name], tensor) for name, tensor in trained.items())
    for name, tensor in frozen.items():
        adapted = name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")
        kept = after.get(f"base_model.model.{name}", after.get(f"base_model.model.{adapted}"))
        assert torch.equal(kept, tensor), name
    assert model.generate(input_ids=SOURCE, attention_mask=MASK, max_new_tokens=3).shape[0] == 2


def test_lora_finds_the_linear_layers_by_itself(tiny_generator):
    model = get_peft_model(tiny_generator(), LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules="all-linear"))
    wrapped = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, p in model.named_parameters() if p.requires_grad}
    assert wrapped == {"query", "readout", "bridge"}  # all but the output layer
    model(**INPUTS).loss.backward()
