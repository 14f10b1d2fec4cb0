"""A small made-up block for tests of the server: hot and ordinary routes of every shape, with a state that tells how often they were called."""

import asyncio
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from pillion.runtime.bodies import decode
from pillion.runtime.operation import (
    OK_JSON,
    Again,
    Answer,
    Call,
    HotAnswer,
    HotOperation,
    Operation,
    Parameter,
    Reply,
    Told,
)
from pillion.runtime.problems import PROBLEM_MEDIA, FieldError, Problem, ProblemDocument

MAX_BODY = 2048


class Check(msgspec.Struct, kw_only=True):
    """One question."""

    n: Annotated[int, Meta(description="A number.")]
    text: Annotated[str, Meta(max_length=1000)] = ""


class Checked(msgspec.Struct, kw_only=True):
    """The answer to a question."""

    n: int
    rest: str
    query: str
    calls: int


class Thing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A thing to keep."""

    name: Annotated[str, Meta(min_length=1, max_length=40, pattern="^[a-z]+$")]
    kind: Literal["plain", "fancy"] = "plain"
    size_in_mm: Annotated[int, Meta(ge=0, le=1000)] = 0
    parts: Annotated[list["Thing"], Meta(max_length=3)] = []


class Kept(msgspec.Struct, kw_only=True):
    """A thing that is kept."""

    id: str
    thing: Thing


class Block:
    """The block. `calls` counts the answers of hot routes that changed something."""

    def __init__(self) -> None:
        self.calls = 0
        self.attempts = 0
        self.gate = asyncio.Event()
        """`/v1/slow` waits for it, and the number 99 in `/v1/hot/store`."""
        self.started = asyncio.Event()
        """`/v1/slow` has begun, or something is being stored."""
        self._decoder = msgspec.json.Decoder(Check)

    def check(self, rest: str, query: str, body: bytes) -> HotAnswer:
        """Answer, or refuse: a negative number is a problem, 13 is a fault, 42 is denied, 204 has no content."""
        self.attempts += 1
        asked = self._decoder.decode(body)
        if asked.n < 0:
            raise Problem(400, "negative", "Negative", f"{asked.n} is negative; ask for more.")
        if asked.n == 13:
            raise RuntimeError("13")
        self.calls += 1
        checked = msgspec.json.encode(Checked(n=asked.n, rest=rest, query=query, calls=self.calls))
        if asked.n == 42:
            document = Problem(429, "denied", "Denied", "Too many; wait.").document()
            return HotAnswer(429, 'RateLimit: "x";r=0;t=1\r\nRetry-After: 1\r\n', document, PROBLEM_MEDIA)
        if asked.n == 204:
            return HotAnswer(204, "X-Empty: yes\r\n", b"")
        return HotAnswer(200, f'RateLimit: "x";r={asked.n}\r\n', checked)

    def check_again(self, rest: str, query: str, body: bytes) -> Again | None:
        """Answer the same again, every third time not."""
        n = self._decoder.decode(body).n

        def again(tail: str) -> str | None:
            if self.calls % 3 == 0:
                return None
            self.calls += 1
            checked = msgspec.json.encode(Checked(n=n, rest=rest, query=query, calls=self.calls)).decode()
            return f'{OK_JSON}{len(checked)}\r\nRateLimit: "x";r={n}\r\n{tail}{checked}'

        return again

    def ping(self, _rest: str, _query: str, _body: bytes) -> HotAnswer:
        """Answer without a body to read."""
        self.attempts += 1
        self.calls += 1
        return HotAnswer(200, "", b'{"calls":%d}' % self.calls)

    async def store(self, call: Call[bytes]) -> Answer:
        """Store a number; the answer comes later."""
        if "X-Mode" in call.request.headers:
            return Answer(body={"mode": call.request.headers["X-Mode"]})
        if not call.body:
            raise Problem(400, "missing", "Missing", "Send a body.")
        answer: asyncio.Future[HotAnswer | Problem] = asyncio.get_running_loop().create_future()
        self.store_later(call.body, answer.set_result)
        told = await answer
        if isinstance(told, Problem):
            raise told
        return Answer(status=told.status, body=told.body)

    def store_later(self, body: bytes, told: Told) -> None:
        """Store a number: a negative one is a problem at once, 13 a fault, 42 a problem later; 99 waits for `gate`."""
        asked = decode(self._decoder, body)
        if asked.n < 0:
            raise Problem(400, "negative", "Negative", f"{asked.n} is negative; store more.")
        if asked.n == 13:
            raise RuntimeError("13")
        self.calls += 1
        self.started.set()
        answer: HotAnswer | Problem = HotAnswer(202, "", b'{"stored":%d,"calls":%d}' % (asked.n, self.calls))
        if asked.n == 42:
            answer = Problem(503, "busy", "Busy", "Wait.", headers={"Retry-After": "1"}, errors=[FieldError("#", "no")])
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            await self.gate.wait()
            told(answer)

        if asked.n == 99:
            self.waiting = asyncio.create_task(wait())
        else:
            loop.call_soon(loop.call_soon, loop.call_soon, told, answer)

    async def keep(self, call: Call[Thing]) -> Answer:
        """Keep a thing."""
        return Answer(status=201, body=Kept(id="1", thing=call.body), headers={"Location": "/v1/things/1"})

    async def show(self, call: Call[None]) -> Answer:
        """Show a thing."""
        name = call.path("id")
        if name == "missing":
            raise Problem(404, "unknown-thing", "Unknown thing", f'There is no thing "{name}".')
        return Answer(body=Kept(id=name, thing=Thing(name="x")))

    async def touch(self, _: Call[None]) -> Answer:
        """Touch a thing."""
        return Answer(status=204)

    async def upload(self, call: Call[bytes]) -> Answer:
        """Count bytes."""
        return Answer(body={"bytes": len(call.body)})

    async def find(self, call: Call[None]) -> Answer:
        """Find things."""
        return Answer(body=[call.query("kind"), call.query("limit", "10")])

    async def slow(self, _: Call[None]) -> Answer:
        """Answer when it is told to."""
        self.started.set()
        await self.gate.wait()
        return Answer(body={"slow": True})

    async def stream(self, call: Call[None]) -> web.StreamResponse:
        """Answer in pieces."""
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(call.request)
        for piece in (b"one\n", b"two\n"):
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def fail(self, _: Call[None]) -> Answer:
        """Break."""
        raise RuntimeError("the secret is sesame")

    def hot_operations(self) -> list[HotOperation]:
        """Give the hot routes."""
        key = Parameter(
            name="key",
            place="path",
            description="A key.",
            schema={"type": "string", "pattern": "^[a-z~.:%/-]+$", "maxLength": 40},
            required=True,
        )
        enforce = Parameter(
            name="enforce", place="query", description="How.", schema={"type": "string", "enum": ["status", "body"]}
        )
        replies = {
            200: Reply(description="Allowed.", type=Checked),
            204: Reply(description="Nothing to say."),
            429: Reply(description="Denied.", type=ProblemDocument, media=PROBLEM_MEDIA),
        }
        return [
            HotOperation(
                method="POST",
                path="/v1/hot/check",
                name="check",
                summary="Check.",
                tag="made-up",
                answer=self.check,
                again=self.check_again,
                body=Check,
                parameters=(enforce,),
                replies=replies,
                max_body=MAX_BODY,
            ),
            HotOperation(
                method="POST",
                path="/v1/hot/keys/{key}",
                name="checkKey",
                summary="Check one key.",
                tag="made-up",
                answer=self.check,
                body=Check,
                parameters=(key,),
                replies=replies,
                max_body=MAX_BODY,
            ),
            HotOperation(
                method="GET",
                path="/v1/hot/ping",
                name="ping",
                summary="Ping.",
                tag="made-up",
                answer=self.ping,
                replies={200: Reply(description="Pong.", type=dict[str, int])},
            ),
        ]

    def operations(self) -> list[Operation]:
        """Give the ordinary routes."""
        identity = Parameter(
            name="id", place="path", description="Which.", schema={"type": "string", "maxLength": 20}, required=True
        )
        kept = {200: Reply(description="The thing.", type=Kept)}
        return [
            Operation(
                method="POST",
                path="/v1/hot/store",
                name="store",
                summary="Store a number.",
                tag="made-up",
                handler=self.store,
                shortcut=self.store_later,
                body=bytes,
                body_media=("application/json", "text/json"),
                body_models={"application/json": Check, "text/json": Check},
                body_required=False,
                max_body=MAX_BODY,
                parameters=(Parameter(name="x-mode", place="header", description="Another way."),),
                replies={
                    200: Reply(description="In another way.", type=dict[str, str]),
                    202: Reply(description="Stored.", type=dict[str, int]),
                    503: Reply(description="Not now.", type=ProblemDocument, media=PROBLEM_MEDIA),
                },
            ),
            Operation(
                method="POST",
                path="/v1/things",
                name="keepThing",
                summary="Keep a thing.",
                tag="made-up",
                handler=self.keep,
                body=Thing,
                max_body=MAX_BODY,
                replies={201: Reply(description="Kept.", type=Kept)},
            ),
            Operation(
                method="GET",
                path="/v1/things",
                name="findThings",
                summary="Find things.",
                tag="made-up",
                handler=self.find,
                parameters=(
                    Parameter(
                        name="kind",
                        place="query",
                        description="Only these.",
                        schema={"type": "string", "enum": ["plain", "fancy"]},
                    ),
                    Parameter(
                        name="limit",
                        place="query",
                        description="At most so many; default 10.",
                        schema={"type": "integer", "minimum": 1, "maximum": 100},
                    ),
                ),
                replies={200: Reply(description="Things.", type=list[str])},
            ),
            Operation(
                method="GET",
                path="/v1/things/{id}",
                name="showThing",
                summary="Show a thing.",
                tag="made-up",
                handler=self.show,
                parameters=(identity,),
                replies=kept,
            ),
            Operation(
                method="POST",
                path="/v1/things/{id}:touch",
                name="touchThing",
                summary="Touch a thing.",
                tag="made-up",
                handler=self.touch,
                parameters=(identity,),
                replies={204: Reply(description="Touched.")},
            ),
            Operation(
                method="POST",
                path="/v1/hot/keys/{key}:explain",
                name="explainKey",
                summary="Explain a key.",
                tag="made-up",
                handler=self.upload,
                body=bytes,
                body_media=("*/*",),
                max_body=MAX_BODY,
                parameters=(Parameter(name="key", place="path", description="Which.", required=True),),
                replies={200: Reply(description="Its size.", type=dict[str, int])},
            ),
            Operation(
                method="PUT",
                path="/v1/blob",
                name="putBlob",
                summary="Count bytes.",
                tag="made-up",
                handler=self.upload,
                body=bytes,
                body_media=("application/octet-stream", "text/*"),
                max_body=MAX_BODY,
                body_required=False,
                replies={200: Reply(description="Its size.", type=dict[str, int])},
            ),
            Operation(
                method="GET",
                path="/v1/slow",
                name="slow",
                summary="Wait.",
                tag="made-up",
                handler=self.slow,
                replies={200: Reply(description="Done.", type=dict[str, bool])},
            ),
            Operation(
                method="GET",
                path="/v1/stream",
                name="stream",
                summary="Answer in pieces.",
                tag="made-up",
                handler=self.stream,
                replies={200: Reply(description="Lines.", type=str, media="text/plain")},
            ),
            Operation(
                method="GET",
                path="/v1/fail",
                name="fail",
                summary="Break.",
                tag="made-up",
                handler=self.fail,
                replies={500: Reply(description="Always.", type=ProblemDocument, media=PROBLEM_MEDIA)},
            ),
            Operation(
                method="GET",
                path="/livez",
                name="livez",
                summary="Alive.",
                tag="made-up",
                handler=self.find,
                listener=("main", "admin"),
                public=True,
                replies={200: Reply(description="Alive.", type=list[str])},
            ),
        ]


def build() -> tuple[list[Operation], list[HotOperation]]:
    """Give the routes of a fresh block, for `tests.support.serving`."""
    block = Block()
    return block.operations(), block.hot_operations()
