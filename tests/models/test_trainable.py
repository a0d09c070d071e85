import pytest
import torch

from models.knobs import KnobSetting
from models.trainable import TrainableMolmo, converted
from tests.small_models import setting_of, tiny_config, tiny_inputs, tiny_molmo


def trainable() -> TrainableMolmo:
    network = TrainableMolmo(tiny_config(num_experts=6, top_k=2, num_blocks=4), num_labels=5)
    network.molmo.load_state_dict(tiny_molmo(num_experts=6, top_k=2, num_blocks=4).state_dict())
    return network


@pytest.mark.parametrize("blocks", [(0,), (0, 2), (0, 1, 3), (0, 1, 2, 3)])
def test_training_sees_the_logits_that_are_served(blocks: tuple[int, ...]) -> None:
    network, inputs = trainable(), tiny_inputs(tiny_config())
    setting = setting_of(network.molmo, blocks=blocks)
    logits = network(inputs, setting, num_text_ids=4, wants_labels=True)
    torch.testing.assert_close(logits.text, network.molmo(inputs, setting=setting)[:, -4:])
    length, tokens = inputs.input_ids.shape[1], tiny_config().tokens_per_crop
    assert logits.labels.shape == (1, 2, tokens, 4, 5)
    assert logits.places.shape[:2] == (1, length - 4)


def test_places_teach_the_first_half_of_the_blocks_that_run_and_nothing_behind_it() -> None:
    network = trainable()
    setting = KnobSetting(tier="high", top_k=2, active_blocks=(0, 2, 3))
    logits = network(tiny_inputs(tiny_config()), setting, num_text_ids=4, wants_labels=True)
    logits.places.square().sum().backward()
    weights = [network.get_parameter(f"molmo.language_model.blocks.{i}.attention.qkv.weight") for i in range(4)]
    assert [weight.grad is not None for weight in weights] == [True, False, True, False]
    assert network.molmo.language_model.head.weight.grad is None


def test_labels_and_places_are_left_out_where_nobody_wants_them() -> None:
    network = trainable()
    logits = network(tiny_inputs(tiny_config()), network.molmo.full_setting, num_text_ids=4, wants_labels=False)
    assert logits.labels is None
    assert logits.places is None


def test_converted_parameters_and_their_gradients_are_those_of_a_plain_conversion() -> None:
    parameters = [torch.randn(3, 5, requires_grad=True), torch.randn(4, requires_grad=True)]
    plain = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    factors = [torch.randn(5, 3, dtype=torch.bfloat16), torch.randn(4, dtype=torch.bfloat16)]
    for tensors, weights in (
        (parameters, converted(parameters, torch.bfloat16)),
        (plain, [parameter.to(torch.bfloat16) for parameter in plain]),
    ):
        ((weights[0].T * factors[0]).sum() + (weights[1] * factors[1]).sum()).backward()
        assert all(weight.dtype == torch.bfloat16 for weight in weights)
        assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in tensors)
    for parameter, reference in zip(parameters, plain, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.any()
        torch.testing.assert_close(parameter.grad, reference.grad, rtol=0, atol=0)


def test_a_parameter_that_nothing_uses_gets_no_gradient() -> None:
    used, unused = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    converted([used, unused], torch.bfloat16)[0].sum().backward()
    assert used.grad is not None
    assert unused.grad is None
