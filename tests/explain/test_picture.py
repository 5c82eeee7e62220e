import sys

import numpy as np
import pytest
from PIL import Image

from gmmrec.data.tokens import TokenNames
from gmmrec.explain.attention import Explanation, Part
from gmmrec.explain.picture import draw, largest

GREY = (120, 120, 120)


def grid(weights, size=2, name="regions"):
    tokens = TokenNames("grid", size=size)
    return Part(name, "grid", tokens.labels(1, size**2), list(range(size**2)), weights, size)


def drawn(tmp_path, parts, picture=None, **settings):
    facts = {"user": "ann", "item": 7, "title": "Heat ($5)", "score": 1.5, "meaning": "weight", **settings}
    path = draw(Explanation(parts=parts, **facts), tmp_path / "why.png", picture)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def inside(pixels):
    """The picture's pixels: the block of the left column that is not white."""
    left = pixels[:, :375]
    filled = (left < 235).any(-1)
    rows = np.flatnonzero(filled.mean(1) > 0.6)
    columns = np.flatnonzero(filled[rows].mean(0) > 0.95)
    end = columns[0] + int(np.argmax(np.diff(columns, append=9999) > 1))  # a colour bar may follow behind a gap
    return left[rows[0] + 3 : rows[-1] - 2, columns[0] + 3 : end - 2]


def quarters(block):
    half, middle = block.shape[0] // 2, block.shape[1] // 2
    return [
        block[rows, columns].reshape(-1, 3)
        for rows in (slice(5, half - 5), slice(half + 5, -5))
        for columns in (slice(5, middle - 5), slice(middle + 5, -5))
    ]


def test_attention_on_the_top_left_is_red_there_and_blue_elsewhere(tmp_path):
    block = inside(drawn(tmp_path, [grid([0.7, 0.1, 0.1, 0.1])], Image.new("RGB", (300, 300), GREY)))
    top_left, *others = quarters(block)
    assert (top_left[:, 0] > top_left[:, 2] + 30).all()
    for other in others:
        assert (other[:, 2] > other[:, 0] + 20).all()
        assert np.ptp(other, axis=0).max() <= 1  # one colour, without a blur at the edges


def test_even_attention_looks_even_and_neutral(tmp_path):
    block = inside(drawn(tmp_path, [grid([0.25] * 4)], Image.new("RGB", (300, 300), GREY)))
    assert np.ptp(block.reshape(-1, 3), axis=0).max() <= 1
    assert np.ptp(block[0, 0]) <= 3
    near = inside(drawn(tmp_path, [grid([0.26, 0.25, 0.25, 0.24])], Image.new("RGB", (300, 300), GREY)))
    assert np.ptp(near.reshape(-1, 3), axis=0).max() < 15  # small differences are not stretched to the whole scale


def test_the_even_share_is_neutral_beside_any_other(tmp_path):
    _, even, *_ = quarters(inside(drawn(tmp_path, [grid([0.6, 0.25, 0.1, 0.05])], Image.new("RGB", (300, 300), GREY))))
    assert np.ptp(even[0]) <= 3


def test_tokens_that_are_not_there_have_no_colour(tmp_path):
    part = Part("regions", "grid", ["a", "b", "c"], [0, 1, 3], [0.6, 0.2, 0.2], 2)
    *_, bottom_left, _ = quarters(inside(drawn(tmp_path, [part], Image.new("RGB", (300, 300), GREY))))
    assert np.abs(bottom_left - np.array(GREY)).max() <= 1


def test_the_picture_is_upright_and_keeps_its_shape(tmp_path):
    picture = Image.new("RGB", (200, 400), (30, 90, 30))
    picture.paste((200, 200, 40), (0, 0, 200, 100))  # the upper quarter is yellow
    block = inside(drawn(tmp_path, [grid([0.25] * 4)], picture))
    assert block.shape[0] / block.shape[1] == pytest.approx(2, rel=0.05)
    upper, lower = block[: block.shape[0] // 5], block[block.shape[0] // 3 :]
    assert upper[:, :, 0].mean() > lower[:, :, 0].mean() + 50


def test_the_scale_ends_at_twice_the_even_share_or_the_largest_weight():
    assert largest(grid([0.25] * 4)) == pytest.approx(0.5)
    assert largest(grid([0.3, 0.3, 0.3, 0.1])) == pytest.approx(0.5)
    assert largest(grid([0.7, 0.1, 0.1, 0.1])) == pytest.approx(0.7)
    half = grid([0.35, 0.05, 0.05, 0.05])  # a modality that has half of the attention: the same picture
    assert (half.even, largest(half)) == (pytest.approx(0.125), pytest.approx(0.35))


def test_crops_words_attributes_modalities_and_histories_are_drawn(tmp_path):
    words = ["a", "very", "long", "text", "with", "##in", "words", "that", "do", "not", "fit", "in", "##to", "one", "line"] * 4
    parts = [
        Part("id", "whole", [""], [0], [0.2]),
        Part("views", "crops", TokenNames("crops").labels(1, 5), list(range(5)), [0.1, 0.2, 0.3, 0.3, 0.1]),
        Part("words", "pieces", words, list(range(len(words))), [1 / len(words)] * len(words)),
        Part("slots", "names", ["collar", "sleeve"], [0, 1], [0.9, 0.1]),
        Part("user:history", "items", [f"film {n} \u4e2d" for n in range(30)], list(range(30)), [1 / 30] * 30),
    ]
    with_picture = drawn(tmp_path, parts, Image.new("RGB", (300, 200), GREY))
    without = drawn(tmp_path, parts[3:])
    assert with_picture.shape[1] == without.shape[1] == 1200
    assert with_picture.shape[0] > without.shape[0]
    assert (without[:, :200] < 128).any()  # bars begin on the left where there is no picture


def test_what_a_modality_adds_may_be_negative(tmp_path):
    parts = [Part("image", "whole", [""], [0], [1.0]), Part("text", "whole", [""], [0], [-0.5])]
    pixels = drawn(tmp_path, parts, meaning="score")
    ink = np.abs(pixels - np.array([0x30, 0x50, 0x7A])).max(-1) < 3
    rows = [row for row in range(len(ink)) if ink[row].sum() > 100]
    upper, lower = np.flatnonzero(ink[rows[3]]), np.flatnonzero(ink[rows[-3]])
    assert len(upper) == pytest.approx(2 * len(lower), rel=0.05)
    assert abs(upper[0] - lower[-1]) <= 6  # one to the right of zero, one to the left


def test_zeros_are_not_drawn(tmp_path):
    pixels = drawn(tmp_path, [grid([0.0] * 4), Part("image", "whole", [""], [0], [0.0])])
    assert pixels.shape[1] == 1200


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"needs matplotlib, which is not installed; run: pip install 'gmmrec\[pictures\]'"):
        drawn(tmp_path, [grid([0.25] * 4)])


def test_an_ending_that_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"give a name that ends in \.png, \.pdf or \.svg"):
        draw(Explanation("ann", 7, "Heat", 1.0, "weight", [grid([0.25] * 4)]), tmp_path / "why.doc")
