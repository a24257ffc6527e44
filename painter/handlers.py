"""What the chat page does at each event: from a visitor's session to the values of the widgets that change."""

import base64
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from painter import html
from painter.dialogue import DialogueError
from painter.memory import Remembered
from painter.session import NOISES, SEEDS, Session, encoded, said
from painter.studio import Easel, Refused, Studio
from store.errors import ChatPainterError

if TYPE_CHECKING:
    from painter.page import Widgets

Values = dict[Any, Any]
"""Values by the widget that they belong to; other widgets stay as they are."""


class Handlers:
    """One method an event. Each takes the session (None where the server knows none), the fields, and what the
    visitor's tab remembers of a session that the server has forgotten."""

    def __init__(self, studio: Studio, page: "Widgets", public: bool = False):
        self.studio = studio
        self.page = page
        self.public = public

    def paint(self, session: Session | None, caption: str, remembered: str) -> Values:
        return self._say(session, remembered, lambda now: now.begin(self._easel(now).painter, caption))

    def pick_example(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        caption = str(_sent(event, "text"))
        return self.paint(session, caption, remembered) | {self.page.caption: caption}

    def answer(self, session: Session | None, question: str, answer: str, remembered: str) -> Values:
        return self._say(session, remembered, lambda now: now.answer(self._easel(now).painter, question, answer))

    def pick_answer(self, session: Session | None, question: str, remembered: str, event: gr.EventData) -> Values:
        return self.answer(session, question, str(_sent(event, "text")), remembered)

    def undo(self, session: Session | None, remembered: str) -> Values:
        now = self._current(session, remembered)
        caption = now.dialogue.caption if now.dialogue else ""
        return self._say(now, remembered, lambda now: now.undo(self._easel(now).painter)) | {self.page.caption: caption}

    def redo(self, session: Session | None, remembered: str) -> Values:
        return self._say(session, remembered, lambda now: now.redo(self._easel(now).painter))

    def branch(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        rounds = _number(_sent(event, "rounds"), int, -1)
        return self._say(session, remembered, lambda now: now.branch(self._easel(now).painter, rounds))

    def edit(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        number = _number(_sent(event, "round"), int, -1)
        return self._say(session, remembered, lambda now: now.edit(number))

    def attend(self, session: Session | None, remembered: str) -> Values:
        now = self._current(session, remembered)
        return self._shown(now, self._tried(lambda: now.attend(self._easel(now).painter)))

    def open(self, session: Session | None, remembered: str, event: gr.EventData) -> Values:
        opened = [session or self._new()]

        def act() -> None:
            opened[0] = Session.opened(self.studio, str(_sent(event, "text")))

        if problem := self._tried(act):
            return self._shown(opened[0], problem)
        return self._all(opened[0])

    def change_model(self, session: Session | None, model: str, remembered: str) -> Values:
        now, model = self._current(session, remembered), self.studio.known(str(model))
        problem = self._tried(lambda: now.change_model(self.studio.easel(model).painter, model))
        return self._shown(now, problem) | self._question(now) | self._about(now)

    def restart(self, session: Session | None, remembered: str) -> Values:
        now = session or self._new()
        now.forget()
        return self._shown(now) | self._question(now) | {self.page.caption: ""}

    def change_noise(self, session: Session | None, seed: Any, truncation: Any, remembered: str) -> Values:
        now = self._current(session, remembered)
        noise = _number(seed, int), _number(truncation, float)
        return self._shown(now, self._tried(lambda: now.change_noise(self._easel(now).painter, *noise)))

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
        return self._all(self._current(session, remembered))

    def _current(self, session: Session | None, remembered: str) -> Session:
        if session is None and remembered:
            return Session.restored(self.studio, remembered)
        return session or self._new()

    def _new(self) -> Session:
        return Session(model=self.studio.names[0])

    def _easel(self, session: Session) -> Easel:
        return self.studio.easel(session.model)

    def _tried(self, act: Callable[[], None]) -> str:
        """What went wrong, in words; "" if nothing did. A public page tells strangers nothing of its machine."""
        try:
            act()
        except (Refused, DialogueError) as error:
            return error.message
        except ChatPainterError as error:
            if not self.public:
                return error.message
            print(error.message, file=sys.stderr)
            return "That could not be painted; whoever runs this page finds the reason in its output."
        return ""

    def _say(self, session: Session | None, remembered: str, act: Callable[[Session], None]) -> Values:
        now = self._current(session, remembered)
        if problem := self._tried(lambda: act(now)):
            # What stands in the fields stays: nothing was said, so nothing new is to be asked.
            return self._shown(now, problem)
        return self._shown(now) | self._question(now)

    def _all(self, session: Session) -> Values:
        noise = {self.page.seed: session.seed, self.page.truncation: session.truncation}
        return self._shown(session) | self._question(session) | self._about(session) | noise

    def _about(self, session: Session) -> Values:
        """Which model paints."""
        name = self.studio.known(session.model)
        return {self.page.header: html.header(self.studio.easel(name).painter, name), self.page.model: name}

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
        interviewer = self._easel(session).interviewer
        if session.editing is not None:
            question, answer = session.rounds[session.editing]
            offered = interviewer.suggestions(question) if interviewer else []
        else:
            asked = session.next_question(interviewer, skip)
            question, answer = f"{asked.text}?" if asked else "", ""
            offered = asked.answers if asked else []
        return {
            self.page.question: question,
            self.page.answer: answer,
            self.page.suggestions: html.suggestions(offered),
        }

    def endpoint(self, caption: str, rounds: list[list[str]], seed: int = 0, n: int = 1) -> dict[str, Any]:
        """Paint a caption and rounds of [question, answer]: n pictures (1 to 4) as PNG in data URIs, by seed.

        The same limits as the page: 1,000 characters of a caption, 300 of a question or answer, 500 rounds.
        """
        painted: dict[str, Any] = {}

        def act() -> None:
            if not isinstance(n, int) or not isinstance(seed, int) or not 1 <= n <= NOISES or not 0 <= seed < SEEDS:
                raise Refused(f"n is a whole number from 1 to {NOISES}, seed one from 0 to {SEEDS - 1}.")
            words, painter = said(caption, rounds), self.studio.easel("").painter
            kept = Remembered(words.caption, words.rounds, seed, model=self.studio.names[0])
            pictures = painter.paint(words.caption, words.rounds, n, seed, 1.0)
            painted["pictures"] = [
                f"data:image/png;base64,{base64.b64encode(encoded(picture, 'PNG', kept.of(i).to_png())).decode()}"
                for i, picture in enumerate(pictures)
            ]
            painted["unknown"] = painter.read(words).unknown

        if problem := self._tried(act):
            raise gr.Error(problem, print_exception=False)
        return painted


def _sent(event: gr.EventData, name: str) -> Any:
    """What the page's own scripts sent along with an event; anybody else may send anything."""
    return event._data.get(name, "") if isinstance(event._data, dict) else ""


def _number(value: Any, kind: type, otherwise: Any = 0) -> Any:
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
