"""Serves the page and its files, which are part of the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Request, Response, status

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
_PAGE = "page.html"
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def serve_pages(app: FastAPI) -> None:
    """
    Serve the page and its files.

    They hold nothing of a run, so that they need no permission: without it, the page shows that one has to log in.
    """
    for path in ("/", "/page"):
        app.add_api_route(path, _page, methods=["GET"], include_in_schema=False)
    app.add_api_route("/assets/{name}", _asset, methods=["GET"], include_in_schema=False)


def _page(request: Request) -> Response:
    return _file(_PAGE, request)


def _asset(name: str, request: Request) -> Response:
    if name == _PAGE:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no such file: {name}")
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    # Only names that are there: a name from a request is never joined to a path.
    found = {each.name: each for each in files("airflow_prs.live").joinpath("assets").iterdir()}
    kind = _TYPES.get(f".{name.rpartition('.')[2]}")
    if kind is None or name not in found:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no such file: {name}")
    data = found[name].read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**_SECURITY, "ETag": tag, "Cache-Control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(data, media_type=kind, headers=headers)
