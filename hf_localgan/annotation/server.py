"""A page on this machine on which one person fills in one sheet: keys 1 and 0, every answer saved at once."""

import json
import secrets
import socket
import sys
import threading
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hf_localgan.annotation.sheets import Sheet, read_sheet

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = Path(__file__).with_name("page.html")
LARGEST_BODY = 64 * 1024  # bytes of a request; an answer has a hundred


class SheetFile:
    """A sheet on disk that takes one answer at a time. Every answer is in the file before the call returns.

    Args:
        path: a sheet as CSV.

    Raises:
        ValueError: for an XLSX, or what `read_sheet` refuses.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix.lower() != ".csv":
            raise ValueError(
                f'The page writes .csv sheets only, got "{self.path.name}". Serve the .csv beside it, or fill in this '
                "one in a spreadsheet program."
            )
        self.sheet: Sheet = read_sheet(self.path)
        if not self.sheet.rows:
            raise ValueError(f'"{self.path.name}" has no row to judge.')
        self._rows = {row.id: row for row in self.sheet.rows}
        self._lock = threading.Lock()
        self._state = self._disk_state()

    def answer(self, row: str, question: str, value: int | None) -> int:
        """Saves an answer, or takes one back.

        Args:
            row: id of the row.
            question: name of the question.
            value: 1, 0, or `None` for no answer.

        Returns:
            The number of answers that the sheet holds.

        Raises:
            ValueError: for an unknown row, question or value, and where the file was changed by something else since.
        """
        if row not in self._rows or question not in {known.name for known in self.sheet.questions}:
            raise ValueError(f"There is no question {question!r} in a row {row!r}.")
        if value is not None and (isinstance(value, bool) or value not in (0, 1)):
            raise ValueError(f"An answer must be 1, 0 or nothing, got {value!r}.")
        with self._lock:
            if self._disk_state() != self._state:
                raise ValueError(
                    f'"{self.path.name}" was changed by another program. Close it there, end this page and start it '
                    "again."
                )
            answers = self._rows[row].answers
            before = answers.get(question)
            answers[question] = value
            try:
                self.sheet.write_csv(self.path)
            except BaseException:
                answers[question] = before
                raise
            self._state = self._disk_state()
            return self.sheet.answered()

    def to_dict(self) -> dict:
        """For the page: questions and rows."""
        with self._lock:
            names = [question.name for question in self.sheet.questions]
            rows = [
                {
                    "id": row.id, "query": row.query, "response": row.response,
                    "answers": {name: row.answers.get(name) for name in names},
                }
                for row in self.sheet.rows
            ]  # fmt: skip
        return {"questions": [vars(question) for question in self.sheet.questions], "rows": rows}

    def _disk_state(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class AnnotationServer(ThreadingHTTPServer):
    """Serves one sheet at the address `url`, until `close`.

    Only a page that this server sent can read or write the sheet: requests carry a token that stands in it, and on
    the loopback requests under another host's name are refused.

    Args:
        file: the sheet.
        host: address to listen on.
        port: 0 for any free one.

    Raises:
        OSError: where nothing can be served at this address.
    """

    daemon_threads = True

    def __init__(self, file: SheetFile, host: str = "127.0.0.1", port: int = 0):
        self.file, self.token, self.nonce = file, secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.local = host in LOOPBACK
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(f"Nothing can be served at `{host}`, port {port}: {error}. Choose another port.") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}/"

    def close(self):
        """Ends serving. Answers are in the file already."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: AnnotationServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not self._known_host():
            return
        if self.path == "/":
            text = PAGE.read_text(encoding="utf-8").replace("NONCE", self.server.nonce)
            self._send(HTTPStatus.OK, text.replace("TOKEN", self.server.token), "text/html")
        elif self.path == "/sheet":
            if self._trusted():
                self._send(HTTPStatus.OK, json.dumps(self.server.file.to_dict()), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, f"There is no {self.path} here.")

    def do_POST(self):
        self.close_connection = True  # a body that is not read must not be taken for the next request
        if not self._known_host() or not self._trusted():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answer":
            self._send(HTTPStatus.NOT_FOUND, f"There is no {self.path} here.")
        elif not length.isdigit() or int(length) > LARGEST_BODY:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"An answer has at most {LARGEST_BODY} bytes.")
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes):
        try:
            message = json.loads(body)
            answered = self.server.file.answer(message["id"], message["question"], message["value"])
        except (ValueError, KeyError, TypeError) as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, f"The sheet could not be written: {error}")
        else:
            self._send(HTTPStatus.OK, json.dumps({"answered": answered}), "application/json")

    def _known_host(self) -> bool:
        """Whether the request names this machine; another name that leads here may belong to a foreign page."""
        name = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        if self.server.local and name not in LOOPBACK:
            self._send(HTTPStatus.FORBIDDEN, f"This page is not served as {name!r}.")
            return False
        return True

    def _trusted(self) -> bool:
        if secrets.compare_digest(self.headers.get("X-Annotation-Token", "").encode(), self.server.token.encode()):
            return True
        self._send(HTTPStatus.FORBIDDEN, "This page is of an earlier start. Load it again.")
        return False

    def _send(self, status: HTTPStatus, text: str, media_type: str = "text/plain"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        nonce = f"'nonce-{self.server.nonce}'"
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src {nonce}; style-src {nonce}; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass  # a line for every answer would hide what matters


def serve_sheet(
    path: str | Path, *, host: str = "127.0.0.1", port: int = 7861, open_browser: bool = False, block: bool = True
) -> AnnotationServer | None:
    """Serves a sheet until Ctrl-C.

    Args:
        path: a sheet as CSV; answers are written into it.
        host: address to listen on; by default nobody but this machine reaches the page.
        port: 0 for any free one.
        open_browser: open the page in the reader's browser.
        block: wait for Ctrl-C. Without, the running server is returned, which `close()` ends.

    Raises:
        ValueError: for a file that is no sheet.
        OSError: where nothing can be served at this address.
    """
    server = AnnotationServer(SheetFile(path), host, port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    if not server.local:
        print(f"Everyone who can reach {host} can read and fill in this sheet.", file=sys.stderr)
    print(f"{server.url}   (Ctrl-C ends it)", flush=True)
    if open_browser:
        webbrowser.open(server.url)
    if not block:
        return server
    try:
        thread.join()
    except KeyboardInterrupt:
        sheet = server.file.sheet
        total = len(sheet.rows) * len(sheet.questions)
        print(f"{sheet.answered()} of {total} answers are in {server.file.path}", flush=True)
    finally:
        server.close()
    return None
