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
from painter.session import WAITING, OneAtATime, Refused, Session

httpx = pytest.importorskip("httpx")


class Spelling:
    """A painter whose pictures say which words, seed and round they are of; counts how many paint at once."""

    about, text_trained, size = "64 × 64", True, 64

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
    url, app = page.launch(page.build(painter, None), wait=False)
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

    def act(self, element: str, event: str, *fields: Any) -> np.ndarray:
        """Do it, and give the picture that is shown then."""
        number = self.acts[self.ids[element], event]
        sent = {"data": [None, *fields, self.remembered], "fn_index": number, "session_hash": self.hash}
        answer = self.client.post("/gradio_api/queue/join", json=sent)
        assert answer.status_code == 200, answer.text
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.hash}) as events:
            for line in events.iter_lines():
                if line.startswith("data:") and (message := json.loads(line[5:]))["msg"] == "process_completed":
                    assert message["success"], message
                    view = message["output"]["data"][self.outputs[number].index(self.ids["cp-view"])]
                    return self._seen(view)
        raise AssertionError("no answer")

    def _seen(self, view: str) -> np.ndarray:
        import html

        remembered = re.search(r'data-remembered="([^"]*)"', view)
        assert remembered is not None
        self.remembered = html.unescape(remembered[1])
        png = re.search(r'id="cp-picture" src="data:image/png;base64,([^"]+)"', view)
        assert png is not None, view[:500]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png[1]))))


CLOSED = ["run/paint", "run/on_paint", "api/paint", "call/paint", "call/v2/paint", "upload", "cancel", "reset",
          "component_server", "process_recording", "vibe-edit", "stream/x"]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_no_way_leads_round_the_queue(client: Any, painter: Spelling, path: str) -> None:
    before = painter.calls

    answer = client.post(f"/gradio_api/{path}", json={"data": [None, "a red circle", ""], "session_hash": "x"})

    assert answer.status_code == 404
    assert answer.text == "There is nothing here."
    assert painter.calls == before


@pytest.mark.parametrize(
    "path", ["gradio_api/info", "gradio_api/file=/etc/passwd", "gradio_api/upload_progress", "docs", "openapi.json",
             "gradio_api/runs", "monitoring", "gradio_api/proxy=http://127.0.0.1/", "login_check", "x"]
)  # fmt: skip
def test_nothing_else_is_read(client: Any, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


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
            visitor.load()  # the server knows nothing of this session
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
    url, app = page.launch(page.build(painter, None), wait=False)
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


@pytest.mark.parametrize(
    "remembered",
    ["", "x", "[]", "null", '{"caption": ""}', '{"caption": 5}', '{"caption": "a", "more": 1}', "[" * 9999,
     json.dumps({"caption": "x" * 1001}), json.dumps({"caption": "\ud800"}),
     json.dumps({"caption": "a", "rounds": [["x" * 301, "y"]]}), json.dumps({"caption": "a", "rounds": [["x"]]})],
)  # fmt: skip
def test_what_a_tab_claims_to_remember_is_read_strictly(painter: Any, remembered: str) -> None:
    assert Session.restored(painter, remembered) == Session()


def test_a_session_is_restored_whole(painter: Any) -> None:
    session = Session(seed=5, truncation=0.5)
    session.begin(painter, "a red circle")
    session.answer(painter, "how many", "two")
    session.choose(3)
    session.skipped = ["where"]

    again = Session.restored(painter, session.remember())

    for name in ("dialogue", "seed", "truncation", "choice", "pictures", "skipped"):
        assert getattr(again, name) == getattr(session, name), name
    assert Session().remember() == ""
    wild = json.dumps({"caption": "a", "seed": 2**40, "choice": 99, "truncation": 1e300, "rounds": [["q", "a"]] * 600})
    bounded = Session.restored(painter, wild)
    assert (bounded.seed, bounded.choice, bounded.truncation, len(bounded.rounds)) == (0, 0, 1.0, 500)


def test_one_at_a_time_whoever_asks() -> None:
    slow = Spelling()
    slow.pause.clear()
    guarded = OneAtATime(slow, waiting=3)

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
