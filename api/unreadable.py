"""What is no HTTP at all is answered with a problem, too: a bad request line, an unknown method.

The application never sees such bytes; uvicorn would answer them in plain text.
"""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.observe import SECURITY_HEADERS
from api.problems import MEDIA_TYPE, Problem


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, but for the 400 of its parser."""

    def send_400_response(self, msg: str) -> None:
        """Answer, and hang up: where the next request begins is not known."""
        body = Problem(HTTPStatus.BAD_REQUEST, "malformed_http", msg).response().body
        fields = (
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *SECURITY_HEADERS,
            *self.server_state.default_headers,
        )
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, bytes(body)))
        self.transport.close()
