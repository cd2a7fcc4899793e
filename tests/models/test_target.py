import torch

from models.target import Target


def make_target() -> Target:
    depth = torch.arange(3 * 4.0).view(3, 1, 2, 2) / 12
    valid = torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    valid[0], valid[2, 0, 1, 1] = True, True
    return Target(1 - depth, depth, valid, torch.tensor([True, True, False]))


def test_labelled_images_are_counted_per_task():
    assert make_target().count_labelled().tolist() == [2, 2]
    assert make_target().depth_known.tolist() == [True, False, True]


def test_mask_is_valid_all_over_an_image_or_nowhere():
    assert make_target().mask_valid.float().mean((1, 2, 3)).tolist() == [1, 1, 0]


def test_a_copy_on_another_device_has_all_tensors():
    assert {tensor.device.type for tensor in make_target().to("meta").tensors} == {"meta"}
