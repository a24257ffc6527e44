"""Fetching against a server of our own: whole, broken off and resumed, and wrong."""

import hashlib
import http.server
import threading
from typing import ClassVar

import pytest
from click.testing import CliRunner

from pipeline.weights import WeightsError, published
from pipeline.weights.cli import weights_fetch
from pipeline.weights.fetch import fetch
from pipeline.weights.published import PublishedFile

CONTENT = bytes(range(256)) * 2000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `ranges`: honours Range. `breaks`: how often to hang up half-way."""

    ranges = True
    breaks = 0
    requests: ClassVar[list] = []

    def do_GET(self):
        cls = type(self)
        start = 0
        asked = self.headers.get("Range")
        cls.requests.append(asked)
        if self.path == "/absent.npy":
            self.send_error(404)
            return
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cls.breaks:
            cls.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            return
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    handler = type("OurHandler", (Handler,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()
        thread.join()


def test_whole(server, tmp_path):
    url, _ = server
    seen = []
    path = fetch(f"{url}/models/utable2.npy?x=1", tmp_path / "new", sha256=HASH, progress=lambda *at: seen.append(at))
    assert path == tmp_path / "new" / "utable2.npy"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [each.name for each in path.parent.iterdir()] == ["utable2.npy"]


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_off_and_resumed(server, tmp_path, ranges):
    url, handler = server
    handler.breaks, handler.ranges = 2, ranges
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"the same command continues there"):
            fetch(f"{url}/file.npy", tmp_path, sha256=HASH)
        assert not (tmp_path / "file.npy").exists()
    assert fetch(f"{url}/file.npy", tmp_path, sha256=HASH).read_bytes() == CONTENT
    assert handler.requests[0] is None
    assert handler.requests[1] == f"bytes={len(CONTENT) // 2}-"


def test_all_had_arrived(server, tmp_path):
    url, _ = server
    (tmp_path / "file.npy.part").write_bytes(CONTENT)
    assert fetch(f"{url}/file.npy", tmp_path, sha256=HASH).read_bytes() == CONTENT


def test_wrong_hash(server, tmp_path):
    url, _ = server
    with pytest.raises(WeightsError, match=f"sha256 {HASH}, expected sha256 {'0' * 64}"):
        fetch(f"{url}/file.npy", tmp_path, sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_published_name_must_have_the_published_hash(server, tmp_path, monkeypatch):
    url, _ = server
    with pytest.raises(WeightsError, match="expected 2,342,138,474 bytes and sha256 790951d4"):
        fetch(f"{url}/utable.npy", tmp_path)
    monkeypatch.setitem(published.SKIP_THOUGHT, "utable.npy", PublishedFile("utable.npy", len(CONTENT), HASH, ""))
    assert fetch(f"{url}/anything", tmp_path, name="utable.npy").name == "utable.npy"
    with pytest.raises(WeightsError, match="is there already"):
        fetch(f"{url}/anything", tmp_path, name="utable.npy")


@pytest.mark.parametrize("url", ["ftp://x/y", "utable.npy", "http://"])
def test_what_is_no_url(tmp_path, url):
    with pytest.raises(WeightsError):
        fetch(url, tmp_path)


def test_names_stay_in_the_folder(server, tmp_path):
    with pytest.raises(WeightsError, match="does not end in a file's name"):
        fetch(f"{server[0]}/x", tmp_path, name="../x")


def test_absent_and_unreachable(server, tmp_path):
    url, _ = server
    with pytest.raises(WeightsError, match="404"):
        fetch(f"{url}/absent.npy", tmp_path)
    with pytest.raises(WeightsError, match="refused"):
        fetch("http://127.0.0.1:9/file.npy", tmp_path)


def test_command(server, tmp_path):
    url, _ = server
    out = CliRunner().invoke(weights_fetch, ["--url", f"{url}/net.t7", "--folder", str(tmp_path)])
    assert out.exit_code == 0
    assert "net.t7: 512,000 bytes, no published hash to check" in out.output
    out = CliRunner().invoke(weights_fetch, ["--url", f"{url}/absent.npy", "--folder", str(tmp_path)])
    assert out.exit_code == 1
    assert out.output.startswith("Error: http://127.0.0.1")
