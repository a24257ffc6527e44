"""The log: exact means without waiting for the device, no records of a lost future, and sinks that only repeat it."""

import csv
import errno
import itertools
import json
import math
import sys

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError, StoreError
from tests.support.disks import files_of_at_most
from trainer.logs.log import read_log
from trainer.logs.progress import Progress
from trainer.logs.statistics import Statistics
from trainer.logs.status import duration_in_words, status_line


def progress(folder, images_seen=0, **arguments) -> Progress:
    arguments = {"total_images": 10_000, "images_per_epoch": 100, "say": lambda line: None, **arguments}
    return Progress(folder, images_seen=images_seen, **arguments)


def run(folder, until: int, images_seen: int = 0, **arguments) -> None:
    log = progress(folder, images_seen, **arguments)
    for images in range(images_seen + 100, until + 1, 100):
        log.report({"g_loss": torch.tensor(images / 100)})
        log.tick(images, lr_g=1e-4)
    log.close()


class TestStatistics:
    def test_means_and_spreads_are_those_of_everything_reported(self):
        random = np.random.default_rng(0)
        pieces = [random.normal(3, 2, size) for size in (384, 384, 100)]
        statistics = Statistics()
        for step, piece in enumerate(pieces):
            statistics.report(
                {"d_real": torch.from_numpy(piece).float().view(-1, 2), "g_loss": torch.tensor(step + 0.5)}
            )
            statistics.report({"plain": 2 * step})
        found = statistics.collect()
        every = np.concatenate(pieces)
        assert found.keys() == {"d_real", "d_real.std", "g_loss", "plain"}
        np.testing.assert_allclose(found["d_real"], every.mean(), rtol=1e-6)
        np.testing.assert_allclose(found["d_real.std"], every.std(), rtol=1e-5)
        assert found["g_loss"] == 1.5
        assert found["plain"] == 2.0
        assert statistics.collect() == {}

    def test_reporting_never_asks_the_device_for_a_value(self, monkeypatch):
        def waits(*_: object) -> None:
            raise AssertionError("reporting waited for the device")

        statistics = Statistics()
        values = {
            "d_real": torch.randn(8, requires_grad=True),
            "kl": torch.tensor(1.0),
            "half": torch.ones(3).bfloat16(),
        }
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "__float__", "__bool__", "__int__", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, waits)
            statistics.report(values)
            statistics.report(values)
        assert statistics.collect()["half"] == 1.0

    def test_no_graph_is_kept(self):
        statistics = Statistics()
        value = torch.ones(2, requires_grad=True)
        statistics.report({"d": value * 2})
        assert not statistics._sums["d"].requires_grad

    def test_what_is_not_finite_shows(self):
        statistics = Statistics()
        statistics.report({"d": torch.tensor([1.0, math.inf]), "g": torch.tensor(math.nan)})
        found = statistics.collect()
        assert found["d"] == math.inf
        assert math.isnan(found["d.std"])
        assert math.isnan(found["g"])


class TestLog:
    def test_a_record_holds_place_speed_waiting_memory_and_means(self, tmp_path):
        log = progress(tmp_path)
        log.report({"d_real": torch.tensor([1.0, 3.0])})
        record = log.tick(200, waited=0.0, lr_g=2e-4, lr_d=4e-4)
        log.close()
        assert read_log(tmp_path) == [json.loads(json.dumps(record))]
        assert record["images"] == 200
        assert record["kimg"] == 0.2
        assert record["epoch"] == 2.0
        assert record["d_real"] == 2.0
        assert record["lr_d"] == 4e-4
        assert record["img_per_s"] == pytest.approx(200 / record["seconds"])
        assert record["sec_per_kimg"] == pytest.approx(record["seconds"] * 5)
        assert 0 < record["cpu_gib"] < 1000
        assert 0 <= record["data_wait"] <= 1

    def test_records_beyond_the_point_of_resuming_are_dropped(self, tmp_path):
        run(tmp_path, 500)
        seconds = [record["seconds"] for record in read_log(tmp_path)]
        assert seconds == sorted(seconds)
        run(tmp_path, 600, images_seen=300)
        records = read_log(tmp_path)
        assert [record["images"] for record in records] == [100, 200, 300, 400, 500, 600]
        assert [record["seconds"] for record in records[:3]] == seconds[:3]
        assert records[3]["seconds"] > seconds[2]

    def test_a_line_cut_off_by_a_kill_is_passed_over_and_repaired(self, tmp_path):
        run(tmp_path, 300)
        path = tmp_path / "log.jsonl"
        path.write_text(path.read_text()[:-20])
        assert [record["images"] for record in read_log(tmp_path)] == [100, 200]
        run(tmp_path, 300, images_seen=200)
        assert [json.loads(line)["images"] for line in path.read_text().splitlines()] == [100, 200, 300]

    def test_a_record_is_written_whole_or_not_at_all(self, tmp_path):
        log = progress(tmp_path)
        log.tick(100)
        path = tmp_path / "log.jsonl"
        before = path.read_bytes()
        with files_of_at_most(len(before) + 10), pytest.raises(StoreError, match=f"^{path}: larger than a file may be"):
            log.tick(200)
        assert path.read_bytes() == before
        log.tick(300)
        assert [record["images"] for record in read_log(tmp_path)] == [100, 300]

    def test_json_has_no_nan(self, tmp_path):
        log = progress(tmp_path)
        log.report({"g_loss": torch.tensor(math.nan), "d_loss": torch.tensor(-math.inf)})
        log.tick(100)
        log.close()
        line = (tmp_path / "log.jsonl").read_text()
        assert json.loads(line, parse_constant=lambda name: pytest.fail(name))["g_loss"] is None

    def test_only_rank_zero_writes(self, tmp_path):
        log = progress(tmp_path / "run", main=False, sinks=("tensorboard",))
        log.report({"g_loss": 1.0})
        log.tick(100)
        log.close()
        assert not (tmp_path / "run").exists()

    def test_time_spent_saving_is_not_charged_to_the_speed(self, tmp_path, monkeypatch):
        now = 1000.0
        monkeypatch.setattr("trainer.logs.progress.time.perf_counter", lambda: now)
        log = progress(tmp_path)
        now += 3
        with log.paused():
            now += 50
        now += 1
        record = log.tick(100)
        assert record["seconds"] == pytest.approx(4)
        assert record["img_per_s"] == pytest.approx(25)

    def test_the_curves_are_the_log_as_a_table(self, tmp_path):
        log = progress(tmp_path)
        log.report({"g_loss": 1.5})
        log.tick(100)
        log.report({"g_loss": 2.5, "penalty": 7.0})
        log.tick(200)
        log.close()
        with open(tmp_path / "curves.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["images"] for row in rows] == ["100", "200"]
        assert [row["g_loss"] for row in rows] == ["1.5", "2.5"]
        assert [row["penalty"] for row in rows] == ["", "7.0"]

    def test_the_curves_of_a_slow_machine_are_the_same_bytes(self, tmp_path, monkeypatch):
        clock = itertools.count()
        monkeypatch.setattr("trainer.logs.progress.time.perf_counter", lambda: float(next(clock)))
        written = []
        for folder in tmp_path / "quick", tmp_path / "slow":
            log = progress(folder)
            log.report({"g_loss": 1.5})
            if folder.name == "slow":
                [next(clock) for _ in range(50)]
            log.tick(100)
            log.close()
            written.append((folder / "curves.csv").read_bytes())
        assert written[0] == written[1]
        assert written[0].splitlines()[0] == b"images,kimg,epoch,g_loss"

    def test_a_folder_that_cannot_be_made_is_one_line(self, tmp_path):
        (tmp_path / "run").write_text("a file")
        with pytest.raises(ChatPainterError, match="run: cannot be written"):
            progress(tmp_path / "run")


class TestStatusLine:
    SHOWN = (
        ("D", ("d_real", "d_wrong", "d_fake")),
        ("G", ("g_loss",)),
        ("KL", ("kl",)),
        ("mu", ("mu_spread",)),
        ("lr", ("lr_g", "lr_d")),
    )

    def test_one_line_says_it_all(self):
        record = {
            "kimg": 12.288, "epoch": 6.1, "sec_per_kimg": 1.234, "img_per_s": 810.4, "data_wait": 0.0213,
            "cpu_gib": 3.0, "gpu_gib": 10.24, "d_real": 0.512, "d_wrong": -0.3, "d_fake": -0.41, "g_loss": 0.7,
            "kl": 0.02, "mu_spread": 0.31, "lr_g": 2e-4, "lr_d": 4e-4, "nonfinite": 2.0,
        }  # fmt: skip
        assert status_line(record, self.SHOWN, 4980) == (
            "kimg 12.3  epoch 6.1  s/kimg 1.23  img/s 810  wait 2.1%  mem 10.2G  D 0.512/-0.3/-0.41  G 0.7  KL 0.02  "
            "mu 0.31  lr 0.0002/0.0004  nonfinite 2  left 1h 23m"
        )

    def test_what_was_not_measured_is_a_dash(self):
        record = dict.fromkeys(("kimg", "epoch", "sec_per_kimg", "img_per_s", "data_wait", "cpu_gib", "a"), 1.0)
        assert status_line(record, [("of two", ("a", "b"))]).endswith("mem 1.0G  of two 1/-  nonfinite 0")

    def test_it_is_printed_every_tick(self, tmp_path):
        lines: list[str] = []
        log = progress(tmp_path, say=lines.append, total_images=400)
        for images in (100, 200):
            log.tick(images)
        log.close()
        assert [line.split("  ")[0] for line in lines] == ["kimg 0.1", "kimg 0.2"]
        assert "left 0s" in lines[1]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (59.4, "59s"), (60, "1m 00s"), (187, "3m 07s"), (7500, "2h 05m"), (273_600, "3d 04h")],
    )
    def test_durations(self, seconds, text):
        assert duration_in_words(seconds) == text


class TestSinks:
    def test_tensorboard_repeats_the_log_and_forgets_a_lost_future(self, tmp_path):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run(tmp_path, 500, sinks=("tensorboard",))
        run(tmp_path, 400, images_seen=200, sinks=("tensorboard",))
        events = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True)
        events.Reload()
        found = [(event.step, event.value) for event in events.Scalars("g_loss")]
        assert found == [(record["images"], record["g_loss"]) for record in read_log(tmp_path)]

    def test_dvclive_repeats_the_log_and_forgets_a_lost_future(self, tmp_path, monkeypatch):
        pytest.importorskip("dvclive")
        monkeypatch.chdir(tmp_path)
        run(tmp_path, 500, sinks=("dvclive",))
        run(tmp_path, 400, images_seen=200, sinks=("dvclive",))
        lines = (tmp_path / "dvclive" / "plots" / "metrics" / "g_loss.tsv").read_text().split("\n")
        rows = list(csv.DictReader(lines, delimiter="\t"))
        assert [(int(row["step"]), float(row["g_loss"])) for row in rows] == [
            (i, i / 100) for i in (100, 200, 300, 400)
        ]
        assert json.loads((tmp_path / "dvclive" / "metrics.json").read_text())["g_loss"] == 4.0
        assert not (tmp_path / "dvc.yaml").exists()

    def test_what_dvclive_has_written_in_part_is_dropped(self, tmp_path, monkeypatch):
        pytest.importorskip("dvclive")
        monkeypatch.chdir(tmp_path)
        run(tmp_path, 300, sinks=("dvclive",))
        curves = tmp_path / "dvclive" / "plots" / "metrics"
        whole = (curves / "g_loss.tsv").read_text()
        (curves / "g_loss.tsv").write_text(whole[:-5])
        (curves / "epoch.tsv").write_text("")
        (curves / "kimg.tsv").write_text((curves / "kimg.tsv").read_text()[:4])
        (tmp_path / "dvclive" / "metrics.json").write_text('{\n    "g_loss": 3.0,')
        run(tmp_path, 400, images_seen=200, sinks=("dvclive",))
        rows = {path.stem: list(csv.DictReader(path.open(), delimiter="\t")) for path in curves.glob("*.tsv")}
        assert [(row["step"], row["g_loss"]) for row in rows["g_loss"]] == [
            ("100", "1.0"), ("200", "2.0"), ("300", "3.0"), ("400", "4.0"),
        ]  # fmt: skip
        assert [(row["step"], row["epoch"]) for row in rows["epoch"]] == [("300", "3.0"), ("400", "4.0")]
        assert [(row["step"], row["kimg"]) for row in rows["kimg"]] == [("300", "0.3"), ("400", "0.4")]
        assert json.loads((tmp_path / "dvclive" / "metrics.json").read_text())["g_loss"] == 4.0

    @pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_full_disk_under_tensorboard_is_an_error_and_no_traceback_of_its_thread(self, tmp_path, capfd):
        pytest.importorskip("tensorboard")
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "one.png")
        log = progress(tmp_path / "run", sinks=("tensorboard",))
        log.tick(100)
        with files_of_at_most(8192), pytest.raises(OSError) as found:
            log.picture("grid", tmp_path / "one.png")
        assert found.value.errno == errno.EFBIG
        assert capfd.readouterr().err == ""

    def test_a_package_that_is_missing_is_said_and_not_needed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "dvclive", None)
        lines: list[str] = []
        log = progress(tmp_path, sinks=("dvclive",), say=lines.append)
        log.tick(100)
        log.close()
        assert "dvclive" in lines[0]
        assert "not installed" in lines[0]
        assert len(read_log(tmp_path)) == 1

    def test_an_unknown_sink_is_refused(self, tmp_path):
        with pytest.raises(ChatPainterError, match="'wandb': expected one of tensorboard, dvclive"):
            progress(tmp_path, sinks=("wandb",))
