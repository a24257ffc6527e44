"""The chat page's own pieces of HTML. Whatever a visitor typed passes `text()` before it enters one."""

import base64
import html

from painter.painter import Painter
from painter.visit import CAPTION_LETTERS, NOISES, ROUNDS, TEXT_LETTERS, WAITING, Visit

# Gradio runs HTML values through two template languages; these letters would start an expression in one of them.
_TEMPLATE = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;", "\\": "&#92;"})


def text(words: str) -> str:
    """Typed words as HTML text or attribute value, inert for browser and templates.

    >>> text("<b>${1+1}</b>")
    '&lt;b&gt;&#36;&#123;1+1&#125;&lt;/b&gt;'
    """
    return html.escape(words, quote=True).translate(_TEMPLATE)


def easel(visit: Visit) -> str:
    """The picture, the other noises, and what the picture was before."""
    if not visit.pictures or visit.dialogue is None:
        return '<div class="cp-easel cp-blank"><div class="cp-canvas"><p>Your picture appears here.</p></div></div>'
    alt = text(f"Painted: {visit.dialogue.caption}" + _after(len(visit.rounds), ", after {}"))
    png = [_uri(picture, "png") for picture in visit.pictures]
    others = "".join(
        f'<button type="button" role="radio" aria-checked="{str(i == visit.choice).lower()}" data-noise="{i}"'
        f' tabindex="{0 if i == visit.choice else -1}" aria-label="Variation {i + 1}"><img src="{uri}" alt=""></button>'
        for i, uri in enumerate(png)
    )
    dialogue = base64.b64encode(visit.visdial()).decode()
    return (
        '<div class="cp-easel">'
        f'<figure class="cp-canvas"><img id="cp-picture" src="{png[visit.choice]}" data-now="{png[visit.choice]}"'
        f' data-said="{_showing(visit)}"'
        f' alt="{alt}" width="256" height="256"><figcaption id="cp-showing">{_showing(visit)}</figcaption></figure>'
        f'<div class="cp-under"><div class="cp-noises" role="radiogroup" aria-label="Variations">{others}</div>'
        '<p class="cp-keep">'
        f'<a id="cp-save-picture" download="chatpainter.png" href="{png[visit.choice]}">Save picture</a>'
        f'<a id="cp-save-dialogue" download="dialogue.json" href="data:application/json;base64,{dialogue}">'
        "Save conversation</a></p></div>"
        f"{_strip(visit)}</div>"
    )


def _strip(visit: Visit) -> str:
    if len(visit.frames) < 2:
        return ""
    steps = []
    for frame in visit.frames:
        now = frame is visit.frames[-1]
        said = "Caption alone" if not frame.rounds else _heard(visit, frame.rounds - 1)
        steps.append(
            f'<li><button type="button" data-show="{_uri(frame.jpegs[visit.choice], "jpeg")}"'
            f' data-label="{text(said)}" aria-pressed="{str(now).lower()}">'
            f'<img src="{_uri(frame.jpegs[visit.choice], "jpeg")}" alt=""><span>{text(said)}</span></button></li>'
        )
    earlier = visit.frames[0].rounds
    more = f"<p>and {earlier} earlier</p>" if earlier else ""
    return (
        '<section class="cp-strip" aria-labelledby="cp-grew" tabindex="0"><h2 id="cp-grew">How the picture grew</h2>'
        f"<ol>{''.join(steps)}</ol>{more}</section>"
    )


def _heard(visit: Visit, number: int) -> str:
    question, answer = visit.rounds[number]
    return f"{question.rstrip(' ?')}? {answer}" if len(question) + len(answer) < 60 else answer[:60]


def _showing(visit: Visit) -> str:
    return "Painted from the caption alone" if not visit.rounds else _after(len(visit.rounds), "Painted after {}")


def _after(rounds: int, form: str) -> str:
    return form.format(f"{rounds} round{'s' if rounds > 1 else ''}") if rounds else ""


def talk(visit: Visit) -> str:
    """The conversation so far."""
    if visit.dialogue is None:
        return ""
    unknown = {word.lower() for word in visit.unknown}
    lines = [f'<li class="cp-you cp-caption">{_marked(visit.dialogue.caption, unknown)}</li>']
    for question, answer in visit.rounds:
        asked = question.rstrip(" ?") + "?"
        lines.append(f'<li class="cp-asked">{_marked(asked, unknown)}</li>')
        lines.append(f'<li class="cp-you">{_marked(answer, unknown)}</li>')
    return f'<section class="cp-talk" aria-label="Conversation" tabindex="0"><ol>{"".join(lines)}</ol></section>'


def _marked(words: str, unknown: set[str]) -> str:
    parts = []
    for word in words.split():
        bare = word.strip(".,;:!?\"'()").lower()
        inert = text(word)
        parts.append(f'<span class="cp-unknown">{inert}</span>' if bare in unknown else inert)
    return " ".join(parts)


def notice(visit: Visit, problem: str = "") -> str:
    """What just happened, for eyes and for screen readers alike."""
    if problem:
        return f'<p class="cp-problem">{text(problem)}</p>'
    if visit.dialogue is None:
        return ""
    parts = [f"<span>Painted in {visit.seconds:.1f} s.</span>"]
    if visit.unknown:
        words = ", ".join(f"<b>{text(word[:40])}</b>" for word in visit.unknown[:8])
        more = f" and {len(visit.unknown) - 8} more" if len(visit.unknown) > 8 else ""
        parts.append(f'<span class="cp-warn">Not in the painter’s vocabulary: {words}{more}.</span>')
    if visit.truncated:
        parts.append('<span class="cp-warn">Only the beginning of the caption fits its encoder.</span>')
    return f"<p>{' '.join(parts)}</p>"


def offers(suggestions: list[str]) -> str:
    """Answers to choose from with one click."""
    return _choices(suggestions, "cp-offers", "Answers to choose from")


def examples(captions: list[str]) -> str:
    """Captions to begin with."""
    return _choices(captions, "cp-offers cp-examples", "Examples", "<p>Or try one of these</p>")


def _choices(texts: list[str], classes: str, label: str, before: str = "") -> str:
    """A button for every text; nothing where there is none."""
    if not texts:
        return ""
    buttons = "".join(f'<button type="button" data-text="{text(each)}">{text(each)}</button>' for each in texts)
    return f'<div class="{classes}" role="group" aria-label="{label}">{before}{buttons}</div>'


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


_LOGO = (
    '<svg viewBox="0 0 40 40" width="40" height="40" aria-hidden="true"><path fill="var(--cp-accent)"'
    ' d="M6 4h28a4 4 0 0 1 4 4v18a4 4 0 0 1-4 4H18l-9 7v-7H6a4 4 0 0 1-4-4V8a4 4 0 0 1 4-4z"/>'
    '<circle cx="12" cy="17" r="3.4" fill="#f4c95d"/>'
    '<circle cx="20" cy="17" r="3.4" fill="#fff"/><circle cx="28" cy="17" r="3.4" fill="#6fb7a8"/></svg>'
)


def header(painter: Painter) -> str:
    """Who this is, and what to do."""
    untrained = (
        ""
        if painter.text_trained
        else ' <span class="cp-badge" title="They were never trained: they tell texts apart, nothing more">'
        "untrained text encoders</span>"
    )
    return (
        f'<header class="cp-header">{_LOGO}<div><h1>ChatPainter</h1>'
        "<p>Describe a picture, then talk about it. Every answer repaints it.</p></div>"
        f'<p class="cp-model">{text(painter.about)}{untrained}</p></header>'
    )


def footer(public: bool) -> str:
    """Limits, and where the words go."""
    where = (
        "What you type is sent to the machine that serves this page and forgotten an hour after you leave."
        if public
        else "Everything happens on this computer; nothing you type leaves it or is written down."
    )
    return (
        f'<footer class="cp-footer"><p>{where} One picture is painted at a time; up to {WAITING} visitors wait. '
        f"A caption takes {CAPTION_LETTERS:,} characters, a question or answer {TEXT_LETTERS}, "
        f"a picture {ROUNDS} rounds in {NOISES} variations.</p></footer>"
    )
