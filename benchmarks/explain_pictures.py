"""Figures of docs/how-to/explain.md: attention of models on synthetic garments.

    python benchmarks/explain_pictures.py

Dresses have a red collar or none, and a striped skirt or a plain one; half of the users buy red collars, the others striped skirts.
VECF sees the colours of 7 x 7 regions, SAERS attributes that ``data_scripts/attribute_regions.py`` finds there. Nobody tells the
models which user wants what; a dress with both is explained to a user of each kind. Takes a minute.
"""

import json
import runpy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageOps

from gmmrec.report.picture import draw
from gmmrec.runs.config import read_config
from gmmrec.runs.recipe import run
from gmmrec.runs.run import Run

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "how-to" / "figures"
ITEMS, USERS, BOUGHT, SIDE = 240, 80, 15, 7
WIDE, HIGH = 35 * SIDE, 45 * SIDE
WIDTH = 1400
"""Most pixels from left to right."""
RED, CREAM = "#c8202c", "#f4e9c9"
BODIES = {"blue": "#3d5a99", "green": "#4c7a57", "grey": "#77797e", "brown": "#8a6a4f", "violet": "#6d558c"}
TRAIN = {"lr": 0.01, "epochs": 60, "evaluate_every": 20, "batch_size": 256, "progress": False}


def dress(body: str, has_collar: bool, has_stripes: bool, has_sleeves: bool, rng: np.random.Generator) -> Image.Image:
    """A dress on white, somewhat to the left or right, up or down."""
    picture = Image.new("RGB", (WIDE, HIGH), "white")
    pen, colour = ImageDraw.Draw(picture), BODIES[body]
    x, y = WIDE // 2 + int(rng.integers(-20, 21)), 40 + int(rng.integers(-15, 16))
    waist, hem, length = y + 100, y + 215, 95 if has_sleeves else 40
    for side in (-1, 1):
        pen.polygon([(x + 22 * side, y), (x + 48 * side, y + 8), (x + 68 * side, y + length), (x + 46 * side, y + length)], colour)
    pen.polygon([(x - 42, y), (x + 42, y), (x + 32, waist), (x - 32, waist)], colour)
    pen.polygon([(x - 32, waist), (x + 32, waist), (x + 72, hem), (x - 72, hem)], colour)
    if has_stripes:
        for line in range(waist + 12, hem - 4, 20):
            half = 32 + 40 * (line - waist) / (hem - waist)
            pen.polygon([(x - half, line), (x + half, line), (x + half + 3, line + 9), (x - half - 3, line + 9)], CREAM)
    pen.pieslice((x - 42, y - 46, x + 42, y + 46), 0, 180, RED if has_collar else colour)
    pen.pieslice((x - 20, y - 20, x + 20, y + 20), 0, 180, "white")
    return picture


def colours(picture: Image.Image) -> NDArray[np.float32]:
    """Return the shares of white, red, cream and other colours in every region ``[R, 4]``."""
    pixels = np.asarray(picture).reshape(SIDE, HIGH // SIDE, SIDE, WIDE // SIDE, 3)
    named = [(pixels == ImageColor.getrgb(name)).all(-1).mean((1, 3)) for name in ("white", RED, CREAM)]
    return np.stack([*named, 1 - sum(named)], -1).reshape(SIDE**2, 4).astype(np.float32)


def make(folder: Path) -> pd.DataFrame:
    """Write the shop, with pictures, regions and attributes; return its items."""
    rng = np.random.default_rng(0)
    has = rng.random((ITEMS, 3)) < 0.5
    bodies = rng.choice(list(BODIES), ITEMS)
    collar, skirt, sleeves = (
        np.where(has[:, n], *names) for n, names in enumerate((("red", "none"), ("striped", "plain"), ("long", "short")))
    )
    items: pd.DataFrame = pd.DataFrame(
        {"item": np.arange(ITEMS), "collar": collar, "skirt": skirt, "sleeves": sleeves, "body": bodies}
    )
    items["title"] = [f"{row.body} dress, {row.collar} collar, {row.skirt} skirt" for row in items.itertuples()]
    items.to_csv(folder / "items.csv", index=False)
    (folder / "pictures").mkdir()
    regions = []
    for item in range(ITEMS):
        has_collar, has_stripes, has_sleeves = has[item].tolist()
        picture = dress(bodies[item], has_collar, has_stripes, has_sleeves, rng)
        picture.save(folder / "pictures" / f"{item}.png")
        regions.append(colours(picture))
    np.savez(folder / "regions_feat.npz", ids=np.arange(ITEMS), values=np.stack(regions))
    (folder / "regions_feat.json").write_text(json.dumps({"regions": SIDE}))
    bought = [rng.choice(np.flatnonzero(has[:, user % 2]), BOUGHT, replace=False) for user in range(USERS)]
    pd.DataFrame({"user": np.repeat(np.arange(USERS), BOUGHT), "item": np.concatenate(bought)}).to_csv(
        folder / "interactions.csv", index=False
    )
    script = runpy.run_path(str(ROOT / "data_scripts" / "attribute_regions.py"))
    script["main"]([str(folder), "--columns", "collar,skirt,sleeves", "--hidden", "0", "--lr", "0.1", "--threshold", "0.5"])
    return items


def trained(folder: Path, model: str, modality: str, **settings: Any) -> Run:
    data = {"path": str(folder), "modalities": modality}
    return run(read_config(model, {"data": data, "train": TRAIN, "model": {"dim": 16, "l2": 0.0, **settings}}))


def save(name: str, made: Run, folder: Path, item: int) -> None:
    """One item as two users see it, side by side where there is room, else one below the other."""
    drawn = []
    for user in (0, 1):
        path = folder / f"{name}{user}.png"
        draw(made.explanation(user, item), path, Image.open(folder / "pictures" / f"{item}.png"))
        whole = Image.open(path).convert("RGB")
        left, top, right, bottom = ImageOps.invert(whole).getbbox() or (0, 0, *whole.size)
        drawn.append(whole.crop((left - 15, top - 15, right + 15, bottom + 15)))
    (wide, high), is_narrow = drawn[0].size, drawn[0].width < WIDTH / 2
    page = Image.new("RGB", (wide + drawn[1].width, high) if is_narrow else (wide, high + drawn[1].height), "white")
    for position, picture in enumerate(drawn):
        page.paste(picture, (position * wide, 0) if is_narrow else (0, position * high))
    page.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        items = make(folder)
        both = items[(items["collar"] == "red") & (items["skirt"] == "striped")]["item"]
        named = "attribute_regions"
        runs = {
            "explain_regions": trained(folder, "vecf", "regions", predictor="dot", merge="add", dim=32, init_std=0.3),
            "explain_attributes": trained(folder, "saers", named, slots="given", regions=named, num_slots=3),
        }
        for name, made in runs.items():
            save(name, made, folder, int(both.iloc[0]))


if __name__ == "__main__":
    main()
