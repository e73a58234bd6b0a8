import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from idx.kernels.spans import count_values, draw_spans, find_spans, measure_spans, number_objects, shared_parts, sorted_by_object


def labels_of(seed: int, shape: tuple[int, int] = (23, 31)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.int32)


@given(seed=st.integers(0, 1000), height=st.integers(1, 30), width=st.integers(1, 30))
def test_spans_drawn_are_the_image_they_came_from(seed, height, width):
    labels = labels_of(seed, (height, width))
    spans = find_spans(labels)
    drawn = np.zeros_like(labels)
    draw_spans(drawn, spans, np.arange(4, dtype=np.int32))
    np.testing.assert_array_equal(drawn, labels)
    assert (np.diff(spans[:, 1]) >= 0).all()


def test_more_spans_than_there_was_room_for():
    labels = np.tile(np.array([[1, 2]], dtype=np.int32), (50, 20))
    spans = find_spans(labels, x=100, y=200)
    assert len(spans) == 50 * 40
    assert spans[-1].tolist() == [2, 249, 139, 140]


def test_measures_are_those_of_the_pixels():
    labels = labels_of(3)
    area, sums, box = measure_spans(find_spans(labels, x=5, y=7), 4)
    for k in (1, 2, 3):
        y, x = np.nonzero(labels == k)
        assert area[k] == len(x)
        assert sums[k].tolist() == [(x + 5).sum(), (y + 7).sum()]
        assert box[k].tolist() == [x.min() + 5, y.min() + 7, x.max() + 6, y.max() + 8]


def test_what_is_drawn_first_stays():
    image = np.zeros((1, 6), dtype=np.int32)
    draw_spans(image, np.array([[0, 0, 0, 4], [1, 0, 2, 6]], dtype=np.int32), np.array([7, 8], dtype=np.int32))
    assert image.tolist() == [[7, 7, 7, 7, 8, 8]]


@given(seed=st.integers(0, 1000))
def test_objects_of_several_tiles_become_their_union(seed):
    rng = np.random.default_rng(seed)
    one, other = (rng.random((3, 20, 20)) < 0.3 for _ in range(2))
    spans = []
    for masks in (one, other):
        for k, mask in enumerate(masks):
            part = find_spans(mask.astype(np.int32))
            part[:, 0] = k
            spans.append(part)
    ordered, offsets = sorted_by_object(np.concatenate(spans), 3)
    for k in range(3):
        mine = ordered[offsets[k] : offsets[k + 1]]
        assert (mine[:, 0] == k).all()
        drawn = np.zeros((20, 20), dtype=np.int32)
        draw_spans(drawn, mine, np.ones(3, dtype=np.int32))
        np.testing.assert_array_equal(drawn > 0, one[k] | other[k])
        # Each pixel in one span, and no two spans touch.
        assert (mine[:, 3] - mine[:, 2]).sum() == drawn.sum()
        expected = find_spans(drawn)
        np.testing.assert_array_equal(mine[:, 1:], expected[:, 1:])


@given(seed=st.integers(0, 1000))
def test_likeness_is_that_of_connected_parts(seed):
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, 3, (14, 14)).astype(np.int32) for _ in range(2))
    left, top, right, bottom = 2, 3, 11, 12
    window = np.s_[top:bottom, left:right]
    pairs, likeness = shared_parts(find_spans(one), find_spans(other), (left, top, right, bottom))
    found = {(a, b): (n, like) for (a, b, n), like in zip(pairs.tolist(), likeness.tolist(), strict=True)}
    for a in (1, 2):
        for b in (1, 2):
            common = ((one == a) & (other == b))[window].sum()
            if common == 0:
                assert (a, b) not in found
                continue
            parts_a, n_a = label((one == a)[window])
            parts_b, n_b = label((other == b)[window])
            best = max(((parts_a == i) & (parts_b == j)).sum() / ((parts_a == i) | (parts_b == j)).sum() for i in range(1, n_a + 1) for j in range(1, n_b + 1))
            assert found[a, b] == (common, pytest.approx(best))


def test_likeness_over_the_smaller():
    one, other = np.zeros((4, 9), dtype=np.int32), np.zeros((4, 9), dtype=np.int32)
    one[1, 1:8], other[1, 2:4] = 1, 1
    _, union = shared_parts(find_spans(one), find_spans(other), (0, 0, 9, 4))
    _, smaller = shared_parts(find_spans(one), find_spans(other), (0, 0, 9, 4), over="smaller")
    assert union.tolist() == [2 / 7]
    assert smaller.tolist() == [1.0]


def test_classes_are_counted_over_the_pixels_of_objects():
    labels = labels_of(5)
    classes = np.random.default_rng(1).integers(-1, 6, labels.shape)
    counts = count_values(find_spans(labels), classes, 4, 3)
    for k in (1, 2, 3):
        assert counts[k].tolist() == [((labels == k) & (classes == c)).sum() for c in (1, 2, 3)]
    assert counts[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("far", [9, 1 << 30])
def test_objects_are_numbered_in_the_order_of_their_labels(far):
    spans = find_spans(np.array([[far, 0, 3], [3, 7, 7]], dtype=np.int32))
    assert number_objects(spans).tolist() == [3, 7, far]
    assert spans[:, 0].tolist() == [2, 0, 0, 1]
    assert number_objects(spans[:0]).tolist() == []
