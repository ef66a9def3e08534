"""What is looked at before adapters are trained: that they learn, and that a folder will give them back."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from hf_localgan.models.adapter_checks import check_adapters, describe_unread, unread_layers


def adapt(model, *targets, **settings):
    return get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=list(targets), **settings))


def refused(model, *parts, check=check_adapters):
    with pytest.raises(ValueError) as caught:
        check(model)
    for part in parts:
        assert part in str(caught.value)


def test_usual_adapters_pass_and_change_nothing(tiny_t5, tiny_bart, tiny_generator):
    models = [
        tiny_t5(),
        adapt(tiny_t5(), "q", "lm_head", "embed_tokens", modules_to_save=["final_layer_norm"], use_dora=True),
        adapt(tiny_bart(), "q_proj", bias="all", trainable_token_indices=[5]),
        adapt(tiny_generator(noise_size=3), "readout", "bridge", "noise_bridge"),
        adapt(tiny_generator(tie_word_embeddings=True), "lm_head", ensure_weight_tying=True),
        get_peft_model(tiny_t5(), PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)),
    ]
    for model in models:
        model.train()
        before, state = [module.training for module in model.modules()], torch.get_rng_state()
        check_adapters(model)
        assert unread_layers(model) == []
        assert before == [module.training for module in model.modules()]
        assert torch.equal(state, torch.get_rng_state())
        assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(("family", "name"), [("tiny_t5", "shared"), ("tiny_bart", "model.shared")])
def test_a_layer_that_nothing_reads(family, name, request):
    model = adapt(request.getfixturevalue(family)(), "shared", "lm_head")
    (unread,) = unread_layers(model)
    assert unread.name == name and "lm_head" in unread.readers and len(unread.readers) == 3
    text = describe_unread([unread], model)
    assert f"`{name}` learn nothing" in text and "encoder.embed_tokens`" in text and "name these" in text


def test_trained_weights_that_the_adapter_does_not_save(tiny_t5):
    model = adapt(tiny_t5(), "q")
    for name, weight in model.named_parameters():
        weight.requires_grad_(weight.requires_grad or "final_layer_norm" in name)
    refused(model, "2 trained parameters of T5", "`decoder.final_layer_norm.weight`", "modules_to_save")


def test_several_adapters_in_one_model(tiny_t5):
    model = adapt(tiny_t5(), "q")
    model.add_adapter("second", LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["v"]))
    refused(model, "2 adapters (default, second)", "`delete_adapter`")


def test_a_beginning_that_changes_the_weights_by_chance(tiny_t5):
    refused(adapt(tiny_t5(), "q", init_lora_weights="pissa_niter_2"), '"pissa_niter_2"', '"pissa"', "`True`")


def test_a_bias_that_cannot_be_merged(tiny_t5):
    refused(adapt(tiny_t5(), "q", lora_bias=True), "`lora_bias`", "SelfAttention.q`", "which has none")


def test_ties_of_peft_that_are_not_read_back(tiny_t5, tiny_bart):
    for model in (tiny_t5(), tiny_bart()):
        refused(adapt(model, "lm_head", ensure_weight_tying=True), "`ensure_weight_tying`", "Leave it out")


def test_a_model_that_cannot_run_with_its_adapters(tiny_generator):
    model = tiny_generator(tie_word_embeddings=True)
    model = adapt(model, "readout", modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    refused(model, "cannot run with these adapters", "`ensure_weight_tying`", check=unread_layers)


def test_the_folder_of_the_adapter_that_a_new_one_is_trained_on(tiny_t5, tmp_path):
    first = adapt(tiny_t5(), "q")
    first.save_pretrained(tmp_path)
    base = first.merge_and_unload()
    base.name_or_path = str(tmp_path)
    second = adapt(base, "v")
    check_adapters(second, tmp_path / "elsewhere")
    refused(second, "`output_dir`", "would overwrite", check=lambda model: check_adapters(model, tmp_path))
