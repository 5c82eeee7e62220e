"""Tables that do not meet: refused, or warned of with the rule; what looks like a failed match is no node, a cold item is one."""

import logging

import numpy as np
import pandas as pd
import pytest

import gmmrec
from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

ITEMS = [f"i{number:02d}" for number in range(20)]
LOG = pd.DataFrame(
    [(f"u{user:02d}", ITEMS[(user * 3 + step) % 20]) for user in range(12) for step in range(8)], columns=["user", "item"]
)
NUMBERED = LOG.assign(item=LOG["item"].str[1:].astype(int))
VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


@pytest.fixture
def folder(tmp_path):
    LOG.to_csv(tmp_path / "interactions.csv", index=False)
    return tmp_path


def message(source, **tables):
    with pytest.raises(DataError) as caught:
        load_dataset(source, **tables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def items_of(source, **tables):
    return set(load_dataset(source, **tables).vocabularies["item"].ids())


def test_float_ids_of_a_table_are_refused_with_the_rule(tmp_path):
    NUMBERED.to_csv(tmp_path / "interactions.csv", index=False)
    pd.DataFrame({"item": np.arange(20.0), "title": "Film"}).to_csv(tmp_path / "items.csv", index=False)
    text = message(tmp_path)
    assert "no id of items.csv (such as '0.0') occurs among the 20 items of the interactions (such as '0')" in text
    assert "without the ending '.0', 20 would ('0.0' is '0')" in text


def test_features_named_like_files_are_refused_from_python_and_from_files(folder):
    ids = [f"{item}.jpg" for item in ITEMS]
    assert "'i00.jpg' is 'i00'" in message(LOG, features={"image": (ids, VECTORS)})
    np.savez(folder / "image_feat.npz", ids=np.array(ids), values=VECTORS)
    assert "no id of image_feat.npz (such as 'i00.jpg')" in message(folder)


@pytest.mark.parametrize(
    ("rewrite", "rule"),
    [
        (str.upper, "regardless of letter case"),
        (lambda item: f"0{item}", "without leading zeros"),
        (lambda item: f"product_{item}", "regardless of"),
        (lambda item: f"x{item[1:]}", "by number"),
        (lambda item: f"b'{item}'", "without the b''"),
    ],
)
def test_tables_without_a_common_id_are_refused(folder, rewrite, rule):
    pd.DataFrame({"item": [rewrite(item) for item in ITEMS], "title": "Film"}).to_csv(folder / "items.csv", index=False)
    text = message(folder)
    assert "no id of items.csv" in text
    assert rule in text or rule == "regardless of"  # another prefix after letters follows no rule


def test_users_are_compared_too(folder):
    (folder / "users.csv").write_text("user,age\nU00,3\nU01,4\n")
    assert "no id of users.csv (such as 'U00') occurs among the 12 users of the interactions" in message(folder)
    assert "no id of modality 'user_bio' (such as 'x')" in message(LOG, features={"user_bio": (["x"], [[1.0]])})


def test_half_a_match_is_warned_of_and_makes_no_items(caplog):
    numbers = pd.DataFrame({"item": [f"{number:02d}" for number in range(20)], "title": "Film"})
    log = NUMBERED.astype({"item": str})
    assert items_of(log, items=numbers) == {str(number) for number in range(20)}
    text = caplog.text
    assert "the frame of items: 10 of 20 ids occur among the 20 items of the interactions" in text
    assert "without leading zeros, 10 more would ('00' is '0'); 10 ids that do not are left out" in text


def test_a_single_failed_match_among_cold_items_makes_no_item(caplog):
    items = pd.DataFrame({"item": [*ITEMS[:-1], "I19", "new1", "new2"], "title": "Film"})
    assert items_of(LOG, items=items) == {*ITEMS, "new1", "new2"}
    assert "'I19' is 'i19'); 1 ids that do not are left out" in caplog.text


def test_a_table_that_hardly_meets_makes_no_items(caplog):
    ids = [*ITEMS[:2], *(f"other{number}!" for number in range(18))]
    dataset = load_dataset(LOG, features={"image": (ids, VECTORS)})
    assert set(dataset.vocabularies["item"].ids()) == set(ITEMS)
    assert dataset.features["image"].present.sum() == 2
    rows = dataset.vocabularies["item"].rows(ITEMS[:2])
    assert np.array_equal(dataset.features["image"].values[rows].numpy(), VECTORS[:2])
    assert "modality 'image': 2 of 20 ids occur among the 20 items of the interactions, but not 'other0!', 'other1!'" in caplog.text
    assert "18 ids that do not are left out" in caplog.text


def test_cold_items_stay_without_a_word(caplog):
    items = pd.DataFrame({"item": [*ITEMS, "new1", "new2"], "title": "Film"})
    cold = {"image": (["new2", "new1"], VECTORS[:2]), "text": (ITEMS, VECTORS)}  # a modality of new items alone
    dataset = load_dataset(LOG, items=items, features=cold)
    assert set(dataset.vocabularies["item"].ids()) == {*ITEMS, "new1", "new2"}
    assert [record for record in caplog.records if "ids occur" in record.getMessage()] == []
    run = gmmrec.fit(load_dataset(LOG, items=items), "popularity")
    assert {"new1", "new2"} <= set(run.recommend(k=22)["item_id"])


def test_a_large_catalogue_is_all_cold():
    items = pd.DataFrame({"item": [*ITEMS, *(f"n{number}" for number in range(2000))]})
    assert len(items_of(LOG, items=items)) == 2020


def test_ids_that_are_off_by_one_are_warned_of(caplog):
    load_dataset(NUMBERED.assign(item=NUMBERED["item"] + 1), items=pd.DataFrame({"item": range(20), "title": "Film"}))
    assert "its ids run from 0 to 19, those of the interactions from 1 to 20" in caplog.text
    assert "add 1 to its ids" in caplog.text
    caplog.clear()
    load_dataset(NUMBERED, items=pd.DataFrame({"item": range(1, 21), "title": "Film"}))
    assert "add -1 to its ids" in caplog.text
    caplog.clear()
    load_dataset(NUMBERED, items=pd.DataFrame({"item": range(20), "title": "Film"}))
    assert "ids run" not in caplog.text


def test_strings_and_integers_name_the_rule():
    text = message(LOG.assign(item=LOG["item"].str[1:]), features={"image": (list(range(20)), VECTORS)})
    assert "item ids are strings such as '00' in the interactions but integers such as 0 in modality 'image'" in text
    assert "without leading zeros, '00' would be 0" in text


def test_all_pairs_of_tables_are_counted(folder):
    pd.DataFrame({"item": [*ITEMS[:10], "new"]}).to_csv(folder / "items.csv", index=False)
    pd.DataFrame({"user": ["u00", "nobody"]}).to_csv(folder / "users.csv", index=False)
    np.savez(folder / "image_feat.npz", ids=np.array(ITEMS), values=VECTORS)
    (folder / "triples.csv").write_text("head,relation,tail\np,r,q\nq,r,s\n")
    (folder / "alignment.csv").write_text("item,entity\ni00,p\ni01,s\ni02,gone\n")
    (folder / "entities.csv").write_text("entity\np\nq\n")
    found = {(o.node_type, o.table, o.other): (o.ids, o.other_ids, o.common) for o in load_dataset(folder).overlaps}
    assert found == {
        ("user", "users.csv", "the interactions"): (2, 12, 1),
        ("item", "items.csv", "the interactions"): (11, 20, 10),
        ("item", "image_feat.npz", "the interactions"): (20, 20, 20),
        ("item", "alignment.csv", "the interactions"): (3, 20, 3),
        ("entity", "entities.csv", "the triples"): (2, 3, 2),
        ("entity", "alignment.csv", "the triples"): (3, 3, 2),
    }


def test_triples_and_alignments_that_do_not_meet_are_refused(folder):
    (folder / "triples.csv").write_text("head,relation,tail\nQ1,r,Q2\nQ2,r,Q3\n")
    (folder / "alignment.csv").write_text("item,entity\nI00,Q1\nI01,Q2\n")
    assert "no id of alignment.csv (such as 'I00') occurs among the 20 items" in message(folder)
    (folder / "alignment.csv").write_text("item,entity\ni00,wd:Q1\ni01,wd:Q2\n")
    text = message(folder)
    assert "no id of alignment.csv (such as 'wd:Q1') occurs among the 3 entities of the triples (such as 'Q1')" in text
    assert "'wd:Q1' is 'Q1'" in text
    (folder / "alignment.csv").unlink()
    (folder / "entities.csv").write_text("entity,title\nq1,One\n")
    assert "no id of entities.csv (such as 'q1')" in message(folder)


def test_outfits_name_the_rule_of_unknown_items(folder):
    (folder / "outfits.csv").write_text("items,user\ni00 i01,u00\ni02 I03,u01\n")
    assert "holds the unknown item 'I03' (regardless of letter case, 'I03' is 'i03'); add it to items.csv" in message(folder)
    (folder / "outfits.csv").write_text("items,user\ni00 i01,U00\ni02 i03,U01\n")
    assert "no id of the outfits (such as 'U00') occurs among the 12 users" in message(folder)
    (folder / "outfits.csv").write_text("items,user\ni00 i01, u00\ni02 i03,u01 \n")
    dataset = load_dataset(folder)
    assert dataset.outfits.user.tolist() == dataset.vocabularies["user"].rows(["u00", "u01"]).tolist()
    assert ("item", "the outfits", 4) in {(o.node_type, o.table, o.common) for o in dataset.overlaps}


def test_an_aligned_entity_is_never_found_by_rounding(folder):
    """``1.5`` and ``01`` are no spelling of 1."""
    (folder / "triples.csv").write_text("head,relation,tail\n1,r,2\n2,r,3\n")
    (folder / "alignment.csv").write_text("item,entity\ni00,1.5\ni01,01\ni02,3\n")
    triples = load_dataset(folder).triples
    assert triples.entity[triples.entity >= 0].tolist() == [2]


def test_a_data_set_of_triples_alone_has_nothing_to_meet(tmp_path, caplog):
    (tmp_path / "triples.csv").write_text("head,relation,tail\n1,r,2\n")
    (tmp_path / "items.csv").write_text("item,title\na,A\n")
    with caplog.at_level(logging.WARNING):
        assert load_dataset(tmp_path).vocabularies["item"].ids() == ["a"]
    assert caplog.text == ""


def test_parts_of_another_spelling_are_warned_of(tmp_path, caplog):
    header = "user_id:token\titem_id:token\n"
    rows = {"train": [f"{user}\t{item}" for user in range(10) for item in "ab"], "test": [f"{user}.0\ta" for user in range(10)]}
    for part, lines in rows.items():
        (tmp_path / f"s.{part}.inter").write_text(header + "\n".join(lines) + "\n")
    load_dataset(tmp_path)
    assert "10 of 10 held-out users have no training interaction, but without the ending '.0', 10 of them would" in caplog.text
    assert "items have no training" not in caplog.text
    caplog.clear()
    (tmp_path / "s.test.inter").write_text(header + "\n".join(f"new{user}\ta" for user in "xyz") + "\n")
    load_dataset(tmp_path)  # users who are new
    assert caplog.text == ""
