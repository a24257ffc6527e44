"""The chat page's own pieces of HTML, from the macros of page.html.jinja. Whatever stands in one of them is inert."""

import base64
import html
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from painter.dialogue import MOST_ROUNDS
from painter.session import CAPTION_LETTERS, NOISES, TEXT_LETTERS, Session
from painter.studio import WAITING, Paints
from store import templates
from trainer.logs.attention import COLOURS

# Gradio runs HTML values through two template languages; these letters would start an expression in one of them.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;", "\\": "&#92;"})


def text(words: str) -> str:
    """Typed words as HTML text or attribute value, inert for browser and templates.

    >>> text("<b>${1+1}</b>")
    '&lt;b&gt;&#36;&#123;1+1&#125;&lt;/b&gt;'
    """
    return html.escape(words, quote=True).translate(_TEMPLATE)


def canvas_view(session: Session | None) -> str:
    """The picture, the other noises, and what the picture was before; None before the page knows its visitor."""
    return _macro("canvas_view", session or Session(), None if session is None else session.remember())


def chat_view(session: Session) -> str:
    """The conversation so far."""
    return _macro("chat_view", session)


def notice(session: Session, problem: str = "") -> str:
    """What just happened, for eyes and for screen readers alike."""
    return _macro("notice", session, problem)


def suggestions(answers: list[str]) -> str:
    """Answers to choose from with one click."""
    return _macro("choices", answers, "cp-suggestions", "Answers to choose from", "")


def examples(captions: list[str]) -> str:
    """Captions to begin with."""
    return _macro("choices", captions, "cp-suggestions cp-examples", "Examples", "Or try one of these")


def open_field() -> str:
    """Where a saved picture or conversation is opened."""
    return _macro("open_field")


def header(painter: Paints, name: str) -> str:
    """Who this is, what to do, and which model paints."""
    return _macro("header", painter.about, painter.text_trained, name)


def footer(public: bool) -> str:
    """Limits, and where the words go."""
    limits = {
        "waiting": WAITING, "caption": CAPTION_LETTERS, "text": TEXT_LETTERS, "rounds": MOST_ROUNDS, "noises": NOISES
    }  # fmt: skip
    return _macro("footer", public, limits)


def _macro(name: str, *arguments: Any) -> str:
    return str(getattr(_macros(), name)(*arguments)).strip()


@cache
def _macros() -> Any:
    environment = templates.environment(Path(__file__).parent, _inert)
    environment.filters |= {"uri": _uri, "with_unknown": _with_unknown}
    environment.globals |= {"counted": _counted, "short_round": _short_round, "listened": _listened}
    return environment.get_template("page.html.jinja").module


def _inert(value: Any) -> Markup:
    """Every value of a template, once: what a macro returned is inert already."""
    return value if isinstance(value, Markup) else Markup(text(str(value)))


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _with_unknown(words: str, unknown: list[str]) -> list[tuple[str, bool]]:
    """Each word, and whether the encoders do not know it."""
    lowered = {word.lower() for word in unknown}
    return [(word, word.strip(".,;:!?\"'()").lower() in lowered) for word in words.split()]


def _counted(rounds: int) -> str:
    return f"{rounds} round{'s' if rounds > 1 else ''}"


def _listened(session: Session) -> list[tuple[str, str, str]]:
    """Colour, name and words of every token that some place of the chosen picture listened to most."""
    _, heard = session.heard[session.choice]
    words = {f"round {number}": _short_round(*each) for number, each in enumerate(session.rounds, 1)}
    loudest = sorted(set(heard.most.flat) - {len(heard.tokens)})
    return [
        ("#{:02x}{:02x}{:02x}".format(*COLOURS[number % len(COLOURS)]), heard.tokens[number],
         words.get(heard.tokens[number], ""))
        for number in loudest
    ]  # fmt: skip


def _short_round(question: str, answer: str) -> str:
    return f"{question.rstrip(' ?')}? {answer}" if len(question) + len(answer) < 60 else answer[:60]
