"""``gmmrec explain`` from a run folder to a table and a picture."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

import gmmrec
from gmmrec.cli.main import main
from gmmrec.data.tokens import TokenNames, write_pieces
from gmmrec.testing import checkerboard

GREY = (120, 120, 120)
QUICK = ["--train.epochs", "2", "--train.lr", "0.3", "--train.batch_size", "64"]
WORDS = ["red", "fish", "##es", "swim"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("run")
    gmmrec.fit(checkerboard()[0], "mario", out=base / "run", epochs=1, dim=8, batch_size=64, progress=False)
    (base / "pictures").mkdir()
    Image.new("RGB", (40, 60), (10, 200, 10)).save(base / "pictures" / "5.png")
    return base


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Return a checkerboard in a folder, with regions, attributes with maps, crops, words and grey pictures per item.

    One token of each tells the parity. Item 5 has no region 2, no heel and three words.
    """
    base, rng, log = tmp_path_factory.mktemp("shop"), np.random.default_rng(0), checkerboard()[0].interactions
    pd.DataFrame({"user": [f"u{u}" for u in log.user.tolist()], "item": log.item}).to_csv(base / "interactions.csv", index=False)
    ids = np.arange(16)
    for name, count, gone in (("regions", 4, 2), ("slots", 3, 2), ("views", 5, None), ("words", 4, 3)):
        values, mask = rng.normal(size=(16, count, 6)).astype(np.float32), np.ones((16, count), bool)
        values[:, 1, :2] += 4 * np.eye(2)[ids % 2]
        if gone is not None:
            mask[5, gone] = False
        np.savez(base / f"{name}_feat.npz", ids=ids, values=values, mask=mask)
    (base / "regions_feat.json").write_text('{"regions": 2}')
    (base / "views_feat.json").write_text('{"crops": true}')
    write_pieces(base / "words_pieces.csv.gz", ids, [WORDS[: 3 if item == 5 else 4] for item in ids])
    (base / "slots.json").write_text('{"names": ["collar", "sleeve", "heel"]}')
    maps, boxes = np.zeros((16, 3, 4, 4)), np.tile([0, 0, 4, 4], (16, 3, 1))
    maps[5, 0, 2, 0], maps[5, 1, 2, 3], maps[5, 2, 1, 1] = 1, 1, 1
    order = rng.permutation(16)
    np.savez(base / "slots_maps.npz", ids=ids[order], maps=maps[order].astype(np.float16), boxes=boxes[order].astype(np.uint8))
    (base / "pictures").mkdir()
    Image.new("RGB", (300, 300), GREY).save(base / "pictures" / "5.png")
    return base


def explained(shop, model, tokens, capsys, *flags):
    """Return the weights of u3 and item 5 by modality, checked against the model, and the picture."""
    flags = ["--data.modalities", ",".join(tokens), "--model.dim", "8", *QUICK, *flags]
    assert main(["train", "-m", model, "-d", str(shop), "--out", str(shop / model), *flags]) == 0
    capsys.readouterr()
    out = shop / f"{model}.png"
    flags = ["--user", "u3", "--item", "5", "--images", str(shop / "pictures"), "--out", str(out), "--json"]
    assert main(["explain", str(shop / model), *flags]) == 0
    frame = pd.DataFrame(json.loads(capsys.readouterr().out)["rows"])
    found = {name: own["weight"].to_numpy() for name, own in frame.groupby("modality")}
    run = gmmrec.load(shop / model)
    user, item = run.vocabularies["user"].rows(["u3"]), run.vocabularies["item"].rows([5])
    with torch.no_grad():
        said = run.model.attention(run.service.encoded, run.service.query(user), item)
    for name, labels in tokens.items():
        assert frame["token"][frame["modality"] == name].tolist() == labels
        weights = said[name][0][run.graph.features[name].mask[item[0]]].numpy()
        assert found[name] == pytest.approx(weights, abs=1e-6)
        assert weights.max() > 1.2 * weights.min()  # or there is nothing to see
    return found, np.asarray(Image.open(out).convert("RGB")).astype(int)


def picture_of(pixels):
    """Return the picture, which is 350 pixels wide and high."""
    top = np.flatnonzero((pixels[:, 30:370] < 250).any(-1).mean(1) > 0.95)[0]
    return pixels[top : top + 350, 25:375]


def shades(weights):
    """Return the colours of weights on a scale centred at the uniform weight."""
    even = weights.mean()
    most = max(2 * even, weights.max())
    return 255 * colormaps["coolwarm"](np.interp(weights, [0, even, most], [0, 0.5, 1]))[:, :3]


def near(pixels, colour, most=3):
    return np.abs(pixels - colour).max(-1) <= most


def test_vecf_colours_regions(shop, capsys):
    names = TokenNames("grid", size=2).labels(5, 4)
    found, pixels = explained(shop, "vecf", {"regions": [names[0], names[1], names[3]]}, capsys)
    spots = picture_of(pixels)[[88, 88, 262, 262], [88, 262, 88, 262]]
    expected = 0.5 * np.array(GREY) + 0.5 * shades(found["regions"])
    assert near(spots, [expected[0], expected[1], GREY, expected[2]]).all()  # region 2 is missing


def test_saers_draws_attributes_in_their_regions(shop, capsys):
    flags = ["--model.slots", "given", "--model.regions", "slots", "--model.num_slots", "3"]
    found, pixels = explained(shop, "saers", {"slots": ["collar", "sleeve"]}, capsys, *flags)
    spots = picture_of(pixels)[[220, 220, 131, 300], [44, 306, 131, 175]]  # collar, sleeve, the missing heel, background
    strength = 0.7 * np.array([*found["slots"], 0, 0])[:, None]
    assert near(spots, (1 - strength) * GREY + strength * [0xD0, 0x00, 0x6F]).all()


def test_uvcan_frames_crops_and_colours_words(shop, capsys):
    found, pixels = explained(shop, "uvcan", {"views": TokenNames("crops").labels(5, 5), "words": WORDS[:3]}, capsys)
    block = picture_of(pixels)
    corners = [(slice(80), slice(80)), (slice(80), slice(270, None)), (slice(270, None), slice(80)), (slice(270, None),) * 2]
    for spot, colour in zip([*corners, (slice(140, 210),) * 2], shades(found["views"]), strict=True):
        assert near(block[spot], colour).sum() > 100  # around the number
    positions = []
    for colour in 0.5 * 255 + 0.5 * shades(found["words"]):
        there = near(pixels[:, 480:], colour)
        assert there.sum() > 100
        positions.append(float(np.median(there.nonzero()[1])))
    assert positions == sorted(positions)  # red fish ##es


def test_weights_are_printed(folder, capsys):
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("score ")
    assert [line.split()[0] for line in lines[1:] if line] == ["image", "text", "interaction"]
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert sum(row["weight"] for row in rows) == pytest.approx(1)


def test_the_picture_of_the_item_is_drawn_if_there_is_one(folder, tmp_path, capsys):
    for item, green in (("5", True), ("6", False)):
        out = tmp_path / f"{item}.png"
        flags = ["--images", str(folder / "pictures"), "--out", str(out)]
        assert main(["explain", str(folder / "run"), "--user", "u3", "--item", item, *flags]) == 0
        pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
        assert bool((np.abs(pixels - np.array([10, 200, 10])).max(-1) < 3).any()) == green


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--images", "somewhere"], "--images needs a file to draw into; add --out"),
        (["--out", "a.png", "--image-column", "code"], "--image-column names the pictures in --images"),
        (["--user", "ann"], "ann"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(folder, capsys, extra, message):
    assert main(["explain", str(folder / "run"), "--user", "u3", "--item", "5", *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
