"""The interviewer: asks what is still unknown about a picture, with questions that people asked in the corpus."""

import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from painter.dialogue import Dialogue, Round
from store.errors import ChatPainterError

FORMAT = "chatpainter-interviewer"
VERSION = 1
BANK = "interviewer.json"
QUESTIONS = 400
ANSWERS = 8
CUES = 12
APART = 24
LEAST = 0.1
COMMON = 300

# Words that ask rather than name a thing: what is left of a question is its topic.
_ASKING = frozenset(
    re.findall(
        r"\S+",
        "a about an and any are at be can colour color could did do does else for from has have how i if in is it its "
        "kind like look looks many me near of on one or see s some tell that the their them there these they this to "
        "type was what what's whats where which who with would you your picture image photo",
    )
)


@dataclass(frozen=True)
class Question:
    """A question of the bank, and what the corpus tells of it."""

    text: str
    count: int
    answers: list[str]
    """The commonest, one of those that say the same."""
    spread: float
    """How much an answer tells: the entropy of what people answered, in bits."""
    cues: dict[str, float]
    """Caption words under which it is asked more often (> 0) or less often than elsewhere, as a log ratio."""
    apart: dict[str, float]
    """Questions seldom asked beside it, as a log ratio: whoever knows the one answer does not ask for the other."""


@dataclass(frozen=True)
class Interviewer:
    """A bank of questions, and some captions to begin with."""

    questions: list[Question]
    examples: list[str]

    def ask(self, caption: str, rounds: Sequence[Round], skip: Collection[str] = ()) -> Question | None:
        """The question whose answer should tell most, or None if everything in the bank is already known.

        The most telling one is often asked under captions with these words (`cues`), is answered differently from
        picture to picture (`spread`), is about something nobody has mentioned yet, and is not one that people leave
        out once a question like those before is answered (`apart`).

        Args:
            skip: questions the visitor has waved aside.
        """
        words = set(_words(caption))
        known = _topics(caption)
        for question, answer in rounds:
            known |= _topics(question) | _topics(answer)
        gone = {plain(question) for question, _ in rounds} | {plain(question) for question in skip}

        def worth(question: Question) -> float:
            if plain(question.text) in gone:
                return 0.0
            topics = _topics(question.text)
            new = len(topics - known) / len(topics) if topics else 0.0
            called_for = sum(question.cues.get(word, 0.0) for word in words)
            known_by_now = sum(question.apart.get(text, 0.0) for text in gone)
            return question.count * math.exp(min(50.0, called_for + known_by_now)) * question.spread * new**2

        best = max(self.questions, key=worth, default=None)
        # Less than one picture in the corpus had this to tell.
        return best if best is not None and worth(best) > LEAST else None

    def suggestions(self, question: str) -> list[str]:
        """The commonest answers that the corpus gives to this question; empty if nobody asked it."""
        for known in self.questions:
            if plain(known.text) == plain(question):
                return known.answers
        return []

    def to_json(self) -> dict[str, Any]:
        """As it is written beside an exported model."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def plain(text: str) -> str:
    """A text as it is compared: lower case, single spaces, no question mark.

    >>> plain("Is it  sunny ?")
    'is it sunny'
    """
    return " ".join(text.lower().replace("?", " ").split())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _topics(text: str) -> set[str]:
    # Pairs of neighbours tell "top left" from "bottom left" when "left" alone has been mentioned.
    words = [word for word in _words(text) if word not in _ASKING]
    return set(words) | {" ".join(pair) for pair in itertools.pairwise(words)}


def learn(dialogues: Iterable[Dialogue], examples: int = 5) -> Interviewer:
    """The bank of the questions that were asked most often in `dialogues`, and captions spread over them.

    Questions asked once are left out where the corpus is large enough to know better.
    """
    asked: Counter[str] = Counter()
    answered: dict[str, Counter[str]] = defaultdict(Counter)
    captions_with: dict[str, Counter[str]] = defaultdict(Counter)
    word_captions: Counter[str] = Counter()
    captions: list[str] = []
    together: list[list[str]] = []
    for dialogue in dialogues:
        captions.append(dialogue.caption)
        words = set(_words(dialogue.caption)) - _ASKING
        word_captions.update(words)
        questions = list(dict.fromkeys(plain(question) for question, _ in dialogue.rounds))
        together.append(questions)
        asked.update(questions)
        for text in questions:
            captions_with[text].update(words)
        for question, answer in dialogue.rounds:
            if answer.strip():
                answered[plain(question)][plain(answer)] += 1
    least = 2 if len(captions) >= 200 else 1
    kept = [text for text, count in asked.most_common(QUESTIONS) if count >= least and text]
    beside = _beside(together, kept)
    common = [word for word, _ in word_captions.most_common(COMMON)]

    def lift(seen: int, first: int, second: int) -> float:
        # Shrunk towards no effect where little was seen.
        return math.log((seen + 2) / (first * second / len(captions) + 2))

    bank = []
    for text in kept:
        with_word = captions_with[text]
        cues = {word: lift(with_word[word], asked[text], word_captions[word]) for word in {*with_word, *common}}
        apart = {other: lift(beside[text][other], asked[text], asked[other]) for other in kept if other != text}
        answers, spread = _told(answered[text])
        bank.append(
            Question(
                text,
                asked[text],
                answers[:ANSWERS],
                spread,
                dict(sorted(cues.items(), key=lambda item: (-abs(item[1]), item[0]))[:CUES]),
                dict(sorted((item for item in apart.items() if item[1] < -0.7), key=lambda item: item[1])[:APART]),
            )
        )
    fit = sorted({caption.strip() for caption in captions if 0 < len(caption.strip()) <= 90})
    step = max(1, len(fit) // max(1, examples))
    return Interviewer(bank, fit[step // 2 :: step][:examples])


def _beside(together: list[list[str]], kept: list[str]) -> dict[str, Counter[str]]:
    """How often each kept question was asked in one dialogue with each other one."""
    known = set(kept)
    beside: dict[str, Counter[str]] = defaultdict(Counter)
    for questions in together:
        questions = [question for question in questions if question in known]
        for question in questions:
            beside[question].update(questions)
    return beside


def _told(answers: Counter[str]) -> tuple[list[str], float]:
    """Answers that differ in more than their wording, commonest first; and the entropy over them, in bits."""
    counts: Counter[str] = Counter()
    wording: dict[str, str] = {}
    for answer, count in answers.most_common():
        words = _words(answer)
        meaning = " ".join(word for word in words if word not in _ASKING) or answer
        if words and words[0] in ("yes", "yeah", "yep", "yup"):
            meaning = "yes"
        elif words and words[0] in ("no", "nope"):
            meaning = "no"
        counts[meaning] += count
        wording.setdefault(meaning, answer)
    total = sum(counts.values())
    spread = -sum(count / total * math.log2(count / total) for count in counts.values())
    return [wording[meaning] for meaning, _ in counts.most_common()], spread


def load(path: Path) -> Interviewer:
    """The interviewer written beside an exported model.

    Raises:
        ChatPainterError: not such a file; export the model again.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT or values["version"] != VERSION:
            raise ValueError("another format or version")
        questions = [
            Question(
                str(q["text"]),
                int(q["count"]),
                [str(answer) for answer in q["answers"]],
                float(q["spread"]),
                {str(word): float(value) for word, value in q["cues"].items()},
                {str(other): float(value) for other, value in q["apart"].items()},
            )
            for q in values["questions"]
        ]
        return Interviewer(questions, [str(caption) for caption in values["examples"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ChatPainterError(
            f"{path}: not an interviewer's question bank ({error}); export the model again"
        ) from None


def from_corpus(path: Path, most: int = 20_000) -> Interviewer:
    """The interviewer learnt from a corpus (Parquet), its first `most` images; the first COCO caption of each.

    Raises:
        ChatPainterError: the corpus cannot be read.
    """
    from painter.splits import dialogue_of
    from pipeline.corpora import corpus

    return learn(map(dialogue_of, corpus.rows(corpus.read(path).slice(0, most))))


def find(run: Path, corpus: Path | None = None) -> Interviewer | None:
    """The interviewer of a run or exported model: its `corpus` if named, else the bank beside it, else data/corpus.

    Raises:
        ChatPainterError: what was named or found cannot be read.
    """
    folder = run if run.is_dir() else run.parent
    if corpus is None and (folder / BANK).is_file():
        return load(folder / BANK)
    if corpus is not None:
        return from_corpus(corpus)
    usual = Path("data/corpus/train.parquet")
    return from_corpus(usual) if usual.is_file() else None
