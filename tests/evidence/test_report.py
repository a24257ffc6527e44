"""What is made of finished trainings."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence import comparison, report, results, tables
from evidence import profile as profiles
from store.errors import ChatPainterError

SIZES = {"generator": 1200, "dialogue encoder": 34, "discriminator of 32": 5000, "discriminator of 64": 6000}


def finish(work: Path, job: profiles.Job, values: Mapping[int, float], right: Sequence[int]) -> None:
    """What a finished training leaves behind, as far as the report reads it."""
    folder = work / "trainings" / job.name
    for point, value in values.items():
        figures = {
            "stage1_colour_accuracy": value,
            "stage1_domain_fid": 20 - value,
            "caption_ceiling_colour_accuracy": 0.5,
            "chance_ceiling_colour_accuracy": 1 / 6,
            "copy_start_object_f1": 0.25,
            "empty_object_f1": 0.0,
            "stage1_object_f1": value,
        }
        if job.arm == "recurrent":
            figures |= {f"stage1_{probe}_colour_accuracy": value / 2 for probe in ("own", "shuffled", "reversed")}
            figures |= {f"stage1_own_{rounds}_rounds_colour_accuracy": value * rounds / 10 for rounds in (10, 4)}
            figures |= {"stage1_reversed_object_f1": 0.3}
            figures |= {"stage1_own_1_rounds_kept": 0.25, "stage1_own_1_rounds_kept_too": 0.75}
        out = folder / f"{point:09d}"
        out.mkdir(parents=True)
        record = {
            "evaluated": [{"pictures": {"stage1": 64}}],
            "figures": [{"name": name, "value": figure} for name, figure in figures.items()],
        }
        (out / "metrics.json").write_text(json.dumps(record))
        rows = "".join(f"{i},2,{count}\n" for i, count in enumerate(right))
        (out / "pictures_val.csv").write_text("image_id,objects,stage1_colours_right\n" + rows)
    (folder / "run").mkdir()
    # Two records a point; the later part of the run is twice as fast.
    log = [
        {"images": images, "seconds": 60 * min(images, 16 + images / 2), "img_per_s": speed}
        for images, speed in ((16, 1), (32, 3), (48, 4), (64, 9))
    ]
    (folder / "run/log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    (folder / "result.json").write_text(json.dumps({"key": job.key, "seconds": 5.0, "parameters": SIZES}))


@pytest.fixture
def finished(load, tmp_path):
    plan, values = load(reach={"colour_accuracy": [0.2, 0.5, 0.55]}, by_round=["kept"])
    jobs = {job.name: job for job in profiles.jobs(plan, values)}
    work = tmp_path / "work"
    finish(work, jobs["caption-0"], {32: 0.2, 64: 0.30}, [0, 1, 0, 1])
    finish(work, jobs["caption-1"], {32: 0.2, 64: 0.34}, [0, 1, 0, 1])
    finish(work, jobs["recurrent-0"], {32: 0.2, 64: 0.50}, [2, 1, 0, 2])
    finish(work, jobs["recurrent-1"], {32: 0.5, 64: 0.60}, [2, 1, 0, 2])
    finish(work, jobs["recurrent-without-hinge-0"], {32: 0.1, 64: 0.11}, [0, 0, 0, 0])
    return results.read(plan, work, list(jobs.values()))


def test_tables(finished, tmp_path):
    written = report.write(tmp_path / "out", "trial", finished)
    assert {path.name for path in written} == {
        "trial.json",
        "trial.csv",
        "trial.md",
        "trial.png",
        "trial-colour_accuracy-by-round.png",
        "trial-kept-by-round.png",
    }
    text = (tmp_path / "out/trial.md").read_text()
    assert "| caption | 2 | 0.320 ± 0.028 | 0.320 ± 0.028 | 19.7 ± 0.0 |" in text
    assert "| recurrent | 2 | 0.550 ± 0.071 | 0.550 ± 0.071 | 19.4 ± 0.1 |" in text
    assert "colour accuracy: chance 0.167; colour accuracy: caption 0.500." in text
    assert "object F1: a copy of the start 0.250; object F1: an empty picture 0.000." in text
    assert "| recurrent | 0.275 ± 0.035 | 0.275 ± 0.035 | 0.275 ± 0.035 |" in text  # the probes
    # With seeds at 0.5 and 0.6 and a copy at 0.25, both fall to 0.3.
    assert "| recurrent | object F1 | 2 | 0.550 | 0.250 | 0.300 | 83.3 % | 80.0 %, 85.7 % |" in text
    assert "| recurrent | without hinge | 1 | 0.100 | 0.110 |" in text
    assert "| recurrent | the recipe | 1 | 0.200 | 0.500 |" in text
    assert "| recurrent − caption | +0.230 | 2 |" in text
    assert "cannot give less than 2/2^n (0.500 here)" in text
    assert "{" not in text
    assert "\n\n\n" not in text


def test_pictures_and_minutes_until_a_score_is_reached(finished):
    table = tables.reached(finished, "colour_accuracy", (0.2, 0.5, 0.55))
    assert table.head == ["arm", "colour accuracy", "seeds", "pictures", "minutes"]
    # After 32 pictures the log has 32 minutes, after 64 it has 16 + 32.
    assert table.rows == [
        ["caption", "0.2", "2 of 2", "32", "32.0"],
        ["caption", "0.5", "0 of 2", "-", "-"],
        ["caption", "0.55", "0 of 2", "-", "-"],
        ["recurrent", "0.2", "2 of 2", "32", "32.0"],
        ["recurrent", "0.5", "2 of 2", "32 to 64", "32.0 to 48.0"],
        ["recurrent", "0.55", "1 of 2", "64", "48.0"],
    ]


def test_scores_by_round(finished):
    table = tables.by_round(finished, "colour_accuracy")
    assert table.head == ["arm", "4", "10"]
    assert table.rows == [["recurrent", "0.220 ± 0.028", "0.550 ± 0.071"]]
    assert tables.by_round(finished, "kept").rows == [["recurrent", "0.250 ± 0.000"]]
    assert tables.by_round(finished, "settled").rows == []


def test_everything_is_in_the_json_and_the_csv(finished, tmp_path):
    report.write(tmp_path / "out", "trial", finished)
    record = json.loads((tmp_path / "out/trial.json").read_text())
    compared = record["comparisons"][0]
    assert compared["values_a"] == [0.5, 0.6]
    assert compared["over_seeds"]["difference"] == pytest.approx(0.23)
    assert compared["over_seeds"]["p_sign_flip"] == 0.5  # the least with two seeds
    # Over scenes: shares of two objects each, seeds averaged.
    assert compared["over_scenes"]["difference"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert record["trainings"][0]["seconds"] == 5.0
    assert record["trainings"][0]["training_minutes"] == {"32": 32.0, "64": 48.0}
    assert record["machine"]["cores"] >= 1
    with open(tmp_path / "out/trial.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "colour_accuracy"]
    assert len(rows) == 10
    assert (rows[-1]["without"], rows[-1]["images_seen"], rows[-1]["value"]) == ("hinge", "64", "0.11")


def test_arms_of_which_only_some_are_finished(load, finished):
    half = replace(finished, jobs=finished.jobs[:1])
    assert half.arms == ["caption"]
    assert comparison.comparisons(half) == []
    text = report.markdown(half, [])
    assert "recurrent" not in text
    assert "Paired tests" not in text
    assert "One change at a time" not in text


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("result.json", '{"key": "k", "seconds": 5.0}', "'parameters'"),  # of 0.1.0
        ("000000064/metrics.json", '{"evaluated": [{}], "figures": []}', "'pictures'"),
        ("000000064/metrics.json", "[", "Expecting value"),
        ("run/log.jsonl", "", "no median"),
    ],
)
def test_what_another_version_left_is_one_line(finished, file, text, words):
    folder = finished.work / "trainings" / "caption-1"
    (folder / file).write_text(text)
    with pytest.raises(ChatPainterError, match=words) as caught:
        results.read(finished.plan, finished.work, finished.jobs)
    assert str(folder) in caught.value.format_message()


def test_a_score_that_nobody_measured_is_named(finished):
    plan = replace(finished.plan, score="colours")
    with pytest.raises(ChatPainterError, match=r"score: colours was measured by no training; there are .*colour_acc"):
        results.read(plan, finished.work, finished.jobs)


def test_sizes_and_speeds(finished):
    table = tables.costs(finished)
    assert table.head == ["arm", "system", "parameters", "of discriminators", "pictures a second"]
    # The median of 1, 3, 4 and 9.
    assert table.rows[0] == ["caption", "stage1", "1,234", "11,000", "3.500 ± 0.000"]


def test_figures_bear_one_name_whoever_painted(tmp_path):
    names = ("branch1_told", "branch2_colour_accuracy", "branch2_own_3_rounds_told", "real32_colour_accuracy")
    figures = [{"name": name, "value": value} for value, name in enumerate(names)]
    about = {"pictures": {"branch3": 64, "branch2": 32}}  # of which the smallest counts
    (tmp_path / "metrics.json").write_text(json.dumps({"evaluated": [about], "figures": figures}))
    assert results.figures(tmp_path) == {
        "branch1_told": 0,
        "colour_accuracy": 1,
        "own_3_rounds_told": 2,
        "real32_colour_accuracy": 3,
    }


def test_a_score_of_single_scenes(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"evaluated": [{"pictures": {"branch2": 32}}]}))
    (tmp_path / "pictures_val.csv").write_text(
        "image_id,objects,branch2_present_right,branch2_present_painted\n1,4,2,3\n2,0,0,0\n3,2,2,2\n"
    )
    # F1 = 2 · right / (there + painted): a painter of everything gains nothing.
    found = comparison.scene_scores(tmp_path, "classifier_presence_f1")
    np.testing.assert_allclose(found, [4 / 7, 0, 1])
    assert comparison.scene_scores(tmp_path, "domain_fid") is None


def test_slots_of_single_scenes(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"evaluated": [{"pictures": {"picture": 32}}]}))
    (tmp_path / "pictures_val.csv").write_text(
        "image_id,slots,picture_slots_right,objects,picture_objects_painted,picture_colours_right\n"
        "1,10,7,3,5,2\n2,10,10,0,0,0\n"
    )
    np.testing.assert_allclose(comparison.scene_scores(tmp_path, "slots"), [0.7, 1])
    np.testing.assert_allclose(comparison.scene_scores(tmp_path, "object_f1"), [4 / 8, 0])
