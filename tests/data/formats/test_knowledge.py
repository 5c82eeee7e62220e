"""Reader of knowledge graphs in the layouts of public benchmarks, and its error messages."""

import numpy as np
import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.data.filter import k_core
from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.data.write import write_folder
from gmmrec.errors import DataError


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def raw_triples(dataset):
    """Return every triple in raw ids, with its part."""
    triples, entity, relation = dataset.triples, dataset.vocabularies["entity"], dataset.vocabularies["relation"]
    return list(
        zip(entity.ids(triples.head), relation.ids(triples.relation), entity.ids(triples.tail), triples.part.tolist(), strict=True)
    )


def test_numbered_triples_with_entity_names(tmp_path):
    """MKG-W, MKG-Y: numbers in the triples, ``entity2id.txt`` with names separated by spaces, features by row."""
    write(
        tmp_path,
        train__txt="0\t0\t1\n2\t1\t1\n",
        valid__txt="2\t0\t0\n",
        test__txt="1\t1\t0\n",
        entity2id__txt="New_York 0\nLibreville 1\nPluto 2\nNobody 3\n",
        relations__txt="0\n1\n2\n",
    )
    np.save(tmp_path / "image_feat.npy", np.eye(4, dtype=np.float32))
    dataset = load_dataset(tmp_path)
    assert raw_triples(dataset) == [(0, 0, 1, 0), (2, 1, 1, 0), (2, 0, 0, 1), (1, 1, 0, 2)]
    assert dataset.vocabularies["entity"].ids() == [0, 1, 2, 3]  # including entities without a triple
    assert dataset.vocabularies["relation"].ids() == [0, 1]  # but no relations without a triple
    assert dataset.attributes["entity"]["title"].tolist() == ["New York", "Libreville", "Pluto", "Nobody"]
    assert dataset.features["image"].node_type == "entity"
    assert torch.equal(dataset.features["image"].values, torch.eye(4))
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (0, 0, 0)


def test_named_triples_with_features_by_entity_number(tmp_path):
    """DB15K: names in the triples; ``entity2id.txt`` gives the row of every entity in feature arrays."""
    write(tmp_path, train__txt="a\tlikes\tb\nb\tlikes\tc\n", test__txt="c\tlikes\ta\n")
    write(tmp_path, entity2id__txt="3\nb\t2\na\t0\nc\t1\n", relation2id__txt="1\nlikes\t0\n")
    np.save(tmp_path / "image_feat.npy", np.array([[10.0], [11.0], [12.0]]))
    dataset = load_dataset(tmp_path)
    rows = dataset.vocabularies["entity"].rows(["a", "b", "c"])
    assert dataset.features["image"].values[rows].flatten().tolist() == [10.0, 12.0, 11.0]
    assert raw_triples(dataset)[-1] == ("c", "likes", "a", 2)


def test_triples_with_texts(tmp_path):
    """FB15k-237-IMG: ``train.tsv``, ``dev.tsv``, ``test.tsv``, texts with spaces, features with ids."""
    write(
        tmp_path,
        train__tsv="/m/01\t/people/born in\t/m/02\n/m/03\t/people/born in\t/m/02\n",
        dev__tsv="/m/02\t/loc/contains\t/m/01\n",
        test__tsv="/m/01\t/loc/contains\t/m/03\n",
        entity2text__txt="/m/01\tJack London\n/m/02\tSan Francisco\n",
        entity2textlong__txt="/m/01\tJack London was an author, born\tin 1876.\n",
        relation2text__txt="/people/born in\tborn in\n/no/fact\tof nothing\n",
    )
    np.savez(tmp_path / "image_feat.npz", ids=np.array(["/m/02"]), values=np.ones((1, 2, 3), np.float32))
    dataset = load_dataset(tmp_path)
    assert [triple[3] for triple in raw_triples(dataset)] == [0, 0, 1, 2]
    frame = dataset.attributes["entity"].set_index(pd.Index(dataset.vocabularies["entity"].ids()))
    assert frame.loc["/m/01", "description"] == "Jack London was an author, born\tin 1876."
    assert frame.loc["/m/03", "title"] == "/m/03"  # entities without a title are titled by id
    assert dataset.vocabularies["relation"].ids() == ["/people/born in", "/loc/contains"]
    present = dataset.features["image"].present
    assert dataset.vocabularies["entity"].ids(present.nonzero().flatten()) == ["/m/02"]


def test_openke_puts_the_relation_last(tmp_path):
    write(tmp_path, train2id__txt="2\n0 1 7\n1 2 7\n", test2id__txt="1\n2 0 7\n", entity2id__txt="3\nx\t0\ny\t1\nz\t2\n")
    assert raw_triples(load_dataset(tmp_path)) == [(0, 7, 1, 0), (1, 7, 2, 0), (2, 7, 0, 2)]


def test_tables_of_triples_beside_interactions(tmp_path):
    write(
        tmp_path,
        interactions__csv="user,item\n1,10\n1,11\n1,12\n2,10\n2,12\n",
        triples__csv="head,relation,tail,split\nm1,actor,p1,train\nm2,actor,p1,valid\nm2,genre,g,test\n",
        entities__csv="entity,name\nm1,Heat\nm9,Alone\n",
        alignment__csv="item,entity\n10,m1\n12,m2\n99,m1\n11,unheard\n",
    )
    np.savez(tmp_path / "entity_image_feat.npz", ids=np.array(["m2"]), values=np.ones((1, 3)))
    np.savez(tmp_path / "text_feat.npz", ids=np.array([10]), values=np.ones((1, 2)))
    dataset = load_dataset(tmp_path)
    assert dataset.vocabularies["entity"].ids() == ["m1", "m9", "m2", "p1", "g"]
    assert dataset.triples.part.tolist() == [0, 1, 2]
    entity = dataset.triples.entity[dataset.vocabularies["item"].rows([10, 11, 12])]
    assert entity.tolist() == [0, -1, 2]
    assert {name: table.node_type for name, table in dataset.features.items()} == {"entity_image": "entity", "text": "item"}
    cut = k_core(dataset, 2)
    assert cut.vocabularies["item"].ids() == [10, 12]
    assert cut.triples.entity.tolist() == [0, 2]  # the alignment follows the items
    assert cut.vocabularies["entity"] == dataset.vocabularies["entity"]


def test_triples_and_alignment_of_recbole(tmp_path):
    write(
        tmp_path,
        x__inter="user_id:token\titem_id:token\n1\t7\n2\t7\n2\t8\n",
        x__kg="head_id:token\trelation_id:token\ttail_id:token\nm.1\tfilm.actor\tm.2\nm.3\tfilm.actor\tm.2\nm.1\tfilm.actor\tm.2\n",
        x__link="item_id:token\tentity_id:token\n8\tm.3\n",
    )
    dataset = load_dataset(tmp_path)
    assert raw_triples(dataset) == [("m.1", "film.actor", "m.2", 0), ("m.3", "film.actor", "m.2", 0)]  # without the repeated triple
    aligned, other = dataset.triples.entity[dataset.vocabularies["item"].rows([8, 7])]
    assert dataset.vocabularies["entity"].ids(aligned[None]) == ["m.3"]
    assert int(other) == -1


def test_recbole_triples_alone_can_be_trained_on(tmp_path):
    lines = [f"m.{i}\tnext\tm.{(i + 1) % 20}" for i in range(20)] + ['m.0\tsays\t"m.1']
    write(tmp_path, x__kg="head_id:token\trelation_id:token\ttail_id:token\n" + "\n".join(lines) + "\n")
    write(tmp_path, entities__csv="entity,name\nm.0,Zero\n")
    np.savez(tmp_path / "image_feat.npz", ids=np.array(["m.0"]), values=np.ones((1, 3)))
    dataset = load_dataset(tmp_path)
    assert raw_triples(dataset) == [(*line.split("\t"), 0) for line in lines]
    assert (dataset.num_users, dataset.num_items, dataset.features["image"].node_type) == (0, 0, "entity")
    assert dataset.attributes["entity"]["title"][0] == "Zero"
    run = gmmrec.fit(tmp_path, "mkgformer", dim=8, epochs=1, progress=False)
    assert len(run.results["test"]) == 4  # two triples, queried for both ends


@pytest.mark.parametrize("beside", ["interactions__csv", "outfits__csv"])
def test_recbole_triples_do_not_hide_other_data(tmp_path, beside):
    header = {"interactions__csv": "user,item\n1,7\n1,8\n", "outfits__csv": "items\n7 8\n"}[beside]
    write(tmp_path, x__kg="head_id:token\trelation_id:token\ttail_id:token\na\tr\tb\n", **{beside: header})
    dataset = load_dataset(tmp_path)
    assert dataset.triples is None
    assert dataset.num_items == 2


def test_tab_separated_triple_tables(tmp_path):
    write(tmp_path, triples__tsv="head\trelation\ttail\tsplit\na, b\tis\tc d\ttrain\nc d\tis\ta, b\ttest\n")
    write(tmp_path, entities__tsv="entity\ttitle\na, b\tboth\n", relations__tsv="relation\ttitle\nis\tis a\n")
    dataset = load_dataset(tmp_path)
    assert raw_triples(dataset) == [("a, b", "is", "c d", 0), ("c d", "is", "a, b", 2)]
    assert dataset.attributes["entity"]["title"].tolist() == ["both", "c d"]
    assert dataset.attributes["relation"]["title"].tolist() == ["is a"]


def test_round_trip_of_triples(tmp_path):
    write(tmp_path, train__txt="a\tr\tb\nb\tr\tc\n", valid__txt="a\tr\tc\n", test__txt="c\tr\ta\n", entities__txt="a\nb\nc\nd\n")
    np.savez(tmp_path / "text_feat.npz", ids=np.array(["a", "d"]), values=np.ones((2, 3)))
    first = load_dataset(tmp_path)
    again = load_dataset(write_folder(first, tmp_path / "new"))
    assert again.vocabularies["entity"] == first.vocabularies["entity"]
    assert raw_triples(again) == raw_triples(first)
    assert torch.equal(again.features["text"].values, first.features["text"].values)
    assert again.features["text"].node_type == "entity"


def test_triples_without_parts_are_divided_after_the_interactions(tmp_path):
    lines = "\n".join(f"e{i},r,e{i + 1}" for i in range(40))
    log = "\n".join(f"{u},{i}" for u in range(5) for i in range(12))
    write(tmp_path, interactions__csv=f"user,item\n{log}\n")
    plain = split_dataset(load_dataset(tmp_path), generator=torch.Generator().manual_seed(0))
    write(tmp_path, triples__csv=f"head,relation,tail\n{lines}\n")
    dataset = load_dataset(tmp_path)
    split = split_dataset(dataset, generator=torch.Generator().manual_seed(0))
    assert split.triples.part.bincount().tolist() == [32, 4, 4]
    assert torch.equal(split.test.item, plain.test.item)  # the split of the interactions is the same
    everything = split_dataset(dataset, SplitConfig(triples=0.0), torch.Generator().manual_seed(0))
    assert not bool(everything.triples.part.any())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train__txt": "a\tr\tb\na\tr\n"}, "train.txt line 2 must hold head, relation and tail, separated by tabs"),
        ({"train__txt": "a\tr\tb\nx\ty\tz\tw\n"}, "line 2 must hold head, relation and tail"),
        ({"train__txt": "a\tr\tb\n", "entity2id__txt": "a\n"}, "entity2id.txt line 1 must hold two fields"),
        ({"train__txt": "a\tr\tb\n", "entities__txt": "a\na\n"}, "lists entity 'a' twice"),
        ({"triples__csv": "head,tail\na,b\n"}, "triples.csv has no column 'relation'"),
        ({"triples__csv": "head,relation,tail\na,,b\n"}, "no value in column 'relation'"),
        ({"triples__csv": "head,relation,tail,split\na,r,b,later\n"}, "has a triple of part 'later'"),
        ({"x__kg": "head_id:token\ttail_id:token\na\tb\n"}, "x.kg has no column 'relation'"),
        ({"x__kg": "head\n", "y__kg": "head\n"}, "holds 2 tables of triples \\('x.kg', 'y.kg'\\); keep one"),
        ({"triples__csv": "head,relation,tail\n"}, "holds no triples below its header"),
        (
            {"triples__csv": "head,relation,tail\na,r,b\n", "alignment__csv": "item,thing\n1,a\n"},
            "alignment.csv has no column 'entity'",
        ),
        (
            {"triples__csv": "head,relation,tail\na,r,b\n", "links__csv": "item,entity\n1,a\n"},
            "links.csv aligns items with entities, but this file is now called alignment.csv; rename it",
        ),
    ],
    ids=str,
)
def test_bad_files_are_named(tmp_path, files, message):
    if any(name.startswith(("alignment", "links")) for name in files):
        files = files | {"interactions__csv": "user,item\n1,1\n2,2\n"}
    with pytest.raises(DataError, match=message):
        load_dataset(write(tmp_path, **files))


def test_links_to_other_web_sites_are_not_read_as_alignment(tmp_path):
    write(
        tmp_path,
        ratings__csv="userId,movieId\n1,1\n2,2\n",
        triples__csv="head,relation,tail\na,r,b\n",
        links__csv="movieId,imdbId,tmdbId\n1,0114709,862\n",
    )
    assert load_dataset(tmp_path).triples.entity is None


def test_an_alignment_without_known_pairs_is_refused(tmp_path):
    write(
        tmp_path,
        interactions__csv="user,item\n1,1\n",
        triples__csv="head,relation,tail\na,r,b\n",
        alignment__csv="item,entity\nx,a\n",
    )
    with pytest.raises(DataError, match="no aligned pair occurs in both"):
        load_dataset(tmp_path)


def test_the_share_of_held_out_triples_is_checked():
    with pytest.raises(ValueError, match=r"triples must be at least 0 and below 0\.5"):
        SplitConfig(triples=0.5)


def test_a_modality_may_be_called_entity_without_triples(tmp_path):
    write(tmp_path, interactions__csv="user,item\n1,10\n2,11\n")
    for name in ("entity", "entity_names"):
        np.savez(tmp_path / f"{name}_feat.npz", ids=np.array([10]), values=np.ones((1, 3)))
    features = load_dataset(tmp_path).features
    assert {name: table.node_type for name, table in features.items()} == {"entity": "item", "entity_names": "item"}
