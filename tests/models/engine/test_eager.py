import torch

from models.engine.eager import EagerEngine
from models.inputs import collate
from tests.small_models import tiny_inputs, tiny_molmo


@torch.inference_mode()
def test_a_step_can_be_taken_again_by_one_request_and_by_a_padded_batch() -> None:
    model = tiny_molmo()
    requests = [tiny_inputs(model.config, num_words=words, seed=words) for words in (3, 6)]
    for inputs in (requests[0], collate(requests)):
        batch, length = inputs.input_ids.shape
        with EagerEngine(model).request(model.full_setting, batch_size=batch, capacity=length + 3) as request:
            request.prefill(inputs, model.embed(inputs, model.encode_images(inputs)))
            tokens = [torch.arange(batch) + 7, torch.arange(batch) + 11]
            answers = []
            for _ in range(2):
                for token in tokens:
                    request.step(token)
                answers.append(request.logits.clone())
                request.rewind(length)
            assert torch.equal(answers[0], answers[1])
            request.step(tokens[1])
            assert not torch.equal(request.logits, answers[0])
