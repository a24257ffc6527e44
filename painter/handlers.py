"""What the chat page does at each event: from a visitor's session to the values of the widgets that change."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from painter import html
from painter.interviewer import Interviewer
from painter.session import Paints, Session
from store.errors import ChatPainterError

if TYPE_CHECKING:
    from painter.page import Widgets

Values = dict[Any, Any]
"""Values by the widget that they belong to; other widgets stay as they are."""


class Handlers:
    """One method an event. Each takes the session (None where the server knows none), the fields, and what the
    visitor's tab remembers of a session that the server has forgotten."""

    def __init__(self, painter: Paints, interviewer: Interviewer | None, page: "Widgets"):
        self.painter = painter
        self.interviewer = interviewer
        self.page = page

    def paint(self, session: Session | None, caption: str, remembered: str) -> Values:
        return self._say(session, remembered, lambda now: now.begin(self.painter, caption))

    def pick_example(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        caption = str(_sent(event, "text"))
        return self.paint(session, caption, remembered) | {self.page.caption: caption}

    def answer(self, session: Session | None, question: str, answer: str, remembered: str) -> Values:
        return self._say(session, remembered, lambda now: now.answer(self.painter, question, answer))

    def pick_answer(self, session: Session | None, question: str, remembered: str, event: gr.EventData) -> Values:
        return self.answer(session, question, str(_sent(event, "text")), remembered)

    def undo(self, session: Session | None, remembered: str) -> Values:
        now = self._current(session, remembered)
        caption = now.dialogue.caption if now.dialogue else ""
        return self._say(now, remembered, lambda now: now.undo(self.painter)) | {self.page.caption: caption}

    def restart(self, session: Session | None, remembered: str) -> Values:
        now = session or Session()
        now.forget()
        return self._shown(now) | self._question(now) | {self.page.caption: ""}

    def change_noise(self, session: Session | None, seed: Any, truncation: Any, remembered: str) -> Values:
        now = self._current(session, remembered)
        try:
            now.change_noise(self.painter, _number(seed, int), _number(truncation, float))
        except ChatPainterError as error:
            return self._shown(now, error.message)
        return self._shown(now)

    def next_noise(self, session: Session | None, seed: Any, truncation: Any, remembered: str) -> Values:
        changed = self.change_noise(session, _number(seed, int) + 1, truncation, remembered)
        return changed | {self.page.seed: changed[self.page.session].seed}

    def choose(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        now = self._current(session, remembered)
        now.choose(_number(_sent(event, "number"), int, -1))
        return self._shown(now)

    def another(self, session: Session | None, question: str, remembered: str) -> Values:
        now = self._current(session, remembered)
        return self._shown(now) | self._question(now, skip=question or "")

    def restore(self, session: Session | None, remembered: str) -> Values:
        """The tab was loaded again."""
        now = self._current(session, remembered)
        noise = {self.page.seed: now.seed, self.page.truncation: now.truncation}
        return self._shown(now) | self._question(now) | noise

    def _current(self, session: Session | None, remembered: str) -> Session:
        if session is None and remembered:
            return Session.restored(self.painter, remembered)
        return session or Session()

    def _say(self, session: Session | None, remembered: str, act: Callable[[Session], None]) -> Values:
        now = self._current(session, remembered)
        try:
            act(now)
        except ChatPainterError as error:
            # What stands in the fields stays: nothing was said, so nothing new is to be asked.
            return self._shown(now, error.message)
        return self._shown(now) | self._question(now)

    def _shown(self, session: Session, problem: str = "") -> Values:
        begun = session.dialogue is not None
        return {
            self.page.session: session,
            self.page.canvas: html.canvas_view(session),
            self.page.chat: html.chat_view(session),
            self.page.notice: html.notice(session, problem),
            self.page.begin: gr.update(visible=not begun),
            self.page.go_on: gr.update(visible=begun),
        }

    def _question(self, session: Session, skip: str = "") -> Values:
        asked = session.next_question(self.interviewer, skip)
        return {
            self.page.question: f"{asked.text}?" if asked else "",
            self.page.answer: "",
            self.page.suggestions: html.suggestions(asked.answers if asked else []),
        }


def _sent(event: gr.EventData, name: str) -> Any:
    """What the page's own scripts sent along with an event; anybody else may send anything."""
    return event._data.get(name, "") if isinstance(event._data, dict) else ""


def _number(value: Any, kind: type, otherwise: Any = 0) -> Any:
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
