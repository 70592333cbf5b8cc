"""What the one reader opens, keeps and refuses; conversions by hand."""

import json

import pytest
from pydantic import ValidationError

from spikeloom.base.errors import DataError, NumericalError
from spikeloom.inference.evaluate import Score
from spikeloom.records import names, units
from spikeloom.records.comparison import ComparisonRecord
from spikeloom.records.costs import EnergyRecord
from spikeloom.records.files import (
    ForeignRecord,
    open_epochs,
    open_record,
    open_run,
    save_epochs,
    save_record,
)
from spikeloom.records.run import EpochRecord, RunRecord, SourceRecord, TrainedRecord
from spikeloom.records.storage import FORMAT, NewerFormat, read_json, write_record
from spikeloom.train.loop_stage import _epoch

TRAINED = {
    "format": FORMAT,
    "name": "x",
    "seed": 1,
    "net": "f3",
    "ann_net": "f3",
    "data": "digits",
    "rule": "ann",
    "steps": 1,
    "epochs": 2,
    "train_seconds": 1.5,
    "facts": {"spiking": False},
    "curve": [],
}
ENERGY = {"net": 2.0, "driven": 0.0, "dense_ann": 3.0}
COSTS = {
    "parameters": 7,
    "spikes": {"mean": 0.0},
    "ac": {"mean": 0.0},
    "mac": {"mean": 3.0},
    "energy": {"paper_int32": ENERGY, "strict_fp32": ENERGY},
    "training": {"peak_bytes": 9, "forward_macs": 1.0, "backward_macs": 2.0},
}
RUN = TRAINED | {"test_accuracy": 0.5, "costs": COSTS}
EPOCH = {"stage": 0, "epoch": 0, "loss": 1.0, "accuracy": 0.5}


@pytest.fixture
def path(tmp_path):
    return tmp_path / names.RESULT


class TestRoundTrip:
    def test_what_was_written_is_read_to_the_key(self, path):
        write_record(path, RUN)
        record = open_record(path, RunRecord)
        assert record.table() == RUN
        save_record(path, record)
        assert read_json(path) == RUN and open_record(path, RunRecord) == record

    def test_keys_of_other_versions_are_kept(self, path):
        table = RUN | {"later": {"a": [1]}, "costs": COSTS | {"joules": 3}}
        write_record(path, table)
        assert open_record(path, RunRecord).table() == table

    def test_absent_keys_stay_absent_and_null_stays_null(self):
        assert "loss_at" not in RunRecord.model_validate(RUN).table()
        assert RunRecord.model_validate(RUN | {"loss_at": None}).table()["loss_at"] is None

    def test_epochs(self, tmp_path):
        curve = tuple(
            EpochRecord(epoch=epoch, loss=1.0, accuracy=0.5, val_accuracy=0.25, notes={"a": 2.0})
            for epoch in range(3)
        )
        save_epochs(tmp_path / names.METRICS, curve)
        assert open_epochs(tmp_path / names.METRICS) == curve

    def test_a_copy_without_some_keys(self):
        record = RunRecord.model_validate(RUN | {"source": "s", "later": 1})
        less = record.with_only(without=("source", "later"), epochs=3)
        assert less.table() == RUN | {"epochs": 3} and record.epochs == 2
        with pytest.raises(ValidationError):
            record.with_only(epochs=-1)

    def test_records_are_never_changed(self):
        record = RunRecord.model_validate(RUN)
        with pytest.raises(ValidationError, match="frozen"):
            record.seed = 2


class TestOlderNames:
    def test_the_dense_ann_was_called_ann(self):
        older = EnergyRecord.model_validate({"net": 1.0, "ann": 5.0})
        assert older == EnergyRecord(net=1.0, dense_ann=5.0)
        assert older.table() == {"net": 1.0, "dense_ann": 5.0}

    def test_the_link_of_a_source_was_called_where(self):
        older = SourceRecord.model_validate({"authors": "a", "title": "t", "where": "arXiv:1"})
        assert older.link == "arXiv:1"

    def test_the_first_format_had_no_checksum(self, path):
        path.write_text(json.dumps(RUN | {"format": 1}))
        assert open_record(path, RunRecord).seed == 1
        path.write_text(json.dumps(RUN))
        with pytest.raises(DataError, match="by their checksum"):
            open_record(path, RunRecord)


class TestRefused:
    def test_a_newer_format(self, path):
        write_record(path, RUN | {"format": FORMAT + 1})
        with pytest.raises(
            NewerFormat, match=f"expected format {FORMAT} at most, got {FORMAT + 1}"
        ):
            open_record(path, RunRecord)

    def test_a_foreign_record_is_told_from_one_without_a_format(self, path):
        write_record(path, RUN | {"seed": "one"})
        with pytest.raises(ForeignRecord, match=r"a run of spikeloom, got something else at seed"):
            open_record(path, RunRecord)
        path.write_text("{}")
        with pytest.raises(DataError, match="got something else at format") as caught:
            open_record(path, RunRecord)
        assert not isinstance(caught.value, ForeignRecord)
        write_record(path, RUN)
        with pytest.raises(ForeignRecord, match="a comparison of spikeloom, got .* at entries"):
            open_record(path, ComparisonRecord)

    def test_a_trial_is_no_tested_run(self, path):
        write_record(path, TRAINED | {"final": False})
        assert type(open_run(path)) is TrainedRecord
        with pytest.raises(DataError, match="got a trial of a tuning"):
            open_record(path, RunRecord)
        write_record(path, RUN | {"final": True})
        assert type(open_run(path)) is RunRecord

    def test_what_is_no_text_is_replaced(self, path):
        write_record(path, RUN | {"source": "a\x1b[31m\u202eb"})
        assert open_record(path, RunRecord).source == "a\ufffd[31m\ufffdb"

    def test_figures_that_no_reader_takes_end_a_training(self):
        score = Score({"accuracy": 0.5}, loss=2e30, samples=3)
        with pytest.raises(NumericalError, match=r"val_loss: expected a figure .* got 2e\+30"):
            _epoch(EPOCH, score, None)
        fine = _epoch(EPOCH, Score({"accuracy": 0.5}, 1.0, 3, {"rho": 0.5}), ())
        assert fine.table() == EPOCH | {
            "notes": {"rho": 0.5},
            "val_loss": 1.0,
            "val_accuracy": 0.5,
            "health": [],
        }


def test_conversions():
    assert units.microjoules(540_000.0) == 0.54
    assert units.megabytes(5_500_000) == 5.5
    assert units.percent(0.25) == 25
    assert units.milliseconds(0.002) == 2
