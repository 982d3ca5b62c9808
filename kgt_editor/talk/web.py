"""A page on which people talk to a language model, for this machine alone (package ``starlette``, the extra ``serve``).

Whoever asks has to have a token, which says who they are: one user sees nothing of another. Pages of other sites cannot
ask, because they have no token, and the page itself fetches nothing from anywhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kgt_editor.errors import KgtError
from kgt_editor.talk.lines import EVERYTHING, correction
from kgt_editor.talk.model import PersonalModel

_log = logging.getLogger(__name__)
_MOST_BYTES = 64 * 1024  # of what is sent
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request that is not answered: status and reason."""


class _GoneError(Exception):
    """Whoever asked is no longer there."""


@dataclass(frozen=True)
class Page:
    """The page's server.

    Attributes:
        people: token -> whose it is.
        model: the language model's name, to be shown.
        tokens: of an answer, at most.
        hosts: names under which the server may be asked for; another one is an attack (DNS rebinding), or a mistake.
    """

    people: Mapping[str, PersonalModel]
    model: str
    tokens: int = 64
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")

    def app(self) -> Starlette:
        """What an ASGI server runs."""
        routes = [Route(path, _file(*what)) for path, what in _FILES.items()]
        routes.append(Route("/facts", self._answered(self._facts)))
        told = {"/say": self._say, "/read": self._read, "/undo": self._undo, "/forget": self._forget}
        routes += [Route(path, self._answered(work), methods=["POST"]) for path, work in told.items()]
        return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(self.hosts))])

    def _answered(
        self, work: Callable[[PersonalModel, dict[str, Any]], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The work for whoever has a token; what cannot be done is said in a line."""

        async def endpoint(request: Request) -> Response:
            try:
                response = await work(self._whose(request), await _fields(request))
            except _Refused as refused:
                status, reason = refused.args
                response = JSONResponse({"error": reason}, status)
            except KgtError as error:
                response = JSONResponse({"error": str(error)}, 422)
            response.headers.update(_HEADERS)
            return response

        return endpoint

    def _whose(self, request: Request) -> PersonalModel:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        found = [me for token, me in self.people.items() if secrets.compare_digest(token.encode(), given)]
        if not found:
            raise _Refused(401, "no token, or a wrong one: open the address that kgt serve printed")
        return found[0]

    async def _facts(self, me: PersonalModel, _: dict[str, Any]) -> Response:
        facts = [fact.as_dict() for fact in await asyncio.to_thread(me.facts)]
        return JSONResponse({"user": me.user, "model": self.model, "facts": facts})

    async def _say(self, me: PersonalModel, fields: dict[str, Any]) -> Response:
        """An answer as it is written, a JSON object a line; a correction is stored and said to be."""
        line = _text(fields, "line")
        right = correction(line)
        if right is not None and me.answered:
            told = await me.acorrect(right)
            return Response(_line({"told": str(told)}), media_type="application/x-ndjson")
        return StreamingResponse(self._written(me, line), media_type="application/x-ndjson")

    async def _written(self, me: PersonalModel, question: str) -> AsyncIterator[str]:
        loop, parts, gone = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None](), threading.Event()

        def show(part: str) -> None:
            if gone.is_set():
                raise _GoneError  # nobody reads on: the model may stop
            loop.call_soon_threadsafe(parts.put_nowait, {"part": part})

        def work() -> None:
            try:
                answer = me.ask(question, self.tokens, show)
                last = {"answer": answer.text, "facts": [fact.triple.line for fact in answer.facts]}
            except _GoneError:
                return
            except KgtError as error:
                last = {"error": str(error)}
            except Exception:
                _log.exception("a question could not be answered")
                last = {"error": "the question could not be answered; the server's output says why"}
            loop.call_soon_threadsafe(parts.put_nowait, last)
            loop.call_soon_threadsafe(parts.put_nowait, None)

        task = asyncio.create_task(asyncio.to_thread(work))
        try:
            while (part := await parts.get()) is not None:
                yield _line(part)
            await task
        finally:
            gone.set()

    async def _read(self, me: PersonalModel, fields: dict[str, Any]) -> Response:
        return JSONResponse({"told": str(await me.aread(_text(fields, "text")))})

    async def _undo(self, me: PersonalModel, fields: dict[str, Any]) -> Response:
        number = fields.get("number")
        if type(number) is not int or not 0 < number < 1 << 62:
            raise _Refused(422, "field 'number' has to be the number of a fact")
        edit = await asyncio.to_thread(me.undo, number)
        return JSONResponse({"told": f"taken back: {edit.query}"})

    async def _forget(self, me: PersonalModel, fields: dict[str, Any]) -> Response:
        if fields.get("what") != EVERYTHING:
            raise _Refused(422, f"nothing was deleted: type '{EVERYTHING}' to mean it")
        await asyncio.to_thread(me.forget)
        return JSONResponse({"told": "all is forgotten"})


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    content = (files("kgt_editor.talk") / "page" / name).read_bytes()
    return lambda _: Response(content, media_type=kind, headers=_HEADERS)


async def _fields(request: Request) -> dict[str, Any]:
    """The JSON object that was sent; an empty one where nothing was."""
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > _MOST_BYTES:
                raise _Refused(413, f"too much at once: {_MOST_BYTES // 1024} KiB at most")
        found = json.loads(content or b"{}")
    except ClientDisconnect:
        raise _Refused(400, "the connection ended") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Refused(400, "what was sent is no JSON object")
    return found


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _Refused(422, f"field '{name}' has to be a text")
    return value


def _line(part: dict[str, Any]) -> str:
    return json.dumps(part, ensure_ascii=False) + "\n"
