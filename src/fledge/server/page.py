"""Pages: folders of static files, read once, served with a strict content security policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

WEB = Path(__file__).parent / "web"

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(folder: Path = WEB, also: Sequence[Path] = ()) -> list[Route]:
    """A route for every file of a page, and of ``also``; ``index.html`` is ``/``."""
    files = [*sorted(folder.iterdir()), *also]
    return [_route(path) for path in files if path.suffix in _TYPES]


def _route(path: Path) -> Route:
    content = path.read_bytes()
    kind = f"{_TYPES[path.suffix]}; charset=utf-8"

    async def file(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "Content-Type": kind})

    return Route("/" if path.name == "index.html" else f"/{path.name}", file, methods=["GET"])
