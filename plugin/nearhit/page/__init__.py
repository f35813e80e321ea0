"""The page at `/nearhit/`: one document, one style sheet, one script, all from here.

It holds no data and needs no key to be fetched; what it shows it asks of the other routes, with the
key that the person types in. The policy lets it run and load nothing but these three files.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

from nearhit.intake import Route

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_FILES: Final = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}


def router() -> APIRouter:
    """Return the routes of the page's files."""
    router = APIRouter(prefix="/nearhit", include_in_schema=False, route_class=Route)
    for path, (name, kind) in _FILES.items():
        content = (files(__package__) / name).read_bytes()
        router.get(f"/{path}")(_sender(content, kind))
    return router


def _sender(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return send
