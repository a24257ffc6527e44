"""The chat page: type a caption, talk about the picture, and see it repainted after every answer.

Everything the browser needs comes from this process: no fonts, scripts or statistics from elsewhere.
"""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painter import html
from painter.gate import Gate
from painter.interviewer import Interviewer
from painter.session import SEEDS
from painter.studio import WAITING, Studio
from store.errors import ChatPainterError

if TYPE_CHECKING:
    import gradio

    from painter.handlers import Handlers

# gradio reads these when it is imported. The page needs no network, so that a proxy would only stand between it and
# itself; and without the second line the library reports every start to its makers.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

IDLE_SECONDS = 3600
VISITORS = 500
_HERE = Path(__file__).parent

_FOCUS_ANSWER = (
    "() => setTimeout(() => document.querySelector('#cp-answer textarea, #cp-caption textarea')?.focus(), 60)"
)
_FOCUS_LISTEN = "() => setTimeout(() => document.querySelector('#cp-listen')?.focus(), 60)"
_FOCUS_CHOICE = "() => setTimeout(() => document.querySelector('#cp-view [aria-checked=true]')?.focus(), 60)"
# Gradio finds an event that a program calls by its name even where it is private: no handler may be called `paint`.
_PAGE = "page"
# The last input of every event: what this tab remembers, in case that the server does not.
_RECALL = "(...given) => [...given.slice(0, -1), sessionStorage.getItem('chatpainter') ?? '']"


@dataclass(frozen=True)
class Widgets:
    """The parts of the page that change."""

    session: Any
    remembered: Any
    header: Any
    canvas: Any
    chat: Any
    notice: Any
    begin: Any
    caption: Any
    paint: Any
    examples: Any
    open: Any
    go_on: Any
    question: Any
    answer: Any
    suggestions: Any
    repaint: Any
    another: Any
    undo: Any
    redo: Any
    restart: Any
    seed: Any
    truncation: Any
    dice: Any
    model: Any


def build(studio: Studio, public: bool = False) -> "gradio.Blocks":
    """The page as a Gradio app, not launched yet.

    Args:
        public: for strangers, so that the page must not promise that words stay on this machine, nor tell of it.
    """
    import gradio as gr

    from painter.handlers import Handlers

    with gr.Blocks(title="ChatPainter", analytics_enabled=False, fill_width=True) as page:
        widgets = _lay_out(studio, public)
        handlers = Handlers(studio, widgets, public)
        _connect(widgets, handlers)
        gr.api(handlers.endpoint, api_name="paint", concurrency_id="painting", concurrency_limit=1)
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    return page


def _lay_out(studio: Studio, public: bool) -> Widgets:
    import gradio as gr

    easel = studio.easel("")
    interviewer = easel.interviewer

    # The library's own rules for HTML are meant for articles.
    raw = partial(gr.HTML, apply_default_css=False)
    parts: dict[str, Any] = {
        "session": gr.State(None, time_to_live=IDLE_SECONDS),
        "remembered": gr.Textbox(visible=False),
    }
    parts["header"] = raw(html.header(easel.painter, studio.names[0]), js_on_load=None, elem_id="cp-header")
    with gr.Row(elem_id="cp-desk"):
        with gr.Column(scale=11, min_width=300, elem_id="cp-left"):
            parts["canvas"] = raw(html.canvas_view(None), js_on_load=_script("canvas.js"), elem_id="cp-view")
        with gr.Column(scale=9, min_width=300, elem_id="cp-right"):
            parts["chat"] = raw("", js_on_load=_script("chat.js"), elem_id="cp-chat")
            polite = "element.setAttribute('aria-live', 'polite');"
            parts["notice"] = raw("", js_on_load=polite, elem_id="cp-notice")
            with gr.Column(elem_id="cp-begin") as parts["begin"]:
                parts |= _caption_fields(raw, interviewer)
                parts["open"] = raw(html.open_field(), js_on_load=_script("open.js"), elem_id="cp-open")
            with gr.Column(visible=False, elem_id="cp-go-on") as parts["go_on"]:
                parts |= _answer_fields(raw, interviewer)
            several = len(studio.names) > 1
            with gr.Accordion("Noise and model" if several else "Noise", open=False, elem_id="cp-noise"):
                parts |= _noise_fields()
                parts["model"] = gr.Radio(
                    list(studio.names), value=studio.names[0], label="Model", visible=several, elem_id="cp-model"
                )
    raw(html.footer(public), js_on_load=None, elem_id="cp-footer")
    return Widgets(**parts)


def _caption_fields(raw: Any, interviewer: Interviewer | None) -> dict[str, Any]:
    import gradio as gr

    return {
        "caption": gr.Textbox(
            label="What should I paint?",
            placeholder="One sentence about the picture",
            lines=1,
            max_lines=5,
            autofocus=True,
            elem_id="cp-caption",
        ),
        "paint": gr.Button("Paint", variant="primary", elem_id="cp-paint"),
        "examples": raw(
            html.examples(interviewer.examples if interviewer else []),
            js_on_load=_script("suggestions.js"),
            elem_id="cp-examples",
        ),
    }


def _answer_fields(raw: Any, interviewer: Interviewer | None) -> dict[str, Any]:
    import gradio as gr

    fields = {
        "question": gr.Textbox(
            label="Question, from the interviewer or your own" if interviewer else "Question",
            placeholder="The interviewer knows enough: ask something yourself" if interviewer else None,
            lines=1,
            max_lines=3,
            elem_id="cp-question",
        ),
        "answer": gr.Textbox(label="Your answer", lines=1, max_lines=3, elem_id="cp-answer"),
        "suggestions": raw("", js_on_load=_script("suggestions.js"), elem_id="cp-suggestions"),
        "repaint": gr.Button("Repaint", variant="primary", elem_id="cp-repaint"),
    }
    with gr.Row(elem_id="cp-acts"):
        fields["another"] = gr.Button("Another question", elem_id="cp-another", visible=interviewer is not None)
        fields["undo"] = gr.Button("Undo", elem_id="cp-undo")
        fields["redo"] = gr.Button("Redo", elem_id="cp-redo")
        fields["restart"] = gr.Button("New picture", elem_id="cp-restart")
    return fields


def _noise_fields() -> dict[str, Any]:
    import gradio as gr

    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="cp-seed")
        amount = "Amount of noise (1 as in training)"
        truncation = gr.Slider(0, 2, 1, step=0.1, label=amount, elem_id="cp-truncation")
    return {"seed": seed, "truncation": truncation, "dice": gr.Button("Other variations", elem_id="cp-dice")}


def _connect(page: Widgets, on: "Handlers") -> None:
    """Which event calls what, with which fields; every handler gives the values of the widgets that change."""
    session, remembered, question, noise = page.session, page.remembered, page.question, [page.seed, page.truncation]
    changed = [session, page.canvas, page.chat, page.notice, page.begin, page.go_on, page.caption, question,
               page.answer, page.suggestions, *noise]  # fmt: skip
    # A second limit beside that of OneAtATime: who waits here is told so.
    painting: dict[str, Any] = {
        "concurrency_id": "painting", "concurrency_limit": 1, "api_visibility": "private", "api_name": _PAGE,
        "js": _RECALL, "show_progress": "minimal", "show_progress_on": [page.canvas],
    }  # fmt: skip
    light: dict[str, Any] = {
        "concurrency_limit": 4, "api_visibility": "private", "api_name": _PAGE, "js": _RECALL, "show_progress": "hidden"
    }  # fmt: skip

    def focus(event: Any, script: str) -> None:
        event.then(None, None, None, js=script)

    for event, handler, fields in (
        (page.paint.click, on.paint, [page.caption]),
        (page.caption.submit, on.paint, [page.caption]),
        (page.examples.pick, on.pick_example, []),
        (page.repaint.click, on.answer, [question, page.answer]),
        (page.answer.submit, on.answer, [question, page.answer]),
        (page.suggestions.pick, on.pick_answer, [question]),
        (page.undo.click, on.undo, []),
        (page.redo.click, on.redo, []),
        (page.canvas.branch, on.branch, []),
    ):
        focus(event(handler, [session, *fields, remembered], changed, **painting), _FOCUS_ANSWER)
    for event in (page.seed.submit, page.truncation.release):
        event(on.change_noise, [session, *noise, remembered], changed, **painting)
    page.dice.click(on.next_noise, [session, *noise, remembered], changed, **painting)
    about = [*changed, page.header, page.model]
    page.canvas.restore(on.restore, [session, remembered], about, **painting)
    focus(page.open.open(on.open, [session, remembered], about, **painting), _FOCUS_ANSWER)
    page.model.input(on.change_model, [session, page.model, remembered], about, **painting)
    focus(page.canvas.attend(on.attend, [session, remembered], changed, **painting), _FOCUS_LISTEN)
    focus(page.chat.edit(on.edit, [session, remembered], changed, **light), _FOCUS_ANSWER)
    focus(page.restart.click(on.restart, [session, remembered], changed, **light), _FOCUS_ANSWER)
    focus(page.canvas.choose(on.choose, [session, remembered], changed, **light), _FOCUS_CHOICE)
    focus(page.another.click(on.another, [session, question, remembered], changed, **light), _FOCUS_ANSWER)
    question.submit(None, None, None, js=_FOCUS_ANSWER)


def launch(
    page: "gradio.Blocks",
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Collection[str] = (),
    wait: bool = True,
) -> tuple[str, Any]:
    """Serve the page; returns its address and the server when `wait` is False.

    Args:
        port: 0 for any free one.
        names: names besides the machine's own by which people reach the page, as behind a proxy.

    Raises:
        ChatPainterError: the port is taken.
    """
    import gradio as gr
    import httpx
    from starlette.middleware import Middleware

    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or _free_port(host),
            share=False,
            theme=theme,
            css_paths=[_HERE / "page.css"],
            head='<meta name="viewport" content="width=device-width, initial-scale=1">',
            favicon_path=_HERE / "icon.svg",
            footer_links=[],
            quiet=True,
            show_error=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            state_session_capacity=VISITORS,
            prevent_thread_lock=not wait,
            # Gradio tells screen readers the end of every event by a text that it forgot to translate.
            i18n=gr.I18n(en={"common.complete": "Done"}),
            app_kwargs={"middleware": [Middleware(Gate, host=host, names=tuple(names))]},
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise ChatPainterError(f"port {port} on {host} cannot be used ({error}); choose another with --port") from None
    return address, page


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        return free.getsockname()[1]


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
