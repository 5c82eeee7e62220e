import logging

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.transforms import RandomLinkSplit, ToUndirected

from gmmrec.data.dataset import Dataset
from gmmrec.data.parts import TEST, TRAIN, VALID
from gmmrec.data.split import split_dataset
from gmmrec.errors import DataError
from gmmrec.graph.build import build_graph
from gmmrec.testing import rated_checkerboard


def movie_lens():
    """Graph in the layout of PyG's MovieLens: features of movies, ratings as edge labels, times."""
    data = HeteroData()
    data["movie"].x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    data["user"].num_nodes = 2
    data["user", "rates", "movie"].edge_index = torch.tensor([[0, 1, 1], [2, 0, 2]])
    data["user", "rates", "movie"].edge_label = torch.tensor([4, 5, 1])
    data["user", "rates", "movie"].time = torch.tensor([1_000_000_000, 1_000_000_001, 1_000_000_002])
    return data


def test_users_rate_movies():
    dataset = Dataset.from_pyg(movie_lens(), item="movie", name="movies")
    assert dataset.name == "movies"
    assert dataset.vocabularies["user"].ids() == [0, 1]
    assert dataset.vocabularies["item"].ids() == [0, 1, 2]
    log = dataset.interactions
    assert log.user.tolist() == [0, 1, 1]
    assert log.item.tolist() == [2, 0, 2]
    assert log.weight.tolist() == [4.0, 5.0, 1.0]
    assert log.time.tolist() == [1_000_000_000, 1_000_000_001, 1_000_000_002]
    table = dataset.features["x"]
    assert table.node_type == "item"
    assert table.mask.tolist() == [True, False, True]  # a row of zeros is missing
    assert table.values.tolist() == [[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]


def test_other_nodes_and_edges_are_ignored():
    dataset = Dataset.from_pyg(movie_lens(), item="movie", rating="none", time="none")
    assert dataset.interactions.weight is None
    assert dataset.interactions.time is None
    assert Dataset.from_pyg(movie_lens(), item="movie", rating="time").interactions.weight[0] == 1e9


def test_reversed_edges_and_edge_index_objects_give_the_same():
    plain, twice, reverse, typed = movie_lens(), ToUndirected()(movie_lens()), movie_lens(), movie_lens()
    store = reverse["user", "rates", "movie"]
    reverse["movie", "rated_by", "user"].update({**store.to_dict(), "edge_index": store.edge_index.flip(0)})
    del reverse["user", "rates", "movie"]
    typed["user", "rates", "movie"].edge_index = EdgeIndex(store.edge_index, sparse_size=(2, 3))
    expected = Dataset.from_pyg(plain, item="movie").interactions
    for data in (twice, reverse, typed):
        log = Dataset.from_pyg(data, item="movie").interactions
        for name, column in expected.columns().items():
            assert torch.equal(getattr(log, name), column)
        assert type(log.user) is torch.Tensor


def test_labels_of_a_link_split_are_not_ratings():
    transform = RandomLinkSplit(0.3, 0.3, neg_sampling_ratio=0.0, edge_types=("user", "rates", "movie"))
    data = movie_lens()
    del data["user", "rates", "movie"].edge_label
    train = transform(data)[0]
    store = train["user", "rates", "movie"]
    assert len(store.edge_label) == store.edge_index.shape[1]
    assert Dataset.from_pyg(train, item="movie").interactions.weight is None


def test_ids_titles_and_further_features():
    data = movie_lens()
    data["movie"].movie_id = ["m7", "m8", "m9"]
    data["movie"].name = ["Alien", "Brazil", "Casablanca"]
    data["movie"].year = torch.tensor([1979, 1985, 1942])
    data["movie"].frames = torch.ones(3, 2, 4).half()
    data["movie"].frames[1] = torch.nan
    data["movie"].frames_mask = torch.tensor([[True, False], [False, False], [True, True]])
    data["user"].node_id = torch.tensor([30, 10])
    data["user"].x = torch.tensor([[1, 0], [0, 1]])
    dataset = Dataset.from_pyg(data, item="movie")
    assert dataset.vocabularies["item"].ids() == ["m7", "m8", "m9"]
    assert dataset.vocabularies["user"].ids() == [30, 10]
    assert dataset.attributes["item"]["title"].tolist() == ["Alien", "Brazil", "Casablanca"]
    assert dataset.attributes["item"]["year"].tolist() == [1979, 1985, 1942]
    assert "user" not in dataset.attributes
    assert dataset.features["frames"].mask.tolist() == [[True, False], [False, False], [True, True]]
    assert dataset.features["user_x"].node_type == "user"
    assert dataset.features["user_x"].values.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rows_of_nan_are_missing_and_single_nans_are_refused():
    data = movie_lens()
    data["movie"].x[0] = torch.nan
    assert Dataset.from_pyg(data, item="movie").features["x"].mask.tolist() == [False, False, True]
    data["movie"].x[0, 1] = 1.0
    with pytest.raises(DataError, match="features 'x' hold NaN or infinity in row 0"):
        Dataset.from_pyg(data, item="movie")


def test_masks_of_edges_are_the_split():
    data = movie_lens()
    for number, name in enumerate(("train_mask", "val_mask", "test_mask")):
        data["user", "rates", "movie"][name] = torch.arange(3) == number
    assert Dataset.from_pyg(data, item="movie").given_split.tolist() == [TRAIN, VALID, TEST]
    data["user", "rates", "movie"].val_mask[:] = False
    with pytest.raises(DataError, match="1 of 3 edges user-rates-movie are in no part"):
        Dataset.from_pyg(data, item="movie")


def test_a_graph_becomes_the_data_set_of_its_training_interactions():
    board, _ = rated_checkerboard()
    split = split_dataset(board, generator=torch.Generator().manual_seed(0))
    dataset = Dataset.from_pyg(build_graph(board, split).to_pyg())
    pairs = {(u, i): w for u, i, w in zip(*(getattr(split.train, n).tolist() for n in ("user", "item", "weight")), strict=True)}
    log = dataset.interactions
    assert {(u, i): w for u, i, w in zip(log.user.tolist(), log.item.tolist(), log.weight.tolist(), strict=True)} == pairs
    assert set(dataset.features) == {"image", "text"}
    for name, table in board.features.items():
        assert torch.equal(dataset.features[name].values, table.values)
        assert torch.equal(dataset.features[name].mask, table.mask)


def test_a_graph_without_ratings_has_no_weights():
    board, _ = rated_checkerboard()
    log = type(board.interactions)(board.interactions.user, board.interactions.item)
    board = Dataset("plain", board.vocabularies, log)
    graph = build_graph(board, split_dataset(board, generator=torch.Generator().manual_seed(0)))
    assert Dataset.from_pyg(graph.to_pyg()).interactions.weight is None  # edge_weight is a normalization


def test_repeated_pairs_are_reported(caplog):
    data = movie_lens()
    data["user", "rates", "movie"].edge_index = torch.tensor([[0, 1, 1], [2, 0, 0]])
    with caplog.at_level(logging.WARNING):
        assert len(Dataset.from_pyg(data, item="movie").interactions) == 3
    assert "1 user-item pairs repeat and are kept" in caplog.text


def test_messages():
    data = movie_lens()
    with pytest.raises(DataError, match="the data has no node type 'item'; it has 'movie', 'user', so set item to one of them"):
        Dataset.from_pyg(data)
    with pytest.raises(DataError, match="user and item are both 'movie'"):
        Dataset.from_pyg(data, "movie", "movie")
    with pytest.raises(
        DataError, match=r"no edges 'likes' join 'user' and 'movie'; those that do are \('user', 'rates', 'movie'\)"
    ):
        Dataset.from_pyg(data, item="movie", edge="likes")
    with pytest.raises(DataError, match="have no attribute 'stars'; they have 'edge_index', 'edge_label', 'time', so set rating"):
        Dataset.from_pyg(data, item="movie", rating="stars")
    data["user", "likes", "movie"].edge_index = torch.tensor([[1], [1]])
    with pytest.raises(DataError, match=r"several edge types join 'user' and 'movie': .*; set edge to one of them"):
        Dataset.from_pyg(data, item="movie")
    assert Dataset.from_pyg(data, item="movie", edge="likes").interactions.item.tolist() == [1]
    assert len(Dataset.from_pyg(data, item="movie", edge=("user", "rates", "movie")).interactions) == 3
    data["user", "rates", "movie"].edge_index[1, 0] = 3
    with pytest.raises(DataError, match="the edges user-rates-movie join node 3, but there are 3 'movie' nodes"):
        Dataset.from_pyg(data, item="movie", edge="rates")
    data["genre"].num_nodes = 2
    with pytest.raises(DataError, match="no edges join 'user' and 'genre'; the edge types are"):
        Dataset.from_pyg(data, item="genre")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("id", torch.tensor([1, 1, 2]), "cannot serve as ids: item id 1 occurs more than once"),
        ("id", torch.tensor([1, 2]), "must hold an integer or a string for each of 3 nodes, but holds 2 values"),
        ("id", torch.tensor([0.5, 1, 2]), "but holds 3 values such as 0.5"),
        ("x_mask", torch.ones(3, 2, dtype=torch.bool), r"'x_mask' of 'movie' has shape \(3, 2\), but 'x' needs \(3,\)"),
    ],
)
def test_messages_about_nodes(name, values, message):
    data = movie_lens()
    data["movie"][name] = values
    with pytest.raises(DataError, match=message):
        Dataset.from_pyg(data, item="movie")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("time", torch.tensor([1, -2, 3]), "the edges user-rates-movie row 1 has -2 in column 'time', which is negative"),
        ("time", torch.tensor([1.0, torch.nan, 3]), "the edges user-rates-movie row 1 has no value in column 'time'"),
        ("time", torch.tensor([1e9, 1.1e9, 1.2e9]), "a float32 that is rounded to steps of minutes; read times as float64"),
        ("time", torch.tensor([2018, 2019, 2020]), "a year or a plain number; set time_format to 'year'"),
        ("edge_label", torch.tensor([1.0, torch.inf, 3]), "ratings of user-rates-movie hold NaN or infinity"),
    ],
)
def test_messages_about_edges(name, values, message):
    data = movie_lens()
    data["user", "rates", "movie"][name] = values
    with pytest.raises(DataError, match=message):
        Dataset.from_pyg(data, item="movie")
