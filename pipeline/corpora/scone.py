"""SCONE (Long et al., 2016): people's five instructions in a row, with the state before and after each.

Read as the JSON edition has it (`{train,dev}_sequences.json` of a domain; github.com/lil-lab/scone), drawn by
ourselves, and written out as COCO and VisDial write theirs, with a picture after every turn. A round is an instruction
without an answer. The state at the start is either told in words, a fact a round before the instructions, or shown: the
first picture of the film, and no word of it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pipeline.corpora import json_files, made_files
from pipeline.corpora.films import Film, FilmFrame
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.made_files import MadePicture
from pipeline.corpora.scone_worlds import INK, PAPER, PATCH, REMEDY, SKIN, WORLDS, SconeWorld, State
from store.errors import ChatPainterError

Start = Literal["words", "shown"]
SPLITS = ("train", "dev")
TEST = "test"  # made of training dialogues that are held out
FIRST_ID = {"train": 1, "dev": 1_000_001, TEST: 2_000_001}
_SPLIT = "(train|dev|test)"
_OURS = re.compile(
    rf"(annotations/(captions|turns)_{_SPLIT}\.json|visdial/visdial_1\.0_{_SPLIT}\.json|truth_{_SPLIT}\.json"
    rf"|images/{_SPLIT}/(SCONE_{_SPLIT}_\d{{12}}|turns/[0-9a-f]{{16}})\.png)"
)


def make(
    source: Path,
    raw: Path,
    domain: str,
    start: Start = "shown",
    image_size: int = 128,
    limit: int | None = None,
    hold_out: int = 0,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, tuple[int, float]]:
    """Write a domain of SCONE as folder `raw`, all of it or nothing: splits train, dev and, if asked for, test.

    Args:
        source: folder of the domains' folders, or of one domain's two files.
        limit: at most so many dialogues a split.
        hold_out: so many of the training dialogues, the last ones, are the split test and not in train.
        started: called with the number of dialogues.
        done: called after each.

    Returns:
        By split how many dialogues there are, and the share of the last state's slots that a copy of the first has.

    Raises:
        ChatPainterError: names the file, the dialogue, and what was expected; or `raw` holds something else.
    """
    world = WORLDS[domain]
    folder = source / domain if (source / domain).is_dir() else source
    dialogues = {split: _read(folder / f"{split}_sequences.json", world) for split in SPLITS}
    if hold_out:
        known = len(dialogues["train"]) - hold_out
        if known < 1:
            raise ChatPainterError(
                f"{folder}: {hold_out:,} dialogues cannot be held out of {len(dialogues['train']):,}; hold out fewer"
            )
        dialogues[TEST], dialogues["train"] = dialogues["train"][known:], dialogues["train"][:known]
    dialogues = {split: said[:limit] for split, said in dialogues.items()}
    started(sum(map(len, dialogues.values())))
    with replacing_folder(raw, _OURS, "truth_*.json") as temporary:
        for split, said in dialogues.items():
            _write_split(temporary, split, said, world, start, image_size, done)
    return {split: (len(said), floor(states for _, _, states in said)) for split, said in dialogues.items()}


def floor(dialogues: Iterable[Sequence[State]]) -> float:
    """The share of the last state's slots that are right in a copy of the first state."""
    same = [a == b for states in dialogues for a, b in zip(states[0], states[-1])]
    return sum(same) / max(1, len(same))


def _read(path: Path, world: SconeWorld) -> list[tuple[str, list[str], list[State]]]:
    """(identifier, instructions, states before the first and after each) of every dialogue."""
    found = []
    for position, entry in enumerate(json_files.read_list(path, REMEDY)):
        where = f"{path}: [{position}]"
        key = json_files.field(entry, "identifier", str, where)
        states = [world.parse(json_files.field(entry, "initial_env", str, where), f"{where}: initial_env")]
        texts = []
        turns = json_files.field(entry, "utterances", list, where)
        for number, turn in enumerate(turns, 1):
            here = f"{where}: turn {number}"
            text = json_files.fold(json_files.field(turn, "instruction", str, here))
            if not text:
                raise ChatPainterError(f"{here}: the instruction is empty; {REMEDY}")
            texts.append(text)
            states.append(world.parse(json_files.field(turn, "after_env", str, here), f"{here}: after_env"))
        if not texts:
            raise ChatPainterError(f"{where}: has no turn; {REMEDY}")
        found.append((key, texts, states))
    if not found:
        raise ChatPainterError(f"{path}: holds no dialogue; {REMEDY}")
    return found


def _write_split(
    raw: Path,
    split: str,
    dialogues: list[tuple[str, list[str], list[State]]],
    world: SconeWorld,
    start: Start,
    side: int,
    done: Callable[[], object],
) -> None:
    images = made_files.folders(raw, split)
    (images / "turns").mkdir()
    kinds = [f"{colour} {thing}" for thing in dict.fromkeys(world.thing.values()) for colour in world.colours]

    def shown(state: State) -> FilmFrame:
        """The picture of a state, drawn once a split."""
        name = f"turns/{hashlib.sha256('|'.join(state).encode()).hexdigest()[:16]}.png"
        if not (images / name).exists():
            world.picture(state, side).save(images / name)
        present = {kinds.index(f"{c} {world.thing[place]}") for place, c in world.things(state).items()}
        return FilmFrame(name, tuple(sorted(present)))

    spots = {place: (centre, world.thing[place]) for place, centre in world.places.items()}
    made = []
    for number, (key, texts, states) in enumerate(dialogues):
        image_id = FIRST_ID[split] + number
        before = told(world, states[0]) if start == "words" else [("", states[0])]
        said = [text for text, _ in before[1:]] + texts
        seen = [state for _, state in before] + states[1:]
        film = [shown(state) for state in seen]
        name = f"SCONE_{split}_{image_id:012d}.png"
        world.picture(states[-1], side).save(images / name)
        caption = world.caption(states[0])
        rounds = [(text, "") for text in said]
        things = [world.things(state) for state in seen]
        truth = {
            "key": key,
            "start": len(before) - 1,
            **made_files.changing_truth(things, spots, world.radius, "wall", known=start == "shown"),
        }
        made.append(MadePicture(image_id, name, [caption], rounds, truth, Film(image_id, film[0], tuple(film[1:]))))
        done()
    head = {
        "info": {"description": f"SCONE {world.name} {split}, drawn by ChatPainter"},
        "licenses": [{"id": 1, "name": "none stated", "url": "https://github.com/lil-lab/scone"}],
    }
    about = {
        "domain": world.name,
        "start": start,
        "floors": {"copy_start": floor(states for _, _, states in dialogues)},
        "slots": world.places_of_slots(),
        "captions_tell": False,
        "places": {place: {"centre": list(centre), "half": PATCH} for place, centre in world.places.items()},
        "colours": {name: list(rgb) for name, rgb in world.colours.items()},
        "grounds": {"wall": list(PAPER), "dark": list(INK), "skin": list(SKIN)},
        "shapes": list(dict.fromkeys(world.thing.values())),
        "sizes": {"plain": world.radius},
        "ceilings": {},
    }
    made_files.write(raw, split, made, (side, side), head, about, kinds)


def told(world: SconeWorld, state: State) -> list[tuple[str, State]]:
    """The state told a fact a round: (words, what is there after them), nothing said and nothing there at first."""
    so_far = [world.empty] * world.slots
    rounds = [("", tuple(so_far))]
    for number, fact in world.facts(state).items():
        so_far[number] = state[number]
        rounds.append((fact, tuple(so_far)))
    return rounds
