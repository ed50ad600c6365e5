"""A small S3 server over HTTP on loopback: signed requests, conditions, pages of a listing, parts, faults.

It knows what a mirror asks of a bucket and nothing more. A function is asked for a fault before each request.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

KEY, SECRET, REGION, BUCKET = "AKIDEXAMPLEONE", "a-secret-for-tests-only", "eu-test-1", "lake"
PAGE = 50
# What a request meets before it is answered; None: nothing.
Fault = Callable[[str, str], str | None]


@dataclass
class S3:
    """One bucket in memory; it outlives the server that shows it."""

    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    # Method and key of each request, and the status of its answer.
    log: list[tuple[str, str, int]] = field(default_factory=list)
    fault: Fault = lambda method, key: None
    # Called under the lock after each change.
    changed: Callable[[dict[str, bytes]], None] = lambda objects: None
    keeps_conditions: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, method: str, status: int = 200) -> int:
        """How many requests of a method had this answer."""
        return sum(one[0] == method and one[2] == status for one in self.log)


def tag(content: bytes) -> str:
    """The entity tag of a content."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


@contextmanager
def serving(s3: S3, port: int = 0) -> Iterator[int]:
    """Show a bucket on a port of loopback (any free one, unless named)."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(s3))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(s3: S3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Small answers at once: the client waits for each of them.
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def log_message(self, format: str, *args: Any) -> None:
            return

        def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()
            s3.log.append((self.command, self._key, status))

        def _error(self, status: int, code: str) -> None:
            # As the real one does: the key id of who asked is repeated.
            text = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
            self._answer(status, text.encode())

        def _signed(self, body: bytes) -> bool:
            given = self.headers.get("Authorization", "")
            if not given.startswith("AWS4-HMAC-SHA256 "):
                return False
            parts = dict(one.strip().split("=", 1) for one in given.split(" ", 1)[1].split(","))
            name, *scope = parts["Credential"].split("/")
            signed = parts["SignedHeaders"].split(";")
            claimed = self.headers["x-amz-content-sha256"]
            if claimed != "UNSIGNED-PAYLOAD" and claimed != hashlib.sha256(body).hexdigest():
                return False
            url = urlsplit(self.path)
            query = "&".join(
                f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
                for name, value in sorted(parse_qsl(url.query, keep_blank_values=True))
            )
            lines = "".join(f"{one}:{' '.join(self.headers[one].split())}\n" for one in signed)
            request = f"{self.command}\n{url.path}\n{query}\n{lines}\n{';'.join(signed)}\n{claimed}"
            text = "\n".join(
                (
                    "AWS4-HMAC-SHA256",
                    self.headers["x-amz-date"],
                    "/".join(scope),
                    hashlib.sha256(request.encode()).hexdigest(),
                )
            )
            key = f"AWS4{SECRET}".encode()
            for part in scope:
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            return name == KEY and hmac.compare_digest(right, parts["Signature"])

        def _serve(self) -> None:
            url = urlsplit(self.path)
            _, bucket, *rest = unquote(url.path).split("/", 2)
            self._key = rest[0] if rest else ""
            self._query = dict(parse_qsl(url.query, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = s3.fault(self.command, self._key)
            if fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if fault is not None:
                self._error(int(fault), "Fault")
            elif not self._signed(body):
                self._error(403, "SignatureDoesNotMatch")
            elif bucket != BUCKET:
                self._error(404, "NoSuchBucket")
            else:
                with s3.lock:
                    getattr(self, f"_{self.command.lower()}")(body)
                    if self.command not in ("GET", "HEAD"):
                        s3.changed(s3.objects)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def _get(self, body: bytes) -> None:
            if not self._key:
                self._list()
            elif self._key not in s3.objects:
                self._error(404, "NoSuchKey")
            else:
                content = s3.objects[self._key]
                modified = formatdate(0, usegmt=True)
                asked = self.headers.get("Range")
                if asked is None:
                    self._answer(200, content, ETag=tag(content), Last_Modified=modified)
                    return
                first, last = (int(one) for one in asked.removeprefix("bytes=").split("-"))
                part = content[first : last + 1]
                span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
                self._answer(206, part, ETag=tag(content), Last_Modified=modified, Content_Range=span)

        def _head(self, body: bytes) -> None:
            content = s3.objects.get(self._key)
            if content is None:
                self._answer(404)
            else:
                size, modified = str(len(content)), formatdate(0, usegmt=True)
                self._answer(200, ETag=tag(content), Last_Modified=modified, Content_Length=size)

        def _put(self, body: bytes) -> None:
            if "uploadId" in self._query:
                s3.parts[self._query["uploadId"]][int(self._query["partNumber"])] = body
                self._answer(200, ETag=tag(body))
            elif self._refused():
                self._error(412, "PreconditionFailed")
            else:
                s3.objects[self._key] = body
                self._answer(200, ETag=tag(body))

        def _refused(self) -> bool:
            if not s3.keeps_conditions:
                return False
            held, match = s3.objects.get(self._key), self.headers.get("If-Match")
            if self.headers.get("If-None-Match") == "*":
                return held is not None
            return match is not None and (held is None or tag(held) != match)

        def _post(self, body: bytes) -> None:
            if "delete" in self._query:
                keys = [
                    one.text or "" for one in ElementTree.fromstring(body).iter() if one.tag.endswith("Key")
                ]
                for key in keys:
                    s3.objects.pop(key, None)
                gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
                self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
            elif "uploads" in self._query:
                name = f"upload-{len(s3.parts)}"
                s3.parts[name] = {}
                self._answer(
                    200,
                    "<InitiateMultipartUploadResult>"
                    f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode(),
                )
            else:
                held = s3.parts.pop(self._query["uploadId"])
                whole = b"".join(held[number] for number in sorted(held))
                s3.objects[self._key] = whole
                told = f"<ETag>{escape(tag(whole))}</ETag>"
                told = f"<CompleteMultipartUploadResult>{told}</CompleteMultipartUploadResult>"
                self._answer(200, told.encode())

        def _delete(self, body: bytes) -> None:
            s3.objects.pop(self._key, None)
            self._answer(204)

        def _list(self) -> None:
            prefix, after = self._query.get("prefix", ""), self._query.get("continuation-token", "")
            keys = [key for key in sorted(s3.objects) if key.startswith(prefix) and key > after]
            shown = keys[:PAGE]
            entries = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-03-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(tag(s3.objects[key]))}</ETag><Size>{len(s3.objects[key])}</Size></Contents>"
                for key in shown
            )
            told = f"<IsTruncated>{str(len(keys) > PAGE).lower()}</IsTruncated>{entries}"
            if len(keys) > PAGE:
                told += f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>"
            self._answer(200, f"<ListBucketResult>{told}</ListBucketResult>".encode())

    return Handler
