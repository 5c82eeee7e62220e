import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from gmmrec.data.tokens import Maps, TokenNames
from gmmrec.explain.attention import Explanation, Part
from gmmrec.report.overlay import BOXES, HEAT, largest
from gmmrec.report.picture import draw

GREY = (120, 120, 120)


def grid(weights, size=2, name="regions"):
    tokens = TokenNames("grid", size=size)
    return Part(name, "grid", tokens.labels(1, size**2), list(range(size**2)), weights, size)


def drawn(tmp_path, parts, picture=None, **settings):
    fields = {"user": "ann", "item": 7, "title": "Heat ($5)", "score": 1.5, "meaning": "weight", **settings}
    path = draw(Explanation(parts=parts, **fields), tmp_path / "why.png", picture)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def inside(pixels):
    """Return the pixels of the picture: the non-white block of the left column."""
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


def test_uniform_attention_has_one_neutral_colour(tmp_path):
    block = inside(drawn(tmp_path, [grid([0.25] * 4)], Image.new("RGB", (300, 300), GREY)))
    assert np.ptp(block.reshape(-1, 3), axis=0).max() <= 1
    assert np.ptp(block[0, 0]) <= 3
    near = inside(drawn(tmp_path, [grid([0.26, 0.25, 0.25, 0.24])], Image.new("RGB", (300, 300), GREY)))
    assert np.ptp(near.reshape(-1, 3), axis=0).max() < 15  # small differences are not stretched to the whole scale


def test_the_uniform_weight_is_neutral_next_to_any_other(tmp_path):
    _, even, *_ = quarters(inside(drawn(tmp_path, [grid([0.6, 0.25, 0.1, 0.05])], Image.new("RGB", (300, 300), GREY))))
    assert np.ptp(even[0]) <= 3


def test_missing_tokens_have_no_colour(tmp_path):
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


def test_the_scale_ends_at_twice_the_uniform_weight_or_the_largest_weight():
    assert largest(grid([0.25] * 4)) == pytest.approx(0.5)
    assert largest(grid([0.3, 0.3, 0.3, 0.1])) == pytest.approx(0.5)
    assert largest(grid([0.7, 0.1, 0.1, 0.1])) == pytest.approx(0.7)
    half = grid([0.35, 0.05, 0.05, 0.05])  # a modality with half of the attention: the same picture
    assert (half.even, largest(half)) == (pytest.approx(0.125), pytest.approx(0.35))


def slots(weights, strength, boxes):
    """Return attributes ``a``, ``b``, … with known regions."""
    count = len(weights)
    maps = Maps(np.array(strength, np.float32), np.array(boxes))
    return Part("slots", "names", [chr(ord("a") + n) for n in range(count)], list(range(count)), weights, maps=maps)


def inked(pixels, colour, most=3):
    return np.abs(pixels - np.rint(255 * np.array(to_rgb(colour)))).max(-1) <= most


def outline(pixels, colour):
    """Return top, left, bottom and right of all coloured pixels."""
    rows, columns = np.nonzero(inked(pixels, colour))
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def test_heat_maps_follow_regions_and_weights_of_attributes(tmp_path):
    strength = np.zeros((3, 4, 4))
    strength[0, 2, 0] = strength[1, 3, 2] = strength[1, 2, 0] = 1.0
    strength[1, 2, 3] = strength[2, 2, 2] = 0.5
    part = slots([0.3, 0.1, 0.0], strength, [[0, 0, 1, 1]] * 3)  # 0.4 of the attention is on attributes
    block = inside(drawn(tmp_path, [part], Image.new("RGB", (300, 300), GREY)))
    for row, column, share in ((2, 0, 1.0), (3, 2, 0.25), (2, 3, 0.125), (2, 2, 0.0), (3, 0, 0.0), (1, 0, 0.0), (2, 1, 0.0)):
        spot = block[int((row + 0.5) / 4 * len(block)), int((column + 0.5) / 4 * block.shape[1])]
        expected = (1 - 0.7 * share) * np.array(GREY) + 0.7 * share * 255 * np.array(to_rgb(HEAT))
        assert np.abs(spot - expected).max() <= 3, (row, column)


def test_boxes_of_attributes_match_their_regions(tmp_path):
    nowhere = np.zeros((3, 8, 4))
    part = slots([0.5, 0.4, 0.1], nowhere, [[1, 0, 3, 2], [4, 1, 8, 4], [0, 0, 8, 4]])
    pixels = drawn(tmp_path, [part], Image.new("RGB", (200, 400), GREY))
    is_grey = np.abs(pixels - GREY).max(-1) == 0
    rows, columns = (np.flatnonzero(is_grey.sum(axis) > 50) for axis in (1, 0))
    assert len(range(rows[0], rows[-1])) == pytest.approx(2 * len(range(columns[0], columns[-1])), abs=8)
    cell = (rows[-1] - rows[0]) / 8
    for colour, box in zip(BOXES, ([1, 0, 3, 2], [4, 1, 8, 4]), strict=False):
        found = outline(pixels[:, :375], colour) - np.tile([rows[0], columns[0]], 2)
        assert found == pytest.approx(cell * np.array(box), abs=8)
    assert not inked(pixels[:, :375], BOXES[2]).any()  # below the uniform weight


def test_labels_of_equal_attributes_do_not_overlap(tmp_path):
    part = slots([0.25] * 4, np.zeros((4, 7, 7)), [[6, 0, 7, 7]] * 4)
    pixels = drawn(tmp_path, [part], Image.new("RGB", (300, 300), GREY))
    lines = []
    for colour in BOXES:
        wide = np.flatnonzero(inked(pixels[:, :120], colour).sum(1) > 15)
        assert len(wide) >= 12
        lines.append(np.median(wide))
    assert np.diff(lines).min() > 15
    assert wide.max() <= 460  # within the picture, which ends there


def test_heat_maps_are_drawn_without_a_picture_too(tmp_path):
    strength = np.zeros((1, 2, 2))
    strength[0, 1, 1] = 1
    *others, bottom_right = quarters(drawn(tmp_path, [slots([1.0], strength, [[0, 0, 2, 2]])])[110:460, 25:375])
    assert np.median(bottom_right, 0) == pytest.approx(0.3 * 255 + 0.7 * 255 * np.array(to_rgb(HEAT)), abs=3)
    for other in others:
        assert (np.median(other, 0) == 255).all()


def test_without_maps_attributes_are_bars_as_long_as_their_weights(tmp_path):
    part = Part("slots", "names", ["collar", "sleeve"], [0, 1], [0.6, 0.2])
    ink = inked(drawn(tmp_path, [part]), "#30507a")
    lengths = ink.sum(1)[ink.sum(1) > 50]
    assert lengths.max() == pytest.approx(3 * lengths.min(), rel=0.03)
    assert lengths[0] > lengths[-1]  # collar above
    with_picture = drawn(tmp_path, [part], Image.new("RGB", (300, 300), GREY))
    assert np.abs(inside(with_picture) - GREY).max() == 0


def test_words_are_coloured_by_their_weights_in_their_order(tmp_path):
    words = ["red", "fish", "##es"] + ["swim"] * 30
    weights = [0.3, 0.0, 0.3] + [0.4 / 30] * 30
    pixels = drawn(tmp_path, [Part("words", "pieces", words, list(range(33)), weights)])
    red, blue = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
    line = np.flatnonzero(red.sum(1) > 20)  # the line in which red words stand
    found = [np.flatnonzero(shade[line[2]]) for shade in (red, blue)]
    letter = (1200 - 20 - 90) / 76
    ends = [20 + letter * column for column in (0, 3, 8, 10)]  # "##es" goes on without a gap
    assert [found[0][0], found[0][found[0] < ends[2] - 2][-1], found[0][-1]] == pytest.approx([ends[0], ends[1], ends[3]], abs=2)
    assert [found[1][0], found[1][found[1] < ends[3]][-1]] == pytest.approx([20 + letter * 4, ends[2]], abs=2)
    assert not red[line[-1] + 3 :].any()


def test_all_kinds_of_parts_fit_in_one_figure(tmp_path):
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


def test_contributions_of_modalities_may_be_negative(tmp_path):
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


def test_unsupported_file_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"give a name that ends in \.png, \.pdf or \.svg"):
        draw(Explanation("ann", 7, "Heat", 1.0, "weight", [grid([0.25] * 4)]), tmp_path / "why.doc")


def test_hostile_texts_leave_svg_files_well_formed_and_without_scripts(tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # would run LaTeX on the texts
    evil = "--><script>alert(1)</script> \\input{/etc/passwd} \x00\x1b[2J $\\frac$ \ud800"
    part = Part(evil, "names", [evil, "b"], [0, 1], [0.75, 0.25])
    for ending in ("svg", "pdf"):
        path = draw(Explanation(evil, evil, evil, 1.5, "weight", [part, part]), tmp_path / f"why.{ending}")
    text = (tmp_path / "why.svg").read_text(encoding="utf-8")
    elements = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert "script" not in elements
    assert {"svg", "path"} <= elements
    assert path.stat().st_size > 1000
