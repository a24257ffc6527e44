"""Words of a text as Skip-Thought's code saw them: sentences first, then Penn Treebank's conventions in each.

Tokenisers drift between releases, and a token that the dictionary does not know becomes UNK; so rules are frozen
here under a name that goes into every manifest. `treebank-3.2.5` finds the words that NLTK 3.2.5's word_tokenize
finds (2017, the year before the paper), `treebank-3.0.4` those of the release that Skip-Thought's authors had (2015).
`nltk-installed` is whatever NLTK is installed. All three share the sentence splitting below, which needs no download.
"""

import re
from collections.abc import Callable
from importlib import metadata
from typing import Literal

from store.errors import ChatPainterError

Tokenizer = Callable[[str], list[str]]
TokenizerName = Literal["treebank-3.2.5", "treebank-3.0.4", "nltk-installed"]
Rules = list[tuple[re.Pattern[str], str]]

SENTENCES = "sentences-1"  # raise it when the rules of `sentences` change what they return


def tokenizer(name: TokenizerName) -> Tokenizer:
    """The function from a text to its words; white space alone has none.

    Raises:
        ChatPainterError: `nltk-installed` where NLTK is not installed.
    """
    if name == "nltk-installed":
        try:
            from nltk.tokenize.destructive import NLTKWordTokenizer
        except ImportError:
            raise ChatPainterError(
                "params.yaml: encoders.skip_thought.tokenizer is nltk-installed, but NLTK is not: "
                "pip install nltk, or use treebank-3.2.5"
            ) from None
        words: Tokenizer = NLTKWordTokenizer().tokenize
    else:
        words = _Treebank(RULES[name])
    return lambda text: [word for sentence in sentences(text) for word in words(sentence)]


def identity(name: TokenizerName) -> str:
    """The tokeniser's name with all that decides what it returns."""
    if name == "nltk-installed":
        try:
            name_and_version = f"nltk-{metadata.version('nltk')}"
        except metadata.PackageNotFoundError:
            name_and_version = name
        return f"{name_and_version}+{SENTENCES}"
    return f"{name}+{SENTENCES}"


def _rules(*pairs: tuple[str, str]) -> Rules:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


# Sentences of letters, digits, inner apostrophes and hyphens, commas and one closing mark: in them no rule looks past
# the white space round a word, so that each distinct word needs its rules once.
PLAIN = re.compile(r"(?:[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*,? +)*[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*[.?!,]?\Z")
MOST_REMEMBERED = 200_000


class _Treebank:
    """Rules as a function from a sentence to its words."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.inside: dict[str, list[str]] = {}
        self.last: dict[str, list[str]] = {}

    def __call__(self, sentence: str) -> list[str]:
        if not PLAIN.match(sentence):
            return self.apply(sentence)
        if len(self.inside) + len(self.last) > MOST_REMEMBERED:
            self.inside.clear()
            self.last.clear()
        *inside, last = sentence.split()
        found: list[str] = []
        for word in inside:
            words = self.inside.get(word)
            if words is None:
                words = self.inside[word] = self.apply(f"x {word} x")[1:-1]
            found += words
        words = self.last.get(last)
        if words is None:
            words = self.last[last] = self.apply(f"x {last}")[1:]
        return found + words

    def apply(self, sentence: str) -> list[str]:
        for pattern, replacement in self.rules:
            sentence = pattern.sub(replacement, sentence)
        return sentence.split()


# The Penn Treebank conventions (Robert MacIntyre's sed script of 1995), in the order that NLTK applies them.
OPENING = [
    (r'^"', r"``"),
    (r"(``)", r" \1 "),
    (r'([ (\[{<])"', r"\1 `` "),
]
PUNCTUATION = [
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.\.\.", r" ... "),
    (r"[;@#$%&]", r" \g<0> "),
    (r"([^.])(\.)([\])}>\"']*)\s*$", r"\1 \2\3 "),  # a full stop ends a sentence: elsewhere it stays with its word
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
]
BRACKETS = [(r"[\]\[(){}<>]", r" \g<0> "), (r"--", r" -- ")]
MARGIN = [(r"\A", " "), (r"\Z", " ")]  # so that the rules below need not know the ends
CLOSING = [
    (r'"', " '' "),
    (r"(\S)('')", r"\1 \2 "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
]
CONTRACTIONS = [
    (rf"(?i)\b({first})({second}){after}", r" \1 \2 ")
    for first, second, after in (
        ("can", "not", r"\b"),
        ("d", "'ye", r"\b"),
        ("gim", "me", r"\b"),
        ("gon", "na", r"\b"),
        ("got", "ta", r"\b"),
        ("lem", "me", r"\b"),
        ("mor", "'n", r"\b"),
        ("wan", "na", r"\s"),
    )
] + [(r"(?i) ('t)(is)\b", r" \1 \2 "), (r"(?i) ('t)(was)\b", r" \1 \2 ")]

RULES: dict[str, Rules] = {
    "treebank-3.2.5": _rules(
        # word_tokenize learnt typographic quotes in 2016
        (r"([«“‘])", r" \1 "),
        *OPENING,
        (r"([^.])(\.)([\])}>\"'»”’ ]*)\s*$", r"\1 \2 \3 "),
        *PUNCTUATION,
        *BRACKETS,
        *MARGIN,
        (r"([»”’])", r" \1 "),
        *CLOSING,
        *CONTRACTIONS,
    ),
    "treebank-3.0.4": _rules(*OPENING, *PUNCTUATION, *BRACKETS, *MARGIN, *CLOSING, *CONTRACTIONS),
}

# --- sentences ---------------------------------------------------------------------------------------------------

_ABBREVIATIONS = (
    "mr mrs ms dr st jr sr prof gen col capt lt sgt rev hon gov sen rep pres "
    "u.s u.k u.n e.g i.e a.m p.m a.k.a d.c l.a n.y ph.d b.c a.d "
    "vs inc corp co ltd bros ave blvd rd mt ft oz lb lbs "
    "jan feb aug sept oct nov dec mon tues wed thurs fri"
)
_STARTERS = (
    "the a an it he she they we i you this that these those there here in on at but and or so if when while "
    "is are was were does do did can what where who how why no yes his her their its my"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
STARTERS = frozenset(_STARTERS.split())
# A run of word material that ends in . ? or !, followed by white space and more, or by other punctuation.
CANDIDATE = re.compile(r"""\S*[.?!](?=[?!)";}\]*:@'({\[]|\s+(\S+))""")
MARK = re.compile(r"[.?!]")
CLOSERS = re.compile(r"""["')\]}]+?(?:\s+|(?=--)|$)""")
NUMBER = re.compile(r"(?:.*:)?-?[.,]?\d[\d,.-]*\Z")


def sentences(text: str) -> list[str]:
    """`text` cut after sentences, in the manner of NLTK's Punkt with a frozen list of abbreviations.

    `?` and `!` end a sentence. A full stop does too, whatever follows, unless it belongs to an abbreviation, to an
    initial or to a number before a small letter, or is one of several dots before a small letter.
    """
    text = text.strip()
    if not text:
        return []
    if not MARK.search(text, 0, len(text) - 1):
        return [text]
    cuts = [0]
    for candidate in CANDIDATE.finditer(text):
        following = candidate.group(1)
        if following is None:
            # Only a closing bracket or quote may stand between the mark and the next sentence.
            closer = CLOSERS.match(text, candidate.end())
            if closer is None or closer.end() == len(text) or not text[closer.end() - 1].isspace():
                continue
            if _ends(candidate.group(), text[closer.end() :].split(maxsplit=1)[0]):
                cuts.append(closer.end())
        elif _ends(candidate.group(), following):
            cuts.append(candidate.start(1))
    return [text[start:end].strip() for start, end in zip(cuts, cuts[1:] + [len(text)])]


def _ends(word: str, following: str) -> bool:
    """Whether the mark at the end of `word` ends a sentence, given the word that follows."""
    if word[-1] in "?!":
        return True
    bare = word[:-1].lstrip("\"'([{").lower()
    capital = following.lstrip("\"'([{")[:1].isupper()
    if bare.endswith("."):
        return capital
    if bare in ABBREVIATIONS or bare.rpartition("-")[2] in ABBREVIATIONS:
        return capital and following.lower().strip(",;:'\"") in STARTERS
    if len(bare) == 1 and bare.isalpha():
        return capital and following.lower() in STARTERS
    if NUMBER.match(bare):
        return capital
    return True
