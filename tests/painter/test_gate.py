"""What the page lets in, over HTTP: its own requests, from its own names, of bounded size, one painting at a time."""

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from painter import page
from painter.dialogue import Dialogue, Round
from painter.encoding import Notes
from painter.gate import BODY_BYTES, OPEN_REQUESTS, Gate
from painter.memory import Remembered, recall
from painter.session import CAPTION_LETTERS, Session
from painter.studio import WAITING, OneAtATime, Refused, Studio, Turns
from store.errors import ChatPainterError

httpx = pytest.importorskip("httpx")


class Spelling:
    """A painter whose pictures say which words, seed and round they are of; counts how many paint at once."""

    about, text_trained, listens, size = "64 × 64", True, False, 64

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self.pause = threading.Event()
        self.pause.set()

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.pause.wait(600)
        time.sleep(0.005)
        self.now -= 1
        return spelt(caption, rounds, n, seed)

    def attention(self, *_: Any) -> list[Any]:
        return []

    def read(self, dialogue: Dialogue) -> Notes:
        return Notes([], False)


def spelt(caption: str, rounds: Sequence[Round], n: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(list(repr((caption, tuple(rounds), seed)).encode())).integers(0, 256, (n, 16, 16, 3))
    return drawn.astype(np.uint8)


@pytest.fixture(scope="module")
def painter() -> Spelling:
    return Spelling()


@pytest.fixture(scope="module")
def address(painter: Any) -> Iterator[str]:
    url, app = page.launch(page.build(Studio.of(painter)), wait=False)
    yield url.rstrip("/")
    app.close()


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as opened:
        yield opened


class Visitor:
    """What a browser sends for one visitor; `remembered` is what its tab keeps."""

    def __init__(self, client: Any):
        self.client = client
        self.remembered = ""
        self.load()

    def load(self) -> None:
        """The tab is loaded (again): another session on the server."""
        self.hash = uuid.uuid4().hex
        config = self.client.get("/config").json()
        self.ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        self.acts = {tuple(target): d["id"] for d in config["dependencies"] for target in d["targets"]}
        self.outputs = {d["id"]: d["outputs"] for d in config["dependencies"]}

    def act(self, element: str, event: str, *fields: Any, data: Any = None) -> np.ndarray:
        """Do it, and give the picture that is shown then; `data` is what the page's script sends along."""
        number = self.acts[self.ids[element], event]
        sent = {"data": [None, *fields, self.remembered], "fn_index": number, "session_hash": self.hash}
        if data is not None:
            sent["event_data"] = data
        answer = self.client.post("/gradio_api/queue/join", json=sent)
        assert answer.status_code == 200, answer.text
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.hash}) as events:
            for line in events.iter_lines():
                if line.startswith("data:") and (message := json.loads(line[5:]))["msg"] == "process_completed":
                    assert message["success"], message
                    self.answered = dict(zip(self.outputs[number], message["output"]["data"]))
                    return self._seen(self.shown("cp-view"))
        raise AssertionError("no answer")

    def shown(self, element: str) -> str:
        """What an element held after the last act."""
        return str(self.answered[self.ids[element]])

    def _seen(self, view: str) -> np.ndarray:
        import html

        remembered = re.search(r'data-remembered="([^"]*)"', view)
        assert remembered is not None
        self.remembered = html.unescape(remembered[1])
        png = re.search(r'id="cp-picture" src="data:image/png;base64,([^"]+)"', view)
        assert png is not None, view[:500]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png[1]))))


CLOSED = ["run/paint", "run/on_paint", "api/paint", "call/undo", "call/paint/", "call/v2/paint", "upload",
          "cancel", "reset", "component_server", "process_recording", "vibe-edit", "stream/x"]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_no_way_leads_round_the_queue(client: Any, painter: Spelling, path: str) -> None:
    before = painter.calls

    answer = client.post(f"/gradio_api/{path}", json={"data": [None, "a red circle", ""], "session_hash": "x"})

    assert answer.status_code == 404
    assert answer.text == "There is nothing here."
    assert painter.calls == before


@pytest.mark.parametrize(
    "path", ["gradio_api/info/", "gradio_api/call/undo/x", "gradio_api/file=/etc/passwd", "gradio_api/upload_progress",
             "docs", "openapi.json", "gradio_api/runs", "monitoring", "gradio_api/proxy=http://127.0.0.1/", "x",
             "login_check"]
)  # fmt: skip
def test_nothing_else_is_read(client: Any, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


def call(client: Any, *data: Any) -> tuple[str, Any]:
    """Event and data with which the public endpoint ends."""
    answer = client.post("/gradio_api/call/paint", json={"data": list(data)})
    assert answer.status_code == 200, answer.text
    with client.stream("GET", f"/gradio_api/call/paint/{answer.json()['event_id']}") as events:
        event = ""
        for line in events.iter_lines():
            if line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:") and event in ("complete", "error"):
                return event, json.loads(line[5:])
    raise AssertionError("no answer")


def test_the_public_endpoint_paints(client: Any) -> None:
    rounds = [["how many", "two"], ["where", "at the top"]]

    event, answered = call(client, "a red circle", rounds, 7, 3)

    assert event == "complete", answered
    (painted,) = answered
    expected = spelt("a red circle", [("how many", "two"), ("where", "at the top")], 3, 7)
    assert painted["unknown"] == []
    for number, (uri, picture) in enumerate(zip(painted["pictures"], expected, strict=True)):
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as found:
            assert (np.asarray(found) == picture).all()
            kept = recall(found.text["chatpainter"])  # type: ignore[attr-defined]
        assert (kept.caption, kept.seed, kept.choice) == ("a red circle", 7, number)
    described = client.get("/gradio_api/info").json()["named_endpoints"]
    assert list(described) == ["/paint"], "the page's own events are nobody's endpoints"
    assert [one["parameter_name"] for one in described["/paint"]["parameters"]] == ["caption", "rounds", "seed", "n"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (["", [], 0, 1], "There is no caption"),
        (["x" * (CAPTION_LETTERS + 1), [], 0, 1], "at most 1,000 are read"),
        (["a", [["q" * 301, "a"]], 0, 1], "at most 300 are read"),
        (["a", [["q", "a"]] * 501, 0, 1], "500 are the most"),
        (["a", [["q"]], 0, 1], "pairs of a question"),
        (["a", "qa", 0, 1], "pairs of a question"),
        (["a", [["q", 5]], 0, 1], "are texts"),
        ([5, [], 0, 1], "are texts"),
        (["a", [], -1, 1], "seed one from 0"),
        (["a", [], 0, 5], "n is a whole number"),
        (["a", [], 0, "1"], "n is a whole number"),
    ],
)
def test_the_endpoint_has_the_limits_of_the_page(client: Any, painter: Spelling, data: list[Any], words: str) -> None:
    before = painter.calls

    event, said = call(client, *data)

    assert event == "error"
    assert words in json.dumps(said)
    assert painter.calls == before


def test_a_saved_file_is_opened_by_its_words_alone(client: Any) -> None:
    kept = Remembered("a red circle", (("how many", "two"),), 9, choice=2)
    for text in (kept.to_json(), kept.to_file()):
        visitor = Visitor(client)
        assert (
            visitor.act("cp-open", "open", data={"text": text}) == spelt("a red circle", kept.rounds, 4, 9)[2]
        ).all()
        assert (visitor.act("cp-undo", "click") == spelt("a red circle", [], 4, 9)[2]).all()
        assert (visitor.act("cp-redo", "click") == spelt("a red circle", kept.rounds, 4, 9)[2]).all()


def test_a_round_is_changed_and_a_picture_gone_on_from(client: Any) -> None:
    visitor = Visitor(client)
    visitor.act("cp-caption", "submit", "a dog")
    visitor.act("cp-answer", "submit", "how many", "one")
    visitor.act("cp-answer", "submit", "where", "top")
    visitor.act("cp-chat", "edit", data={"round": 0})
    seen = visitor.act("cp-answer", "submit", "how many", "two")
    assert (seen == spelt("a dog", [("how many", "two"), ("where", "top")], 4, 0)[0]).all()
    seen = visitor.act("cp-view", "branch", data={"rounds": 1})
    assert (seen == spelt("a dog", [("how many", "two")], 4, 0)[0]).all()
    assert (visitor.act("cp-view", "branch", data={"rounds": "x"}) == seen).all()


class Spelling2(Spelling):
    """Another model: its pictures are of another seed."""

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray:
        if caption == "broken":
            raise ChatPainterError("/home/somebody/weights: gone")
        return spelt(caption, rounds, n, seed + 1000)


@pytest.mark.parametrize("public", [False, True])
def test_visitors_choose_a_model_and_strangers_learn_nothing_of_the_machine(
    public: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded: list[str] = []

    def load(name: str, kind: type[Spelling]) -> Any:
        loaded.append(name)
        return kind(), None

    studio = Studio({"one": lambda: load("one", Spelling), "two": lambda: load("two", Spelling2)})
    url, app = page.launch(page.build(studio, public=public), wait=False)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            visitor = Visitor(client)
            assert (visitor.act("cp-caption", "submit", "a dog") == spelt("a dog", [], 4, 0)[0]).all()
            assert loaded == ["one"], "a model is loaded when it is first asked for"
            assert (visitor.act("cp-model", "input", "two") == spelt("a dog", [], 4, 1000)[0]).all()
            assert (visitor.act("cp-answer", "submit", "q", "a") == spelt("a dog", [("q", "a")], 4, 1000)[0]).all()
            visitor.load()
            assert (visitor.act("cp-view", "restore") == spelt("a dog", [("q", "a")], 4, 1000)[0]).all()
            assert loaded == ["one", "two"]
            visitor.act("cp-open", "open", data={"text": json.dumps({"caption": "broken", "seed": 0, "model": "two"})})
            notice = visitor.shown("cp-notice")
            assert ("/home/somebody" in notice) is not public
            assert ("whoever runs this page" in notice) is public
            assert ("/home/somebody" in capfd.readouterr().err) is public
            assert ("is sent to the machine" in client.get("/config").text) is public
    finally:
        app.close()


def test_uploads_are_closed(client: Any) -> None:
    assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 100)}).status_code == 404
    assert client.put("/gradio_api/upload", content=b"x").status_code == 405


def test_only_names_of_this_page_are_answered(client: Any, address: str) -> None:
    port = address.rsplit(":", 1)[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert client.get("/config", headers={"host": host}).status_code == 200, host
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "evil.example@127.0.0.1:x", "", "192.168.0.7", "["):
        answer = client.get("/config", headers={"host": host})
        assert answer.status_code in (400, 403), host
        assert "\n" not in answer.text


def test_only_the_page_itself_may_write(client: Any, address: str, painter: Spelling) -> None:
    before = painter.calls
    sent = {"data": [None, "a", ""], "fn_index": 0, "session_hash": "x"}
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://", "http://["):
        assert client.post("/gradio_api/queue/join", json=sent, headers={"origin": origin}).status_code == 403, origin
    time.sleep(0.2)
    assert painter.calls == before
    assert client.post("/gradio_api/queue/join", json=sent, headers={"origin": address}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"x" * (BODY_BYTES + 1), 413),
        (b"[" * 1_000_000, 400),
        (b"", 400),
        (b'{"data": [null, NaN, ""]}', 400),
        (b'{"data": ' + b"9" * 5000 + b"}", 400),
        (b'{"data": 5}', 422),
    ],
)
def test_bodies_are_bounded_json(client: Any, content: bytes, status: int) -> None:
    assert client.post("/gradio_api/queue/join", content=content).status_code == status
    pieces = (content[start : start + 65536] for start in range(0, len(content), 65536))
    assert client.post("/gradio_api/queue/join", content=pieces).status_code == status, "and so without a length"


def test_a_hundred_direct_calls_do_not_keep_a_visitor_waiting(client: Any, painter: Spelling) -> None:
    def direct(_: int) -> int:
        return client.post("/gradio_api/run/paint", json={"data": [None, "a", ""]}).status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(direct, range(100))) == {404}
    assert (Visitor(client).act("cp-caption", "submit", "a dog") == spelt("a dog", [], 4, 0)[0]).all()


def test_what_is_beyond_the_queue_is_refused_at_once(client: Any, painter: Spelling) -> None:
    visitor = Visitor(client)
    number = visitor.acts[visitor.ids["cp-caption"], "submit"]
    before = painter.calls
    painter.pause.clear()
    try:
        sent = [{"data": [None, f"a {i}", ""], "fn_index": number, "session_hash": f"many{i}"} for i in range(100)]
        answers = [client.post("/gradio_api/queue/join", json=each).status_code for each in sent]
    finally:
        painter.pause.set()

    assert set(answers) == {200, 503}
    assert WAITING <= answers.count(200) <= WAITING + 2, "one or two are painted, the others wait"
    while painter.calls < before + answers.count(200):
        time.sleep(0.05)
    assert painter.most == 1


def test_visitors_are_not_mixed_and_a_reload_loses_no_word(address: str, painter: Spelling) -> None:
    rounds = [("how many", "two"), ("which", "the red one"), ("where", 'at "{{home}}" & `there`')]

    def visit(number: int) -> None:
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as client:
            visitor, caption = Visitor(client), f"visitor {number}"
            seen = visitor.act("cp-caption", "submit", caption)
            for end, (question, answer) in enumerate(rounds, 1):
                assert (seen == spelt(caption, rounds[: end - 1], 4, 0)[0]).all()
                seen = visitor.act("cp-answer", "submit", question, answer)
            visitor.load()  # from here on the server takes the visitor for a new one
            assert (visitor.act("cp-undo", "click") == spelt(caption, rounds[:-1], 4, 0)[0]).all()
            visitor.load()
            assert (visitor.act("cp-view", "restore") == spelt(caption, rounds[:-1], 4, 0)[0]).all()
            assert (visitor.act("cp-dice", "click", 6, 1) == spelt(caption, rounds[:-1], 4, 7)[0]).all()
            visitor.load()
            assert (
                visitor.act("cp-answer", "submit", "x", "y") == spelt(caption, [*rounds[:-1], ("x", "y")], 4, 7)[0]
            ).all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(visit, range(6)))
    assert painter.most == 1


def test_an_expired_session_loses_no_word(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "IDLE_SECONDS", 1)
    url, app = page.launch(page.build(Studio.of(painter)), wait=False)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            visitor = Visitor(client)
            visitor.act("cp-caption", "submit", "a red circle")
            assert app.state_holder.session_data[visitor.hash].state_data
            while app.state_holder.session_data[visitor.hash].state_data:
                time.sleep(0.1)
            seen = visitor.act("cp-answer", "submit", "how many", "two")
    finally:
        app.close()

    assert (seen == spelt("a red circle", [("how many", "two")], 4, 0)[0]).all()


HISTORIES: list[Any] = [
    5, {"past": [[0]]}, {"past": [[-1]], "more": [["q", "a"]]}, {"future": [[0] * 501], "more": [["q", "a"]]},
    {"more": [["q" * 301, "a"]]}, {"more": [["q"]]}, {"strip": ["0"]}, {"paths": []},
]  # fmt: skip


@pytest.mark.parametrize(
    "remembered",
    ["", "x", "[]", "null", '{"caption": ""}', '{"caption": 5}', '{"caption": "a", "more": 1}', "[" * 9999,
     json.dumps({"caption": "x" * 1001}), json.dumps({"caption": "\ud800"}),
     json.dumps({"caption": "a", "rounds": [["x" * 301, "y"]]}), json.dumps({"caption": "a", "rounds": [["x"]]}),
     *(json.dumps({"caption": "a", "seed": 1, "history": history}) for history in HISTORIES)],
)  # fmt: skip
def test_what_a_tab_claims_to_remember_is_read_strictly(painter: Any, remembered: str) -> None:
    assert Session.restored(Studio.of(painter), remembered) == Session()


def test_a_session_is_restored_whole(painter: Any) -> None:
    session = Session(seed=5, truncation=0.5, model="model")
    session.begin(painter, "a red circle")
    session.answer(painter, "how many", "two")
    session.choose(3)
    session.skipped = ["where"]

    again = Session.restored(Studio.of(painter), session.remember())

    for name in ("dialogue", "seed", "truncation", "choice", "pictures", "skipped", "frames", "past", "future"):
        assert getattr(again, name) == getattr(session, name), name
    assert Session().remember() == ""
    wild = json.dumps({"caption": "a", "seed": 2**40, "choice": 99, "truncation": 1e300, "rounds": [["q", "a"]] * 500})
    bounded = Session.restored(Studio.of(painter), wild)
    assert (bounded.seed, bounded.choice, bounded.truncation, len(bounded.rounds)) == (0, 0, 1.0, 500)
    assert Session.restored(Studio.of(painter), wild.replace('[["q", "a"]', '[["q", "a"], ["q", "a"]')) == Session()


def test_one_at_a_time_whoever_asks() -> None:
    slow = Spelling()
    slow.pause.clear()
    guarded = OneAtATime(slow, Turns(waiting=3))

    def paint(number: int) -> str:
        try:
            guarded.paint(f"a {number}", [], 1, 0, 1.0)
        except Refused as refusal:
            return refusal.message
        return "painted"

    with ThreadPoolExecutor(10) as pool:
        said = [pool.submit(paint, number) for number in range(10)]
        while sum(one.done() for one in said) < 6:
            time.sleep(0.01)
        slow.pause.set()
        outcomes = [one.result() for one in said]

    assert outcomes.count("painted") == 4
    assert outcomes.count("Too many pictures are waiting to be painted; try again in a minute.") == 6
    assert slow.most == 1
    assert paint(11) == "painted", "the room is given back"


def answered(gate: Gate, host: str, origin: str | None = None) -> int:
    """The status with which a gate answers."""
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    method, path = ("POST", "/gradio_api/queue/join") if origin else ("GET", "/")
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(gate(scope, receive, send))
    return said[0]["status"]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_public_page_answers_to_addresses_and_to_names_it_was_given() -> None:
    public = Gate(hello, "0.0.0.0", ["Paint.example.org"])
    for host in ("192.168.0.7:7860", "[fe80::1]:7860", "paint.example.org", "localhost:7860"):
        assert answered(public, host) == 200, host
        assert answered(public, host, f"http://{host}") == 200, host
    assert answered(public, "evil.example:7860") == 403
    assert answered(public, "127.0.0.1:7860", "https://paint.example.org") == 200, "a proxy that gives another Host"
    assert answered(public, "192.168.0.7:7860", "http://192.168.0.8:7860") == 403
    alone = Gate(hello, "127.0.0.1")
    assert answered(alone, "192.168.0.7:7860") == 403, "nobody typed an address that does not lead here"


def test_too_many_at_once_are_told_so() -> None:
    gate = Gate(hello, "127.0.0.1")
    gate.open = OPEN_REQUESTS - 1
    assert answered(gate, "localhost") == 200
    assert gate.open == OPEN_REQUESTS - 1, "what is answered is no longer open"
    gate.open = OPEN_REQUESTS
    assert answered(gate, "localhost") == 503


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painter.gate.BODY_SECONDS", 0.05)
    said: list[Any] = []
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": [(b"host", b"localhost")]}

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(Gate(hello, "127.0.0.1")(scope, receive, send))

    assert said[0]["status"] == 408


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_in_the_environment_does_not_matter(tmp_path: Path, proxy: str) -> None:
    program = (
        "from painter import page\n"
        "import gradio as gr\n"
        "with gr.Blocks() as app: gr.Markdown('x')\n"
        "address, app = page.launch(app, '127.0.0.1', 0, wait=False)\n"
        "print(address)\n"
        "app.close()\n"
    )
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment = {**os.environ, **dict.fromkeys(names, proxy), "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("no_proxy", "NO_PROXY"):
        environment.pop(name, None)

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("http://127.0.0.1:")
