import pytest
import torch

from data.loading.loaders import Batch
from models.target import Target
from search.training.parts import Parts, TrialOutOfMemoryError, out_of_memory

FULL = torch.OutOfMemoryError("CUDA out of memory.")


def batch(images):
    plane = torch.arange(images, dtype=torch.float32)[:, None, None, None].expand(images, 1, 8, 8)
    known = plane[:, 0, 0, 0] >= 0
    return Batch(plane.repeat(1, 3, 1, 1), Target(plane, plane, plane >= 0, known))


def sizes(parts):
    return [len(part) for part in parts]


@pytest.mark.parametrize(
    ("images", "at_once", "expected"),
    [(8, None, [8]), (8, 8, [8]), (8, 3, [3, 3, 2]), (10, 4, [4, 3, 3]), (3, 1, [1] * 3)],
)
def test_batch_is_cut_into_few_parts_of_nearly_equal_size(images, at_once, expected):
    parts = Parts(at_once).cut(batch(images))
    assert sizes(parts) == expected
    columns = zip(*(part.tensors for part in parts), strict=True)
    assert all(torch.equal(torch.cat(column), one) for column, one in zip(columns, batch(images).tensors, strict=True))


def test_work_is_done_again_in_halves_until_it_fits_and_stays_so():
    tried = []

    def work(parts):
        tried.append(sizes(parts))
        if max(tried[-1]) > 2:
            raise FULL
        return sum(tried[-1])

    parts = Parts(None)
    assert parts.run(work, batch(8)) == 8
    assert tried == [[8], [4, 4], [2, 2, 2, 2]] and parts.at_once == 2
    assert parts.run(work, batch(6)) == 6 and tried[-1] == [2, 2, 2]


def test_one_image_that_does_not_fit_is_said_so():
    def work(parts):
        raise FULL

    with pytest.raises(TrialOutOfMemoryError, match="not even one image of 8 px fits in memory: CUDA out of memory"):
        Parts(None).run(work, batch(8))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    parts = Parts(None)

    def work(parts):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        parts.run(work, batch(8))
    assert parts.at_once is None


def test_what_the_machine_says_when_it_is_full_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
