"""The chat page: type a caption, talk about the picture, and see it repainted after every answer.

Everything the browser needs comes from this process: no fonts, scripts or statistics from elsewhere.
"""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painter import fragments
from painter.interviewer import Interviewer
from painter.painter import Painter
from painter.visit import SEEDS, WAITING, Visit
from store.errors import ChatPainterError

if TYPE_CHECKING:
    import gradio

IDLE_SECONDS = 3600
VISITORS = 500
_HERE = Path(__file__).parent
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build(painter: Painter, interviewer: Interviewer | None, public: bool = False) -> "gradio.Blocks":
    """The page as a Gradio app, not launched yet.

    Args:
        public: served to other machines, so that the page must not promise that words stay on this one.
    """
    # Read when gradio is imported; without it the library reports every start to its makers.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gradio as gr

    # The library's own rules for HTML are meant for articles.
    raw = partial(gr.HTML, apply_default_css=False)
    with gr.Blocks(title="ChatPainter", analytics_enabled=False, fill_width=True) as page:
        visit = gr.State(None, time_to_live=IDLE_SECONDS)
        raw(fragments.header(painter), js_on_load=None, elem_id="cp-header")
        with gr.Row(elem_id="cp-desk"):
            with gr.Column(scale=11, min_width=300, elem_id="cp-left"):
                easel = raw(fragments.easel(Visit()), js_on_load=_script("easel.js"), elem_id="cp-easel")
            with gr.Column(scale=9, min_width=300, elem_id="cp-right"):
                talk = raw("", js_on_load=_script("talk.js"), elem_id="cp-talk")
                notice = raw("", js_on_load="element.setAttribute('aria-live', 'polite');", elem_id="cp-notice")
                with gr.Column(elem_id="cp-begin") as begin:
                    caption = gr.Textbox(
                        label="What should I paint?",
                        placeholder="One sentence about the picture",
                        lines=1,
                        max_lines=5,
                        autofocus=True,
                        elem_id="cp-caption",
                    )
                    paint = gr.Button("Paint", variant="primary", elem_id="cp-paint")
                    examples = raw(
                        fragments.examples(interviewer.examples if interviewer else []),
                        js_on_load=_script("offers.js"),
                        elem_id="cp-examples",
                    )
                with gr.Column(visible=False, elem_id="cp-go-on") as go_on:
                    question = gr.Textbox(
                        label="Question, from the interviewer or your own" if interviewer else "Question",
                        placeholder="The interviewer knows enough: ask something yourself" if interviewer else None,
                        lines=1,
                        max_lines=3,
                        elem_id="cp-question",
                    )
                    answer = gr.Textbox(label="Your answer", lines=1, max_lines=3, elem_id="cp-answer")
                    offers = raw("", js_on_load=_script("offers.js"), elem_id="cp-offers")
                    repaint = gr.Button("Repaint", variant="primary", elem_id="cp-repaint")
                    with gr.Row(elem_id="cp-acts"):
                        another = gr.Button("Another question", elem_id="cp-another", visible=interviewer is not None)
                        undo = gr.Button("Undo", elem_id="cp-undo")
                        restart = gr.Button("New picture", elem_id="cp-restart")
                with gr.Accordion("Noise", open=False, elem_id="cp-noise"):
                    with gr.Row():
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="cp-seed")
                        truncation = gr.Slider(
                            0, 2, 1, step=0.1, label="Amount of noise (1 as in training)", elem_id="cp-truncation"
                        )
                    dice = gr.Button("Other variations", elem_id="cp-dice")
        raw(fragments.footer(public), js_on_load=None, elem_id="cp-footer")

        seen = [visit, easel, talk, notice, begin, go_on, caption, question, answer, offers]

        def shown(now: Visit, problem: str = "", ask: bool = True, skip: str = "") -> list[Any]:
            # `ask` False keeps what stands in the fields: nothing was said, so nothing new is to be asked.
            asked = now.next_question(interviewer, skip) if ask else None
            suggestions = interviewer.suggestions(asked.text) if interviewer and asked else []
            fields = (
                [(asked.text + "?") if asked else "", "", fragments.offers(suggestions)]
                if ask
                else [gr.skip(), gr.skip(), gr.skip()]
            )
            begun = now.dialogue is not None
            return [
                now,
                fragments.easel(now),
                fragments.talk(now),
                fragments.notice(now, problem),
                gr.update(visible=not begun),
                gr.update(visible=begun),
                gr.skip(),
                *fields,
            ]

        def on_paint(now: Visit | None, words: str) -> list[Any]:
            now = now or Visit()
            try:
                now.begin(painter, words)
            except ChatPainterError as error:
                return shown(now, error.message, ask=False)
            return shown(now)

        def on_example(now: Visit | None, event: gr.EventData) -> list[Any]:
            now = now or Visit()
            words = str(event._data.get("text", ""))
            result = on_paint(now, words)
            result[6] = words
            return result

        def on_answer(now: Visit | None, asked: str, said: str) -> list[Any]:
            now = now or Visit()
            try:
                now.answer(painter, asked, said)
            except ChatPainterError as error:
                return shown(now, error.message, ask=False)
            return shown(now)

        def on_offer(now: Visit | None, asked: str, event: gr.EventData) -> list[Any]:
            now = now or Visit()
            return on_answer(now, asked, str(event._data.get("text", "")))

        def on_undo(now: Visit | None) -> list[Any]:
            now = now or Visit()
            words = now.dialogue.caption if now.dialogue else ""
            try:
                now.undo(painter)
            except ChatPainterError as error:
                return shown(now, error.message, ask=False)
            result = shown(now)
            result[6] = words
            return result

        def on_restart(now: Visit | None) -> list[Any]:
            now = now or Visit()
            result = shown(Visit(seed=now.seed, truncation=now.truncation))
            result[6] = ""
            return result

        def on_noise(now: Visit | None, number: float | None, amount: float) -> list[Any]:
            now = now or Visit()
            now.noises(painter, int(number or 0), amount)
            return shown(now, ask=False)

        def on_choose(now: Visit | None, event: gr.EventData) -> list[Any]:
            now = now or Visit()
            number = event._data.get("number")
            now.choose(number if isinstance(number, int) else -1)
            return shown(now, ask=False)

        def on_another(now: Visit | None, asked: str) -> list[Any]:
            return shown(now or Visit(), skip=asked)

        # One painting at a time: two would only slow each other down on the same cores.
        turn: dict[str, Any] = {"concurrency_id": "painting", "concurrency_limit": 1, "api_visibility": "private"}
        light: dict[str, Any] = {"concurrency_limit": 4, "api_visibility": "private", "show_progress": "hidden"}
        wait: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": [easel]}

        to_answer = (
            "() => setTimeout(() => document.querySelector('#cp-answer textarea, #cp-caption textarea')?.focus(), 60)"
        )
        to_choice = "() => setTimeout(() => document.querySelector('#cp-easel [aria-checked=true]')?.focus(), 60)"
        for event, handler, takes in (
            (paint.click, on_paint, [visit, caption]),
            (caption.submit, on_paint, [visit, caption]),
            (examples.offer, on_example, [visit]),
            (repaint.click, on_answer, [visit, question, answer]),
            (answer.submit, on_answer, [visit, question, answer]),
            (offers.offer, on_offer, [visit, question]),
            (undo.click, on_undo, [visit]),
        ):
            event(handler, takes, seen, **turn, **wait).then(None, None, None, js=to_answer)
        for event in (seed.submit, truncation.release):
            event(on_noise, [visit, seed, truncation], seen, **turn, **wait)
        dice.click(lambda number: (int(number or 0) + 1) % SEEDS, [seed], [seed], **light).then(
            on_noise, [visit, seed, truncation], seen, **turn, **wait
        )
        restart.click(on_restart, [visit], seen, **light).then(None, None, None, js=to_answer)
        easel.choose(on_choose, [visit], seen, **light).then(None, None, None, js=to_choice)
        another.click(on_another, [visit, question], seen, **light).then(None, None, None, js=to_answer)
        question.submit(None, None, None, js=to_answer)

    page.queue(max_size=WAITING, default_concurrency_limit=1)
    return page


def launch(
    page: "gradio.Blocks", host: str = "127.0.0.1", port: int | None = None, *, wait: bool = True
) -> tuple[str, Any]:
    """Serve the page; returns its address and the server when `wait` is False.

    Raises:
        ChatPainterError: the port is taken.
    """
    import gradio as gr

    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
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
            # The page takes no files; the library's upload address would take any.
            max_file_size=1,
            state_session_capacity=VISITORS,
            prevent_thread_lock=not wait,
        )
    except OSError as error:
        raise ChatPainterError(f"port {port} on {host} cannot be used ({error}); choose another with --port") from None
    return address, page


def is_loopback(host: str) -> bool:
    """Whether only this machine can open a page served at `host`."""
    return host in _LOOPBACK


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
