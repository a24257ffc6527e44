"""The chat page in a real browser."""

import base64
import io
import json
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from painter import Painter, interviewer, page
from painter.gate import is_loopback
from painter.session import CAPTION_LETTERS
from painter.studio import Studio

pytestmark = pytest.mark.browser

CAPTION = "a red circle at the top left and one other shape"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update"]  # fmt: skip


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def painter(make_run: Callable[..., Path], weights: Path) -> Painter:
    """One whose places listen."""
    return Painter.from_run(make_run("attended"), weights=str(weights))


@pytest.fixture(scope="module")
def connections() -> Iterator[list[Any]]:
    """Every address that this process connects to while the page is served."""
    found: list[Any] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> Any:
        found.append(address)
        return connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", noted)
    yield found
    patch.undo()


@pytest.fixture(scope="module")
def address(painter: Painter, corpus: Path, connections: list[Any]) -> Iterator[str]:
    app = page.build(Studio.of(painter, interviewer.from_corpus(corpus)))
    url, app = page.launch(app, wait=False)
    yield url
    app.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """A fresh visitor; fails the test if the page asked another machine for anything, or a script failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(90_000)
    opened = context.new_page()
    outside: list[str] = []
    wrong: list[str] = []
    opened.on("request", lambda request: outside.append(request.url) if foreign(request.url) else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(address)
    wait_for_cursor(opened, "#cp-caption")
    opened.wait_for_selector("text=Loading...", state="hidden")
    yield opened
    context.close()
    assert not outside
    assert not wrong


def foreign(url: str) -> bool:
    return not re.match(r"(https?://127\.0\.0\.1|data:|blob:)", url)


def picture(tab: Any) -> np.ndarray:
    """The picture on the easel, (256, 256, 3)."""
    source = tab.get_attribute("#cp-picture", "src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))


def begin(tab: Any, caption: str = CAPTION) -> None:
    tab.fill("#cp-caption textarea", caption)
    tab.click("#cp-paint")
    wait_for_cursor(tab)


def wait_for_cursor(tab: Any, field: str = "#cp-answer") -> None:
    """Wait until the page stands still and the cursor is in a field.

    A field can be seen a moment before its value reaches it, which would take the place of what was typed meanwhile;
    the cursor moves last.
    """
    tab.wait_for_function("field => document.activeElement.closest(field)", arg=field)


def open_noise(tab: Any) -> None:
    """Open the panel of the noise, and wait as a hand takes to reach its fields.

    Gradio makes a closed panel's fields when it is first opened, and fills them once more some 10 ms after they appear.
    """
    tab.click("#cp-noise button.label-wrap")
    tab.wait_for_selector("#cp-seed input")
    tab.evaluate("""async () => {
        for (let frame = 0; frame < 30; frame++) await new Promise(requestAnimationFrame);
        await new Promise(requestIdleCallback);
    }""")


def changed(tab: Any, before: str) -> None:
    """Wait until another picture is on the easel."""
    tab.wait_for_function("before => document.querySelector('#cp-picture')?.src !== before", arg=before)


def said(tab: Any) -> list[str]:
    """The conversation, one text an entry."""
    return tab.locator("#cp-chat .cp-asked, #cp-chat .cp-you").all_text_contents()


def answer(tab: Any, words: str) -> None:
    before = tab.get_attribute("#cp-picture", "src")
    tab.fill("#cp-answer textarea", words)
    tab.click("#cp-repaint")
    changed(tab, before)
    wait_for_cursor(tab)


def test_caption_answer_undo(tab: Any, painter: Painter) -> None:
    begin(tab)
    asked = tab.input_value("#cp-question textarea").rstrip("?")
    assert asked == "what is the ground like", "the interviewer began"
    assert (picture(tab) == painter.paint(CAPTION, n=4)[0]).all()
    first = tab.get_attribute("#cp-picture", "src")

    answer(tab, "sand")
    assert (picture(tab) == painter.paint(CAPTION, [(asked + "?", "sand")], n=4)[0]).all()
    assert tab.get_attribute("#cp-picture", "src") != first
    assert tab.locator("#cp-view [data-show]").count() == 2, "the previous picture stands beside it"
    tab.locator("#cp-view [data-show]").first.click()
    assert "Earlier: Caption alone" in tab.text_content("#cp-showing")
    assert tab.get_attribute("#cp-picture", "src").startswith("data:image/jpeg")
    second_question = tab.input_value("#cp-question textarea")
    assert second_question.rstrip("?") != asked

    answer(tab, "a blue square")
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-undo")
    changed(tab, before)
    wait_for_cursor(tab)
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-undo")
    changed(tab, before)
    wait_for_cursor(tab)
    assert tab.get_attribute("#cp-picture", "src") == first, "undo leads back to the first picture"
    tab.click("#cp-undo")
    wait_for_cursor(tab, "#cp-caption")
    assert tab.input_value("#cp-caption textarea") == CAPTION
    assert tab.locator("#cp-picture").count() == 0


def test_variations_seed_and_downloads(tab: Any, painter: Painter) -> None:
    begin(tab)
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("[data-noise='2']")
    changed(tab, before)
    # The cursor moves last, and would take the Enter that is meant for the seed below.
    tab.wait_for_function("document.activeElement.dataset.noise === '2'")
    assert (picture(tab) == painter.paint(CAPTION, n=4)[2]).all()
    with tab.expect_download() as saved:
        tab.click("#cp-save-picture")
    assert saved.value.suggested_filename == "chatpainter.png"
    assert (np.asarray(Image.open(saved.value.path())) == picture(tab)).all()
    with tab.expect_download() as saved:
        tab.click("#cp-save-dialogue")
    from pipeline.corpora import visdial

    (dialogue,) = visdial.read(Path(saved.value.path())).dialogues.values()
    assert dialogue.caption == CAPTION

    open_noise(tab)
    before = tab.get_attribute("#cp-picture", "src")
    tab.fill("#cp-seed input", "41")
    tab.press("#cp-seed input", "Enter")
    changed(tab, before)
    assert (picture(tab) == painter.paint(CAPTION, n=4, seed=41)[2]).all()
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-dice")
    changed(tab, before)
    assert (picture(tab) == painter.paint(CAPTION, n=4, seed=42)[2]).all()
    assert tab.input_value("#cp-seed input") == "42"


def test_examples_offers_and_another_question(tab: Any) -> None:
    example = tab.locator("#cp-examples button").first
    caption = example.text_content()
    example.click()
    wait_for_cursor(tab)
    assert caption in tab.text_content("#cp-chat")

    asked = tab.input_value("#cp-question textarea")
    tab.click("#cp-another")
    tab.wait_for_function("asked => document.querySelector('#cp-question textarea').value !== asked", arg=asked)
    wait_for_cursor(tab)
    assert tab.locator("#cp-view [data-show]").count() == 0, "asking paints nothing"

    before = tab.get_attribute("#cp-picture", "src")
    offer = tab.locator("#cp-suggestions button").first
    offered = offer.text_content()
    offer.click()
    changed(tab, before)
    wait_for_cursor(tab)
    assert tab.locator("#cp-chat .cp-you").last.text_content() == offered
    tab.click("#cp-restart")
    wait_for_cursor(tab, "#cp-caption")
    assert tab.input_value("#cp-caption textarea") == ""


def test_keyboard_alone(tab: Any) -> None:
    def focus() -> str:
        return tab.evaluate("document.activeElement.closest('[id^=cp-]')?.id ?? ''")

    tab.keyboard.type(CAPTION)
    tab.keyboard.press("Enter")
    wait_for_cursor(tab)
    before = tab.get_attribute("#cp-picture", "src")
    tab.keyboard.type("sand")
    tab.keyboard.press("Enter")
    tab.evaluate("document.activeElement.blur()")  # the page brings the cursor back, last of all: that is waited for
    changed(tab, before)
    wait_for_cursor(tab)
    reached = []
    for _ in range(12):
        tab.keyboard.press("Tab")
        reached.append(focus())
        if focus() == "cp-undo":
            break
    assert {"cp-suggestions", "cp-repaint", "cp-another", "cp-undo"} <= set(reached)
    before = tab.get_attribute("#cp-picture", "src")
    tab.keyboard.press("Enter")
    changed(tab, before)
    wait_for_cursor(tab)

    tab.focus("#cp-view [aria-checked=true]")
    before = tab.get_attribute("#cp-picture", "src")
    tab.keyboard.press("ArrowRight")
    changed(tab, before)
    tab.wait_for_function("document.activeElement.dataset.noise === '1'")
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "what has the focus is seen"


def test_narrow_screen(tab: Any) -> None:
    tab.set_viewport_size({"width": 360, "height": 740})
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not tab.evaluate(wide)
    begin(tab)
    answer(tab, "a very large circle and " + "manywordswithoutspace" * 8)
    assert not tab.evaluate(wide)
    for name in ("#cp-picture", "#cp-question", "#cp-answer", "#cp-repaint", "#cp-undo"):
        box = tab.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    answer(tab, "yes")
    answer(tab, "sand")
    seen = "e => { const t = e.querySelector('.cp-chat'); return t.scrollTop + t.clientHeight >= t.scrollHeight - 2 }"
    assert tab.locator("#cp-chat").evaluate(seen), "the newest words are in sight"


def test_no_serious_accessibility_findings(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def findings() -> list[str]:
        # What waits for an answer is pale, and colours half-way to others have another contrast.
        tab.wait_for_function(
            "!document.querySelector('.pending') && !document.getAnimations().some(one => one instanceof CSSTransition)"
        )
        found = axe.run(tab).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]

    assert findings() == []
    begin(tab, CAPTION + " zyzzyva")
    answer(tab, "sand")
    open_noise(tab)
    tab.click("#cp-listen")
    tab.wait_for_selector("#cp-heard")
    tab.wait_for_function("document.activeElement.id === 'cp-listen'")
    assert tab.get_attribute("#cp-heard", "alt").startswith("Listened to: top left: ")
    assert tab.locator(".cp-legend li").count() > 0
    tab.click("[data-edit='0']")
    tab.wait_for_selector(".cp-edited")
    assert findings() == []
    tab.fill("#cp-answer textarea", "")
    tab.click("#cp-repaint")
    tab.wait_for_selector(".cp-problem")
    assert findings() == []
    tab.evaluate("document.body.classList.add('dark')")
    assert findings() == []


def test_markup_and_templates_are_only_words(tab: Any, capfd: pytest.CaptureFixture[str]) -> None:
    nasty = '<img src=x onerror="window.hacked=1"> ${window.hacked=2} {{value}} <script>window.hacked=3</script>'
    begin(tab, nasty)
    tab.fill("#cp-question textarea", nasty)
    answer(tab, nasty)

    assert tab.evaluate("window.hacked") is None
    assert said(tab) == [nasty, nasty + "?", nasty]
    assert tab.locator("#cp-chat img").count() == 0
    assert tab.get_attribute("#cp-picture", "alt") == f"Painted: {nasty}, after 1 round"
    written = capfd.readouterr()
    assert "hacked" not in written.out + written.err, "what is typed is not logged"


def test_empty_and_long_input_is_answered_in_words(tab: Any) -> None:
    tab.click("#cp-paint")
    tab.wait_for_selector("text=Type a caption first")
    wait_for_cursor(tab, "#cp-caption")
    tab.fill("#cp-caption textarea", "x" * (CAPTION_LETTERS + 1))
    tab.click("#cp-paint")
    tab.wait_for_selector(f"text=at most {CAPTION_LETTERS:,} are read")
    wait_for_cursor(tab, "#cp-caption")
    assert len(tab.input_value("#cp-caption textarea")) == CAPTION_LETTERS + 1, "nothing typed is lost"
    assert tab.locator("#cp-picture").count() == 0
    begin(tab, "there is a zyzzyva")
    assert tab.locator("#cp-notice").text_content().strip() != ""
    answer(tab, "a zyzzyva")
    assert "Not in the painter’s vocabulary: zyzzyva" in tab.text_content("#cp-notice")
    assert tab.locator("#cp-chat .cp-unknown").all_text_contents() == ["zyzzyva", "zyzzyva"]
    tab.click("#cp-repaint")
    tab.wait_for_selector("text=Type an answer")


def test_ten_visitors_at_once_get_their_own_pictures(address: str, painter: Painter) -> None:
    captions = [f"a {colour} {shape}" for colour in ("red", "blue", "green", "yellow", "big")
                for shape in ("circle", "square")]  # fmt: skip

    with ThreadPoolExecutor(10) as pool:
        easels = list(pool.map(lambda caption: paint_by_hand(address, caption), captions))

    for easel, caption in zip(easels, captions):
        assert f'alt="Painted: {caption}"' in easel
        png = re.search(r'id="cp-picture" src="data:image/png;base64,([^"]+)"', easel)
        assert png is not None
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(png[1]))))
        assert (shown == painter.paint(caption, n=4)[0]).all()


def paint_by_hand(address: str, caption: str) -> str:
    """A visitor without a browser: what the page sends when Enter is pressed, and the easel that comes back."""
    import httpx

    visitor = uuid.uuid4().hex
    with httpx.Client(base_url=address, timeout=120) as client:
        config = client.get("config").json()
        (field,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == "cp-caption"]
        (act,) = [d["id"] for d in config["dependencies"] if [field, "submit"] in d["targets"]]
        sent = {"data": [None, caption, ""], "fn_index": act, "session_hash": visitor}
        assert client.post("gradio_api/queue/join", json=sent).status_code == 200
        with client.stream("GET", "gradio_api/queue/data", params={"session_hash": visitor}) as events:
            for line in events.iter_lines():
                if line.startswith("data:") and (event := json.loads(line[5:]))["msg"] == "process_completed":
                    assert event["success"]
                    return str(event["output"]["data"][1])
    raise AssertionError("no picture came")


def test_nothing_is_fetched_from_elsewhere(tab: Any, connections: list[Any]) -> None:
    begin(tab)

    assert not [to for to in connections if isinstance(to, tuple) and to[0] not in ("127.0.0.1", "::1", "localhost")]
    served = tab.evaluate("fetch('/').then(answer => answer.text())")
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?://", served)


def test_listens_on_loopback_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert is_loopback("127.0.0.1")
    assert not is_loopback("0.0.0.0")


def test_a_reload_loses_no_word(tab: Any, painter: Painter) -> None:
    begin(tab)
    asked = tab.input_value("#cp-question textarea")
    answer(tab, "sand")
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("[data-noise='1']")
    changed(tab, before)
    tab.wait_for_function("document.activeElement.dataset.noise === '1'")

    tab.reload()
    tab.wait_for_selector("#cp-picture")
    assert (picture(tab) == painter.paint(CAPTION, [(asked, "sand")], n=4)[1]).all()
    assert said(tab) == [CAPTION, asked, "sand"]
    wait_for_value(tab, "#cp-question textarea", other_than="")
    assert tab.input_value("#cp-question textarea") != asked, "the interviewer goes on"
    assert tab.locator("#cp-view [data-show]").count() == 2, "the strip is painted again"

    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-undo")
    changed(tab, before)
    assert said(tab)[0] == CAPTION
    assert "sand" not in said(tab)
    tab.reload()
    tab.wait_for_selector("#cp-picture")
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-redo")
    changed(tab, before)
    assert said(tab) == [CAPTION, asked, "sand"]
    wait_for_cursor(tab)

    tab.click("#cp-restart")
    wait_for_cursor(tab, "#cp-caption")
    tab.reload()
    wait_for_cursor(tab, "#cp-caption")
    assert tab.evaluate("sessionStorage.getItem('chatpainter')") is None
    assert tab.locator("#cp-picture").count() == 0


def test_a_saved_picture_or_conversation_is_opened_again(tab: Any, painter: Painter, tmp_path: Path) -> None:
    begin(tab)
    asked = tab.input_value("#cp-question textarea")
    answer(tab, "sand – „ja“")
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("[data-noise='1']")
    changed(tab, before)
    shown, kept = picture(tab), []
    assert (shown == painter.paint(CAPTION, [(asked, "sand – „ja“")], n=4)[1]).all()
    for name, link in (("picture.png", "#cp-save-picture"), ("dialogue.json", "#cp-save-dialogue")):
        with tab.expect_download() as saved:
            tab.click(link)
        saved.value.save_as(tmp_path / name)
        kept.append(tmp_path / name)
    (tmp_path / "other.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))

    for path in kept:
        tab.click("#cp-restart")
        wait_for_cursor(tab, "#cp-caption")
        tab.set_input_files("#cp-file", path)
        wait_for_cursor(tab)
        assert (picture(tab) == shown).all()
        assert said(tab) == [CAPTION, asked, "sand – „ja“"]
    tab.click("#cp-restart")
    wait_for_cursor(tab, "#cp-caption")
    tab.set_input_files("#cp-file", tmp_path / "other.png")
    tab.wait_for_selector("text=no conversation")


def test_rounds_are_changed_and_pictures_gone_on_from(tab: Any, painter: Painter) -> None:
    begin(tab)
    asked = tab.input_value("#cp-question textarea")
    answer(tab, "sand")
    second = tab.input_value("#cp-question textarea")
    answer(tab, "nothing")
    tab.click("[data-edit='0']")
    tab.wait_for_function("document.querySelector('#cp-answer textarea').value === 'sand'")
    wait_for_cursor(tab)
    assert tab.input_value("#cp-question textarea") == asked
    answer(tab, "snow")
    assert (picture(tab) == painter.paint(CAPTION, [(asked, "snow"), (second, "nothing")], n=4)[0]).all()

    tab.locator("#cp-view [data-show]").first.click()
    before = tab.get_attribute("#cp-picture", "data-now")
    tab.click("#cp-branch")
    tab.wait_for_function("before => document.querySelector('#cp-picture')?.dataset.now !== before", arg=before)
    wait_for_cursor(tab)
    assert (picture(tab) == painter.paint(CAPTION, n=4)[0]).all()
    before = tab.get_attribute("#cp-picture", "src")
    tab.click("#cp-undo")
    changed(tab, before)
    assert tab.locator("#cp-chat .cp-you").all_text_contents() == [CAPTION, "snow", "nothing"]
    assert "common.complete" not in tab.evaluate("document.body.textContent")


def test_another_tab_is_another_visitor(tab: Any, address: str) -> None:
    begin(tab)
    other = tab.context.new_page()
    other.goto(address)
    wait_for_cursor(other, "#cp-caption")

    assert other.evaluate("sessionStorage.getItem('chatpainter')") is None
    assert other.locator("#cp-picture").count() == 0


def wait_for_value(tab: Any, field: str, other_than: str) -> None:
    tab.wait_for_function("([field, value]) => document.querySelector(field).value !== value", arg=[field, other_than])
