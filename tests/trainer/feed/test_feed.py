"""The feed: what comes next is a pure function, rows belong together, the ring changes nothing."""

import io
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from store import Store
from store.errors import ChatPainterError, StoreError
from store.jpeg import BLOCK, JpegWriter
from tests.support.processes import wait_for
from tests.support.stores import write_store
from trainer.feed import data as feed_data
from trainer.feed.augment import at_sides, augment
from trainer.feed.data import TrainingData
from trainer.feed.inputs import CAPTIONS, CLASSES, COLLAPSED, TURNS, Input, pictures
from trainer.feed.ring import BatchRing
from trainer.feed.sampler import Draws, images_per_epoch, rows_for

PICTURES = pictures(64)
CAPTION_ALONE = (CAPTIONS, PICTURES)
WITH_TURNS = (CAPTIONS, PICTURES, TURNS)
COLLAPSED_TOO = (CAPTIONS, PICTURES, COLLAPSED)


class TestRowsFor:
    @given(st.integers(1, 200), st.data())
    def test_an_epoch_draws_each_image_at_most_once_and_batches_hold_distinct_images(self, n, data):
        batch = data.draw(st.integers(1, n))
        seed = data.draw(st.integers(0, 2**40))
        epoch = data.draw(st.integers(0, 5))
        per_epoch = images_per_epoch(n, batch)
        assert n - batch < per_epoch <= n
        seen = [rows_for(seed, epoch * per_epoch + at, batch, n).images for at in range(0, per_epoch, batch)]
        assert all(len(part) == batch for part in seen)
        drawn = np.concatenate(seen)
        assert len(set(drawn.tolist())) == per_epoch
        assert drawn.min() >= 0
        assert drawn.max() < n

    @given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 30))
    def test_the_processes_pieces_side_by_side_are_the_batch_of_one_process(self, world, local, step):
        batch, n = world * local, 61
        whole = rows_for(3, step * batch, batch, n)
        pieces = [rows_for(3, step * batch, batch, n, rank, world) for rank in range(world)]
        np.testing.assert_array_equal(np.concatenate([piece.images for piece in pieces]), whole.images)
        np.testing.assert_array_equal(np.concatenate([piece.numbers for piece in pieces]), whole.numbers)

    def test_epochs_and_seeds_differ(self):
        orders = [rows_for(seed, epoch * 50, 50, 50).images for seed in (0, 1) for epoch in (0, 1, 2)]
        assert len({tuple(order) for order in orders}) == len(orders)

    def test_a_run_started_today_continues_with_the_same_batches_under_later_versions(self):
        rows = rows_for(7, 24, 8, 20)
        assert rows.images.tolist() == GOLDEN_IMAGES
        assert (rows.numbers % 1000).tolist() == GOLDEN_NUMBERS

    def test_every_image_is_drawn_equally_often_in_the_long_run(self):
        n, batch = 7, 3
        counts = np.bincount(
            np.concatenate([rows_for(0, at, batch, n).images for at in range(0, 6 * 3000, batch)]), minlength=n
        )
        # 3000 epochs of 6 out of 7; each image is left out in one epoch of seven: binomial, sd < 20.
        np.testing.assert_allclose(counts, 3000 * 6 / 7, atol=100)

    @pytest.mark.parametrize(("batch", "n", "seen", "world"), [(9, 8, 0, 1), (0, 8, 0, 1), (4, 8, 2, 1), (4, 8, 0, 3)])
    def test_impossible_requests_are_programming_errors(self, batch, n, seen, world):
        with pytest.raises(ValueError):
            rows_for(0, seen, batch, n, 0, world)

    def test_an_epoch_is_sorted_once(self, monkeypatch):
        sorted_ = []
        real = np.argsort
        monkeypatch.setattr(np, "argsort", lambda *a, **k: sorted_.append(len(a[0])) or real(*a, **k))
        for step in range(2 * (1000 // 8)):
            rows_for(987, step * 8, 8, 1000)
        assert sorted_ == [1000, 1000]


# Written down on 22 Nov 2026: a change here means that no earlier run can be continued exactly.
GOLDEN_IMAGES = [8, 6, 9, 14, 13, 16, 17, 18]
GOLDEN_NUMBERS = [174, 94, 201, 692, 334, 157, 186, 723]


class TestDraws:
    def test_they_depend_on_every_argument_and_on_nothing_else(self):
        keys = [(0, 0, "crop"), (1, 0, "crop"), (0, 1, "crop"), (0, 0, "noise")]
        drawn = [Draws(seed, seen, 4, slice(4)).uniform(purpose).tolist() for seed, seen, purpose in keys]
        assert len({tuple(each) for each in drawn}) == len(keys)
        torch.manual_seed(5)
        assert Draws(0, 0, 4, slice(4)).uniform("crop").tolist() == drawn[0]

    @given(st.sampled_from([1, 2, 8]), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**40))
    def test_a_row_draws_the_same_on_any_number_of_processes_and_in_any_parts(self, world, parts, size, seed):
        batch = 8 * parts * size
        whole = Draws(seed, 3 * batch, batch, slice(batch))
        for kind, shape in (("normal", (5,)), ("uniform", (2, 1))):
            local = batch // world
            pieces = [
                getattr(Draws(seed, 3 * batch, batch, slice(rank * local + first, rank * local + first + size)), kind)(
                    "noise", *shape
                )
                for rank in range(world)
                for first in range(0, local, size)
            ]
            assert torch.equal(torch.cat(pieces), getattr(whole, kind)("noise", *shape))


class TestTrainingData:
    def test_picture_caption_and_rounds_belong_to_one_image(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path, images=24))
        batch = data.at(np.arange(24)[::-1].copy(), np.arange(24, dtype=np.uint64))
        owner = batch["captions"][:, 1].long()
        assert sorted(owner.tolist()) == list(range(24))
        assert torch.equal(batch["images"][:, 0, 0, 0].long(), owner)
        for row, (rounds, turns) in enumerate(zip(batch["turns.length"], batch["turns"])):
            assert rounds == (10, 3, 1)[owner[row] % 3]
            assert (turns[:rounds, 1] == owner[row]).all()
            first = turns[0, 0]
            assert torch.equal(turns[:rounds, 0], first + torch.arange(rounds))
            assert (turns[rounds:] == 0).all()
        assert batch["turns"].shape == (24, data.longest("turns"), data.dim("turns")) == (24, 10, 10)
        assert batch["captions"].dtype == batch["turns"].dtype == torch.float16
        assert batch["image_id"].tolist() == data.image_ids[::-1].tolist()

    def test_each_caption_of_an_image_is_drawn_and_no_other_image_s(self, tmp_path, make_stores):
        data = TrainingData(CAPTION_ALONE, *make_stores(tmp_path, images=8, captions=(5, 1, 6, 7)))
        rows = {
            image: {int(r) for r in data.at(np.full(42, image), np.arange(42, dtype=np.uint64))["captions"][:, 0]}
            for image in range(8)
        }
        owners = [int(data.at(np.array([i]), np.zeros(1, np.uint64))["captions"][0, 1]) for i in range(8)]
        assert [len(rows[i]) for i in range(8)] == [(5, 1, 6, 7)[owner % 4] for owner in owners]
        assert sorted(row for each in rows.values() for row in each) == list(range(sum((5, 1, 6, 7)) * 2))

    def test_collapsed_dialogues_are_one_vector(self, tmp_path, make_stores):
        data = TrainingData(COLLAPSED_TOO, *make_stores(tmp_path))
        batch = data.at(np.arange(24), np.zeros(24, np.uint64))
        assert batch["dialogues"].shape == (24, 10)
        assert torch.equal(batch["dialogues"][:, 1], batch["captions"][:, 1])
        assert set(batch) == {"captions", "images", "dialogues", "image_id"}
        assert data.longest("dialogues") is None

    def test_without_dialogues_their_store_need_not_exist(self, tmp_path, make_stores):
        embeddings, images = make_stores(tmp_path)
        shutil.rmtree(embeddings / "turns")
        data = TrainingData(CAPTION_ALONE, embeddings, images)
        assert set(data.at(np.arange(3))) == {"captions", "images", "image_id"}
        assert "turns" not in data
        with pytest.raises(StoreError, match="turns"):
            TrainingData(WITH_TURNS, embeddings, images)

    def test_images_that_lack_an_input_are_left_out_and_counted(self, tmp_path, make_stores):
        folders = make_stores(tmp_path, images=24, without_dialogue=(2, 3, 11))
        data = TrainingData(WITH_TURNS, *folders)
        assert len(data) == 21
        assert data.dropped == {"without a caption": 0, "without an image": 0, "without a dialogue": 3}
        assert data.report() == "21 images with every input (3 without a dialogue)"
        assert len(TrainingData(CAPTION_ALONE, *folders)) == 24

    def test_a_dialogue_of_no_rounds_is_none(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path, images=24, rounds=(10, 0, 2)))
        assert len(data) == 16
        assert data.at(np.arange(16), np.zeros(16, np.uint64))["turns.length"].min() == 2

    def test_stores_of_two_splits_have_nothing_in_common(self, tmp_path, make_stores):
        embeddings, _ = make_stores(tmp_path / "a")
        _, images = make_stores(tmp_path / "b", first_id=500_000)
        with pytest.raises(StoreError, match=r"no image has every input \(0 images .* are they one split\?"):
            TrainingData(WITH_TURNS, embeddings, images)

    def test_stores_from_two_corpora_are_refused(self, tmp_path, make_stores):
        embeddings, images = make_stores(tmp_path / "a")
        others, _ = make_stores(tmp_path / "b", corpus="c1")
        shutil.rmtree(embeddings / "turns")
        shutil.copytree(others / "turns", embeddings / "turns")
        with pytest.raises(StoreError, match=r"turns: made from another corpus than .*captions"):
            TrainingData(WITH_TURNS, embeddings, images)
        TrainingData(CAPTION_ALONE, embeddings, images)

    def test_vectors_of_other_encoders_than_a_run_s_are_refused_with_the_difference(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path / "a"))
        same = TrainingData(WITH_TURNS, *make_stores(tmp_path / "b", seed=5, corpus="other"))
        other = TrainingData(WITH_TURNS, *make_stores(tmp_path / "c", identity="two"))
        data.refuse_other_encoders(same.identity, "runs/stage1")
        with pytest.raises(StoreError, match=r"captions: made with other .* than runs/stage1 \(encoder.name: 'one' "):
            other.refuse_other_encoders(data.identity, "runs/stage1")
        with pytest.raises(StoreError, match="turns"):
            data.refuse_other_encoders({"captions": data.identity["captions"]}, "runs/stage1")

    def test_texts_are_those_of_the_vectors(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path, images=24, without_dialogue=(1,)))
        images = np.array([5, 0, 17])
        batch = data.at(images)
        for row, (caption, rounds) in enumerate(data.words(images)):
            image_id = data.image_ids[images[row]]
            assert caption == f"caption {int(batch['captions'][row, 0])} of image {image_id}"
            assert rounds == [f"round {r} of image {image_id}" for r in range(batch["turns.length"][row])]

    def test_pictures_kept_as_jpegs_are_decoded_into_the_batch(self, tmp_path, make_stores):
        embeddings, raw = make_stores(tmp_path)
        index = Store(raw / "76").index.to_pydict()
        flat = [np.full((76, 76, 3), 8 * row, np.uint8) for row in range(24)]
        made_from = {"encoding": "jpeg", "size": 76}
        with JpegWriter(
            tmp_path / "jpeg" / "76", kind="images", split="train", shape=(BLOCK,), dtype="uint8", dataset="images",
            made_from=made_from,
        ) as writer:  # fmt: skip
            writer.keep(["a", "b"])
            for key, part in (("a", flat[:15]), ("b", flat[15:])):
                files = [io.BytesIO() for _ in part]
                for file, picture in zip(files, part):
                    Image.fromarray(picture).save(file, "JPEG", quality=100)
                writer.append([file.getvalue() for file in files], key)
            rows, blocks = writer.runs()
            writer.commit(
                pyarrow.table({"row": rows, "image_id": index["image_id"], "blocks": blocks}), {}, lengths="blocks"
            )
        data = TrainingData(WITH_TURNS, embeddings, tmp_path / "jpeg")
        assert data.shape("images") == (76, 76, 3)
        shade = dict(zip(index["image_id"], range(24)))
        with BatchRing(data, 6, seed=0) as ring:
            for batch in itertools.islice(ring, 4):
                expected = torch.tensor([8 * shade[image_id] for image_id in batch["image_id"].tolist()])
                assert (batch["images"].int() - expected[:, None, None, None]).abs().max() <= 1
                assert torch.equal(batch["turns"][:, 0, 1], batch["captions"][:, 1])

    def test_files_are_read_ahead_only_where_they_fit_into_memory(self, tmp_path, make_stores, monkeypatch):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))
        asked: list[int] = []
        monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments[-1]), raising=False)
        size = sum(
            path.stat().st_size
            for path in tmp_path.rglob("*.h5")
            if path.parent.name not in ("dialogues", "words", "tokens")
        )
        monkeypatch.setattr(feed_data, "available_memory", lambda: 2 * size - 2)
        assert not data.read_ahead()
        assert not asked
        monkeypatch.setattr(feed_data, "available_memory", lambda: 2 * size)
        assert data.read_ahead()
        assert asked == [os.POSIX_FADV_WILLNEED] * 5  # two shards of pictures, two of captions, one of turns
        monkeypatch.delattr(os, "posix_fadvise")  # as on macOS
        assert not data.read_ahead()

    def test_a_part_of_a_batch_shares_its_memory(self, tmp_path, make_stores):
        batch = TrainingData(WITH_TURNS, *make_stores(tmp_path)).at(np.arange(6))
        part = batch.rows(slice(2, 4))
        assert part.size == 2
        assert part["images"].data_ptr() == batch["images"][2].data_ptr()
        assert torch.equal(part["turns.length"], batch["turns.length"][2:4])


class Clock:
    """Stands for the module time: a batch takes 5 seconds, begun when the caller begins to wait, or by `ahead`."""

    def __init__(self):
        self.now, self.begun = 0.0, threading.Semaphore(0)
        self.waiting: Iterator[bool] = itertools.cycle((True, False))

    def perf_counter(self) -> float:
        now = self.now
        if next(self.waiting):
            self.begun.release()
        return now

    def gathers(self) -> None:
        self.begun.acquire()
        self.now += 5

    def ahead(self) -> None:
        self.waiting, after = itertools.repeat(False), self.now + 5
        self.begun.release()
        wait_for(lambda: self.now == after)

    def let_go(self) -> None:
        self.begun.release(1000)


class TestBatchRing:
    @pytest.mark.parametrize(("threads", "depth"), [(1, 2), (1, 3), (2, 2), (2, 3), (3, 5)])
    def test_it_gives_the_batches_of_rows_for_in_order(self, tmp_path, make_stores, threads, depth):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))
        with BatchRing(data, 6, seed=4, images_seen=12, rank=1, world=2, threads=threads, depth=depth) as ring:
            for step, batch in zip(range(20), ring):
                if step % 5 == 0:
                    time.sleep(0.01)  # time enough to overwrite a batch in use, if the ring did so
                expected = data.gather(rows_for(4, 12 + 6 * step, 6, len(data), 1, 2))
                assert set(batch) == set(expected)
                for name, value in expected.items():
                    assert torch.equal(batch[name], value), (step, name)

    def test_a_late_start_continues_the_same_series(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))
        with BatchRing(data, 4, seed=1) as ring:
            ids = [next(ring)["image_id"].tolist() for _ in range(14)]
        with BatchRing(data, 4, seed=1, images_seen=4 * 9) as ring:
            assert [next(ring)["image_id"].tolist() for _ in range(5)] == ids[9:]

    def test_waiting_is_measured(self, tmp_path, make_stores, monkeypatch):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))
        gather, clock = TrainingData.gather, Clock()
        monkeypatch.setattr(TrainingData, "gather", lambda *a, **k: (clock.gathers(), gather(*a, **k))[1])
        monkeypatch.setattr("trainer.feed.ring.time", clock)
        with BatchRing(data, 4, seed=1, threads=1) as ring:
            for _ in range(4):
                next(ring)
            assert ring.take_wait() == 4 * 5
            clock.ahead()  # while the caller does something else
            next(ring)
            assert ring.take_wait() == 0
            clock.let_go()

    def test_an_error_in_a_thread_reaches_the_caller(self, tmp_path, make_stores, monkeypatch):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))

        def fail(*_: object, **__: object) -> None:
            raise StoreError("vectors-00000.h5: truncated")

        with BatchRing(data, 4, seed=1, threads=2) as ring:
            next(ring)
            monkeypatch.setattr(TrainingData, "gather", fail)
            with pytest.raises(StoreError, match="truncated"):
                list(itertools.islice(ring, 5))

    def test_it_closes_while_its_threads_wait_and_then_ends(self, tmp_path, make_stores):
        ring = BatchRing(TrainingData(WITH_TURNS, *make_stores(tmp_path)), 4, seed=1)
        next(ring)
        ring.close()
        assert not any(thread.is_alive() for thread in ring._threads)

    @pytest.mark.parametrize(
        ("batch", "world", "says"), [(25, 1, "batch of 25 is larger"), (6, 4, "does not divide among 4")]
    )
    def test_impossible_batches_are_refused_in_words(self, tmp_path, make_stores, batch, world, says):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path, images=24))
        with pytest.raises(ChatPainterError, match=says):
            BatchRing(data, batch, seed=0, world=world)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_on_a_gpu_it_gives_the_same_batches(self, tmp_path, make_stores):
        data = TrainingData(WITH_TURNS, *make_stores(tmp_path))
        with BatchRing(data, 6, seed=4, device="cuda", threads=2, depth=2) as ring:
            busy = torch.ones(2000, 2000, device="cuda")
            for step, batch in zip(range(60), ring):
                busy = busy @ busy / 2000  # the GPU lags behind the host: a copy too early would overwrite the batch
                expected = data.gather(rows_for(4, 6 * step, 6, len(data)))
                for name, value in expected.items():
                    assert torch.equal(batch[name].cpu(), value), (step, name)
                assert all(tensor.is_cuda for tensor in batch.values())


def coordinates(count: int, side: int) -> torch.Tensor:
    """(count, side, side, 3) uint8 pictures whose channels are row, column and picture."""
    pictures = torch.zeros(count, side, side, 3, dtype=torch.uint8)
    pictures[..., 0] = torch.arange(side)[None, :, None]
    pictures[..., 1] = torch.arange(side)[None, None, :]
    pictures[..., 2] = torch.arange(count)[:, None, None]
    return pictures


def crops(count: int, images_seen: int = 384) -> torch.Tensor:
    return Draws(3, images_seen, count, slice(count)).uniform("crop", 3)


def as_bytes(pictures: torch.Tensor) -> torch.Tensor:
    return ((pictures + 1) * 127.5).round().long()


class TestSeveralInputs:
    """Stores of any names and kinds beside each other: words of the drawn caption, another image as a second index."""

    @pytest.fixture
    def folders(self, tmp_path, make_stores):
        embeddings, images = make_stores(tmp_path, images=8, captions=(2, 3))
        captions = Store(embeddings / "captions")
        index = captions.index.to_pydict()
        lengths = [1 + row % 4 for row in index["row"]]
        # Each word holds its caption's row and its own place.
        words = np.array(
            [[row, place] for row, count in zip(index["row"], lengths) for place in range(count)], "float16"
        )
        first = np.cumsum(lengths) - lengths
        lines = {"row": first, "image_id": index["image_id"], "length": np.array(lengths, np.int32)}
        about = {"corpus": "c0", "encoder": {"name": "one", "sha256": "one"}, "text": {}}
        write_store(embeddings / "words", words, lines, split="train", shards=1, made_from=about)
        return embeddings, images

    def test_words_are_those_of_the_caption_that_was_drawn(self, folders):
        words = Input("words", "words", "words", pick="drawn")
        data = TrainingData((CAPTIONS, words, PICTURES), *folders)
        rows = rows_for(0, 0, 8, len(data))
        batch = data.gather(rows)
        assert data.longest("words") == batch["words"].shape[1] == 4
        for caption, said, length in zip(batch["captions"], batch["words"], batch["words.length"]):
            row = int(caption[0])
            assert length == 1 + row % 4
            assert said[:length].tolist() == [[row, place] for place in range(length)]
            assert not said[length:].any()

    def test_a_mismatched_picture_is_another_image_s(self, folders):
        wrong = Input("wrong", "76", "an image", where="images", of="mismatched")
        data = TrainingData((CAPTIONS, PICTURES, wrong), *folders)
        met = set()
        for step in range(40):
            batch = data.gather(rows_for(1, 8 * step, 8, len(data)))
            own, other = batch["images"][:, 0, 0, 0].tolist(), batch["wrong"][:, 0, 0, 0].tolist()
            assert all(one != two for one, two in zip(own, other))
            met |= set(zip(own, other))
        assert len(met) == 8 * 7  # every other image, sooner or later

    def test_a_mismatched_picture_of_the_same_class_is_drawn_once_more(self, folders):
        """By hand: two classes, so of eight images those whose first draw is of their own class take the second."""
        ids = Store(folders[0] / "captions").column("image_id")
        every = np.unique(ids)
        write_store(
            folders[1] / "classes",
            np.arange(len(every), dtype=np.int32)[:, None] % 2,
            {"row": range(len(every)), "image_id": every},
        )
        wrong = Input("wrong", "76", "an image", where="images", of="mismatched")
        data = TrainingData((CAPTIONS, PICTURES, wrong, CLASSES), *folders)
        class_of = dict(zip(every.tolist(), (np.arange(len(every)) % 2).tolist()))
        redrawn = 0
        for step in range(10):
            rows = rows_for(1, 8 * step, 8, len(data))
            batch = data.gather(rows)
            place_of = {int(p): int(i) for p, i in zip(batch["images"][:, 0, 0, 0], batch["image_id"])}
            for row in range(8):
                mine, first = data.image_ids[rows.images[row]], data.image_ids[rows.mismatched[row]]
                expected = first if class_of[first] != class_of[mine] else data.image_ids[rows.again[row]]
                redrawn += class_of[first] == class_of[mine]
                assert place_of[int(batch["wrong"][row, 0, 0, 0])] == expected
                assert batch["classes"][row, 0] == class_of[mine]
        assert 0 < redrawn < 80

    def test_the_same_crop_at_several_sides(self):
        """As Pillow makes them, which rounds to whole values of a byte."""
        stored = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
        pictures = torch.from_numpy(stored).permute(0, 3, 1, 2).float()
        found = at_sides(pictures, (16, 32, 64))
        assert found[64] is pictures
        for side in (16, 32):
            for one, ours in zip(stored, found[side]):
                theirs = np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR))
                np.testing.assert_allclose(ours.permute(1, 2, 0), theirs, atol=1.01)
        with pytest.raises(ValueError, match="cannot be made smaller to 128"):
            at_sides(pictures, (128,))


class TestAugment:
    @pytest.mark.parametrize(("side", "crop"), [(76, 64), (76, 76), (20, 16)])
    def test_it_cuts_one_window_a_picture_and_mirrors_half(self, side, crop):
        count = 250
        cut = augment(coordinates(count, side), crop, crops(count))
        assert cut.shape == (count, 3, crop, crop)
        assert cut.dtype == torch.float32
        rows, columns, owner = as_bytes(cut).unbind(1)
        assert torch.equal(owner, torch.arange(count)[:, None, None].expand_as(owner))
        tops = rows[:, 0, 0]
        assert torch.equal(rows, (tops[:, None] + torch.arange(crop))[:, :, None].expand_as(rows))
        mirrored = columns[:, 0, 0] > columns[:, 0, -1]
        upright = torch.where(mirrored[:, None, None], columns.flip(2), columns)
        lefts = upright[:, 0, 0]
        assert torch.equal(upright, (lefts[:, None] + torch.arange(crop))[:, None, :].expand_as(upright))
        places = side - crop + 1
        assert set(tops.tolist()) == set(lefts.tolist()) == set(range(places))
        assert 0.35 < mirrored.float().mean() < 0.65
        if places > 1:
            for one, other in ((tops, lefts), (tops, mirrored), (lefts, mirrored)):
                assert abs(np.corrcoef(one, other)[0, 1]) < 0.25

    def test_without_a_generator_the_crop_is_central(self):
        pictures = coordinates(3, 76)
        cut = augment(pictures, 64)
        assert torch.equal(as_bytes(cut), pictures[:, 6:70, 6:70].permute(0, 3, 1, 2).long())

    def test_no_mirror_where_sides_matter(self):
        columns = as_bytes(augment(coordinates(64, 76), 64, crops(64), flip=False))[:, 1]
        assert (columns[:, 0, 0] < columns[:, 0, -1]).all()

    def test_values_span_minus_one_to_one(self):
        pictures = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
        found = augment(pictures, 16)[0, 0].flatten().double()
        np.testing.assert_allclose(found, np.arange(256) / 127.5 - 1, atol=1e-7)

    def test_the_same_stream_gives_the_same_crops_in_channels_last_memory(self):
        pictures = torch.randint(0, 256, (9, 76, 76, 3), dtype=torch.uint8)
        one, other = (augment(pictures, 64, crops(len(pictures))) for _ in range(2))
        assert torch.equal(one, other)
        assert one.is_contiguous(memory_format=torch.channels_last)
        assert not torch.equal(one, augment(pictures, 64, crops(len(pictures), 768)))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_gpu_cuts_the_same_windows(self):
        pictures = torch.randint(0, 256, (32, 76, 76, 3), dtype=torch.uint8)
        here = augment(pictures, 64, crops(len(pictures)))
        there = augment(pictures.cuda(), 64, crops(len(pictures)))
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-6)
