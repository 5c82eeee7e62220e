"""``gmmrec data features`` from arguments to files, with encoders that need no package."""

import json

import pytest
import torch

import gmmrec
from gmmrec.cli.main import main
from gmmrec.data.load import load_dataset
from gmmrec.data.tokens import TokenNames
from tests.data.encode.tiny import HashWords, MeanColour, colour, save_picture


@pytest.fixture(autouse=True)
def encoders(monkeypatch):
    monkeypatch.setattr("gmmrec.data.encode.encoders.load_image_encoder", lambda name, device: MeanColour())
    monkeypatch.setattr("gmmrec.data.encode.encoders.load_text_encoder", lambda name, device: HashWords())


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user,item\nann,007\nann,8\nbob,9\nbob,x\n")
    (folder / "items.csv").write_text("item,title,code,kind\n007,red fish,11,\n8,,12,cat\n9,,,\nx,8,13,blue\n")
    for row, name in enumerate(("007", "8")):
        save_picture(folder / "pictures" / f"{name}.png", row)
    for row, name in enumerate(("11", "13")):
        save_picture(folder / "codes" / f"{name}.png", row + 2)
    return folder


def run(capsys, *arguments):
    code = main(["data", "features", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def values_of(data, name, item):
    dataset = load_dataset(data)
    row = dataset.vocabularies["item"].rows([item])[0]
    return dataset.features[name].values[row], bool(dataset.features[name].present[row])


def test_pictures_by_id(data, capsys):
    code, out, _ = run(capsys, "-d", data, "--image", data / "pictures", "--encoder", "e")
    assert code == 0
    assert "modality image  2 of 4 items, 3 numbers each (float16)\n" in out
    assert "missing         2, masked: '9' (no image), 'x' (no image); all are in image_feat.missing.csv\n" in out
    vector, present = values_of(data, "image", "007")
    assert present
    assert torch.allclose(vector * 255, torch.tensor(colour(0)).float(), atol=0.1)
    assert not values_of(data, "image", "x")[1]


def test_pictures_by_another_column(data, capsys):
    flags = ("--image", data / "codes", "--image-column", "code", "--name", "looks", "--json")
    code, out, _ = run(capsys, "-d", data, *flags, "--encoder", "e")
    assert code == 0
    assert json.loads(out)["shape"] == [2, 3]
    assert torch.allclose(values_of(data, "looks", "x")[0] * 255, torch.tensor(colour(3)).float(), atol=0.1)
    assert not values_of(data, "looks", "9")[1]


def test_texts_are_joined_and_titles_that_repeat_the_id_are_dropped(data, capsys):
    code, out, _ = run(capsys, "-d", data, "--text", "title,kind", "--encoder", "e")
    assert code == 0
    assert "masked: '9' (no text);" in out
    words = HashWords()
    assert torch.allclose(values_of(data, "text", "8")[0], words.word("cat"), atol=2e-3)  # and not "8. cat"
    assert torch.allclose(values_of(data, "text", "x")[0], (words.word("8.") + words.word("blue")) / 2, atol=2e-3)


def test_the_tokens_of_a_text_are_stored(data, capsys, monkeypatch):
    class Spelling(HashWords):
        def pieces(self, texts, count):
            return [text.split()[:count] for text in texts]

    monkeypatch.setattr("gmmrec.data.encode.encoders.load_text_encoder", lambda name, device: Spelling())
    assert run(capsys, "-d", data, "--text", "title", "--tokens", 3, "--encoder", "e")[0] == 0
    assert load_dataset(data).features["text"].tokens == TokenNames("pieces", pieces={"007": "red fish", "x": "8"})


def test_tokens_and_regions_have_a_token_axis(data, capsys):
    assert run(capsys, "-d", data, "--text", "title", "--tokens", 3, "--encoder", "e")[0] == 0
    code, out, _ = run(
        capsys, "-d", data, "--image", data / "pictures", "--regions", 2, "--dim", 2, "--batch_size", 1, "--encoder", "e"
    )
    assert code == 0
    assert "4 tokens of 2 numbers each" in out
    assert load_dataset(data).features["image"].tokens == TokenNames("grid", size=2)
    assert "to 2 principal components, which keep 100.0% of the variance" in out
    features = load_dataset(data).features
    assert features["text"].values.shape == (4, 3, 4)
    assert features["image"].values.shape == (4, 4, 2)


def test_bundled_data_need_a_folder_to_write_to(data, tmp_path, capsys):
    code, _, err = run(capsys, "-d", "movies-small", "--text", "title", "--encoder", "e")
    assert code == 2
    assert "give --out" in err
    code, _, _ = run(capsys, "-d", data, "--text", "title", "--encoder", "e", "--out", tmp_path / "elsewhere")
    assert code == 0
    assert (tmp_path / "elsewhere" / "text_feat.npz").is_file()
    assert not (data / "text_feat.npz").exists()


def test_tables_of_other_layouts_do_not_read_feature_files(data, tmp_path, capsys):
    assert main(["data", "convert", "-d", str(data), "--to", "atomic", "--out", str(tmp_path / "atomic")]) == 0
    for source in (tmp_path / "atomic", data / "interactions.csv"):
        code, _, err = run(capsys, "-d", source, "--text", "title", "--encoder", "e")
        assert code == 2
        assert "feature files are read from data folders only" in err or "has no table of items" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--text", "titel"), "no column 'titel' (did you mean 'title'?)"),
        (("--text", "title", "--regions", "7"), "apply to --image"),
        (("--text", "title", "--name", "a/b"), "letters, digits"),
        (("--text", "title", "--name", "user_bio"), "would not be read as item features"),
        (("--image", "nowhere"), "there is no image folder 'nowhere'"),
        (("--image", ".", "--tokens", "7"), "--tokens applies to --text"),
        (("--text", "title", "--batch_size", "0"), "batch_size must be greater than 0"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(data, capsys, flags, message):
    code, _, err = run(capsys, "-d", data, "--encoder", "e", *flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(data.glob("*_feat*"))


def test_an_existing_modality_is_not_replaced(data, capsys):
    assert run(capsys, "-d", data, "--text", "title", "--encoder", "e")[0] == 0
    code, _, err = run(capsys, "-d", data, "--text", "kind", "--encoder", "e")
    assert code == 2
    assert "shop already has a modality 'text'" in err


@pytest.fixture
def films(tmp_path):
    """Films and their makers; entities have titles, some a folder with two pictures, the second of which is unused."""
    folder = tmp_path / "films"
    folder.mkdir()
    films = {"/m/heat": "/m/mann", "/m/ali": "/m/mann", "/m/alien": "/m/scott", "/m/legend": "/m/scott"}
    lines = [f"{film},directed_by,{who},train" for film, who in films.items() if film != "/m/legend"]
    lines += ["/m/legend,directed_by,/m/scott,test", "/m/heat,genre,crime,valid", "/m/ali,genre,crime,train"]
    (folder / "triples.csv").write_text("head,relation,tail,split\n" + "\n".join(lines) + "\n")
    (folder / "entities.csv").write_text("entity,title\n/m/heat,los angeles\n/m/ali,a boxer\n/m/alien,a cat in space\n")
    for row, name in enumerate(("m.heat", "m.scott")):
        save_picture(folder / "pictures" / name / "a.png", row)
        save_picture(folder / "pictures" / name / "b.png", row + 50)
    return folder


def test_features_of_entities_are_loaded_and_trained_on(films, capsys):
    code, out, _ = run(
        capsys, "-d", films, "--of", "entity", "--image", films / "pictures", "--regions", 2, "--encoder", "e", "--batch_size", 2
    )
    assert code == 0
    assert "modality entity_image  2 of 7 entities, 4 tokens of 3 numbers each" in out
    assert run(capsys, "-d", films, "--of", "entity", "--text", "title", "--tokens", 4, "--encoder", "e")[0] == 0
    dataset = load_dataset(films)
    assert {name: table.node_type for name, table in dataset.features.items()} == dict.fromkeys(
        ("entity_image", "entity_text"), "entity"
    )
    ids, image, text = dataset.vocabularies["entity"], *(dataset.features[f"entity_{name}"] for name in ("image", "text"))
    assert ids.ids(image.present.nonzero().flatten()) == ["/m/heat", "/m/scott"]
    assert ids.ids(text.present.nonzero().flatten()) == ["/m/heat", "/m/ali", "/m/alien"]  # titles that repeat the id are dropped
    row = int(ids.rows(["/m/scott"])[0])
    assert torch.allclose(image.values[row] * 255, torch.tensor(colour(1)).float(), atol=0.1)
    found = gmmrec.fit(films, "mkgformer", dim=8, epochs=1, progress=False)
    assert (found.model.texts, found.model.pictures) == (("entity_text",), ("entity_image",))
    assert found.history.epochs[0].terms["entities"] > 0  # entities with features; 0 without any


def test_features_of_entities_next_to_those_of_items(data, capsys):
    (data / "triples.csv").write_text("head,relation,tail\na,likes,b\nb,likes,c\n")
    (data / "entities.csv").write_text("entity,about\na,red fish\nc,cat\n")
    assert run(capsys, "-d", data, "--of", "entity", "--text", "about", "--name", "words", "--encoder", "e")[0] == 0
    assert run(capsys, "-d", data, "--text", "title", "--encoder", "e")[0] == 0
    features = load_dataset(data).features
    assert {name: table.node_type for name, table in features.items()} == {"entity_words": "entity", "text": "item"}
    assert features["entity_words"].present.tolist() == [True, True, False]
    code, _, err = run(capsys, "-d", data, "--text", "title", "--name", "entity_title", "--encoder", "e")
    assert code == 2
    assert "would be read as features of entities" in err


def test_a_node_type_without_nodes_is_refused(data, films, capsys):
    for folder, flags, message in (
        (films, (), "films has no items; use --of entity"),
        (data, ("--of", "entity"), "shop has no entities; use --of item"),
    ):
        code, _, err = run(capsys, "-d", folder, "--text", "title", "--encoder", "e", *flags)
        assert code == 2
        assert message in err
