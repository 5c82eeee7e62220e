from gmmrec.data.formats.bundled import bundled_names, read_bundled
from gmmrec.data.load import load_dataset


def test_every_bundled_data_set_loads_and_has_a_licence(request):
    for name in bundled_names():
        assert len(read_bundled(name).log)
        folder = request.config.rootpath / "gmmrec" / "data" / "bundled" / name
        assert "Citation" in (folder / "LICENSE.txt").read_text()
        assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000


def test_movies_small_matches_its_readme():
    dataset = load_dataset("movies-small")
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (671, 9066, 100_004)
    assert dataset.features["text"].present.all()
    assert int(dataset.features["image"].present.sum()) == 3025
    assert dataset.features["text"].values.shape == (9066, 64)
    assert dataset.given_split is None
    (toy_story,) = dataset.vocabularies["item"].rows([1]).tolist()
    assert dataset.attributes["item"]["title"][toy_story] == "Toy Story (1995)"
    assert dataset.attributes["item"]["genres"][toy_story].startswith("Adventure|Animation")


def test_texts_of_movies_small_separate_genres():
    dataset = load_dataset("movies-small")
    vectors = dataset.features["text"].values
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    row = dataset.vocabularies["item"].rows([1, 3114, 2, 1214])  # Toy Story, Toy Story 2, Jumanji, Alien
    toy_story, sequel, _, alien = vectors[row]
    assert toy_story @ sequel > 0.7
    assert toy_story @ alien < 0.3
