"""chatpainter-embed --part, --finish: shares made by runs that know nothing of each other are one whole run's bytes."""

import shutil

import pytest

from store.parts import Part
from tests.support.folders import content

SYNC = ("--scheduler", "sync")
SHARDS = {"captions": 2, "turns": 5, "dialogues": 1}


def encoded(calls):
    return sum(not call["what"].startswith("load") for call in calls)


def ok(done):
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_parts_in_any_order_are_one_whole_run(place, rows, whole, parts):
    place.corpus(rows)
    for number in reversed(range(1, parts + 1)):
        said = ok(place.here(*SYNC, "--part", f"{number}/{parts}"))
        of_turns = len(range(number - 1, SHARDS["turns"], parts))
        assert f"turns: part {number}/{parts}: its {of_turns} of 5 shards are made, 0 kept; then: --finish" in said
    assert not list(place.path.rglob("manifest.json"))
    assert encoded(place.calls()) == sum(SHARDS.values())
    ok(place.here(*SYNC, "--finish"))
    assert place.calls() == []  # not so much as an encoder was loaded
    assert content(place.path / "out") == whole
    assert sorted(path.name for path in (place.path / "out/t").iterdir()) == sorted(SHARDS)


def test_two_parts_at_once_leave_each_other_alone_and_a_killed_one_continues(place, rows, whole):
    place.corpus(rows)
    first = place.start(*SYNC, "--part", "1/2", HASH_HOLD="3")  # in its second shard of turns
    place.wait_for_calls(3, first.poll)
    ok(place.here(*SYNC, "--part", "2/2"))
    again = place.here(*SYNC, "--part", "1/2")
    early = place.here(*SYNC, "--finish", "--kind", "turns")
    plain = place.here(*SYNC, "--kind", "turns")
    for refused in (again, early, plain):
        assert refused.exit_code == 1
        assert f"1-of-2: another run is writing here (process {first.pid} on " in refused.output.splitlines()[-1]
    first.kill()
    first.wait()
    place.calls()
    unfinished = place.here(*SYNC, "--finish", "--kind", "turns")
    assert unfinished.exit_code == 1
    assert "turns: 2 of 5 shards are missing; run --part 1/2 again, with the same settings" in unfinished.output
    ok(place.here(*SYNC, "--part", "1/2"))
    assert encoded(place.calls()) == 3  # two of turns, and the dialogues
    ok(place.here(*SYNC, "--finish"))
    assert place.calls() == []
    assert content(place.path / "out") == whole


def test_finish_moves_nothing_until_all_is_there(place, rows, whole):
    place.corpus(rows)
    ok(place.here(*SYNC, "--part", "2/3"))
    before = content(place.path / "out")
    done = place.here(*SYNC, "--finish")
    assert done.exit_code == 1
    assert "captions: 1 of 2 shards are missing; run --part 1/3 again" in done.output
    assert content(place.path / "out") == before
    ok(place.here(*SYNC))  # a whole run takes over what was made
    assert encoded(place.calls()) == sum(SHARDS.values())
    assert content(place.path / "out") == whole


def test_another_division_keeps_what_is_made(place, rows, whole):
    place.corpus(rows)
    ok(place.here(*SYNC, "--part", "1/2"))
    for number in range(1, 5):
        ok(place.here(*SYNC, "--part", f"{number}/4"))
    assert encoded(place.calls()) == sum(SHARDS.values())
    ok(place.here(*SYNC, "--finish"))
    assert content(place.path / "out") == whole


def test_a_damaged_or_other_shard_of_a_part_is_never_taken(place, rows, whole):
    place.corpus(rows)
    for number in (1, 2):
        ok(place.here(*SYNC, "--part", f"{number}/2"))
    shard = place.path / "out/t/turns.parts/2-of-2/vectors-00003.h5"
    damaged = bytearray(shard.read_bytes())
    damaged[-5000] ^= 1
    shard.write_bytes(damaged)
    other = place.path / "out/t/captions.parts"
    shutil.copy(other / "1-of-2/vectors-00000.h5", other / "2-of-2/vectors-00001.h5")
    for kind, of in (("turns", 5), ("captions", 2)):
        done = place.here(*SYNC, "--finish", "--kind", kind)
        assert done.exit_code == 1
        assert f"{kind}: 1 of {of} shards are missing; run --part 2/2 again" in done.output
    place.calls()
    ok(place.here(*SYNC, "--part", "2/2"))
    assert encoded(place.calls()) == 2
    ok(place.here(*SYNC, "--finish"))
    assert content(place.path / "out") == whole


def test_over_a_whole_store_parts_and_finish_have_nothing_to_do(place, rows, whole):
    place.corpus(rows)
    ok(place.here(*SYNC))
    place.calls()
    ok(place.here(*SYNC, "--part", "1/1"))
    ok(place.here(*SYNC, "--finish"))
    assert encoded(place.calls()) == 0
    assert content(place.path / "out") == whole


def test_finish_without_parts_says_what_to_do(place, rows):
    place.corpus(rows)
    done = place.here(*SYNC, "--finish")
    assert done.exit_code == 1
    assert "captions: 2 of 2 shards are missing; run its parts (--part I/N) first" in done.output


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", ""])
def test_a_part_that_is_none_is_refused(place, text):
    done = place.here(*SYNC, "--part", text)
    assert done.exit_code == 1
    assert "expected I/N with I from 1 to N, such as 2/8" in done.output


def test_part_and_finish_exclude_each_other(place):
    done = place.here(*SYNC, "--part", "1/2", "--finish")
    assert done.exit_code == 1
    assert "--part makes shards and --finish none: give one of them" in done.output


@pytest.mark.parametrize("of", [1, 2, 5])
def test_every_shard_is_of_exactly_one_part(of):
    owners = [[part for part in range(1, of + 1) if Part(part, of).has(shard)] for shard in range(11)]
    assert all(len(parts) == 1 for parts in owners)
