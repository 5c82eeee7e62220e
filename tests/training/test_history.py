import csv

import pandas as pd

from gmmrec.training.history import Epoch, History, HistoryFile

EPOCHS = [Epoch(1, 2.0, {"bpr": 0.5}), Epoch(2, 4.0, {"bpr": 0.25}, 0.1), Epoch(3, 9.0, {"bpr": 0.2, "l2": 0.01}, 0.3)]


def test_frame_and_median():
    history = History("recall@20", EPOCHS)
    frame = history.to_frame()
    assert list(frame.columns) == ["epoch", "seconds", "loss/bpr", "loss/l2", "val/recall@20"]
    assert frame["val/recall@20"].tolist()[1:] == [0.1, 0.3]
    assert pd.isna(frame["val/recall@20"][0])
    assert pd.isna(frame["loss/l2"][1])
    assert history.seconds_per_epoch == 4.0


def test_nothing_trained():
    assert list(History().to_frame().columns) == ["epoch", "seconds", "val/value"]
    assert History().seconds_per_epoch == 0.0


def test_file_has_a_row_as_soon_as_an_epoch_is_over(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("left by an older run")
    file = HistoryFile(path, History("recall@20", EPOCHS[:1]))
    assert path.read_text().splitlines() == ["epoch,seconds,loss/bpr,val/recall@20", "1,2.0,0.5,"]
    inode = path.stat().st_ino
    file.append(EPOCHS[1])
    assert path.read_text().splitlines() == ["epoch,seconds,loss/bpr,val/recall@20", "1,2.0,0.5,", "2,4.0,0.25,0.1"]
    assert path.stat().st_ino == inode
    file.append(EPOCHS[2])  # a new term: all rows are rewritten
    with path.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["loss/l2"] for row in rows] == ["", "", "0.01"]
    assert [row["val/recall@20"] for row in rows] == ["", "0.1", "0.3"]
