"""A model provider on loopback that plays a script, for driving the real agent programs.

    with ScriptedProvider([shell("echo hi > a.txt"), say("done")]) as provider:
        … ANTHROPIC_BASE_URL=provider.url, or base_url = provider.url + "/v1" for OpenAI …
        provider.requests   # bodies of the model calls, in order

It speaks, as streams, Anthropic Messages (``/v1/messages``), OpenAI Responses (``/v1/responses``) and OpenAI Chat
Completions (``/v1/chat/completions``). Each model call takes the next turn; when the script is over every call gets
``say("done")``. Calls that offer no tools (titles, summaries) are answered without taking a turn.

Turns: ``say(text)``, ``shell(command)`` (a call of whatever shell tool the program offers), ``fail(status, …)``,
``cut()`` (the stream breaks in the middle), ``hang()`` (no answer until the provider closes). Every turn reports usage:
1000 input tokens, of which 400 cached, and 50 output tokens.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_NUMBERS = itertools.count(1)

INPUT_TOKENS = 1000
CACHED_TOKENS = 400
OUTPUT_TOKENS = 50


@dataclass(frozen=True)
class Turn:
    """One answer. Make them with the functions below."""

    kind: str
    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


def say(text: str) -> Turn:
    return Turn("say", text)


def shell(command: str) -> Turn:
    return Turn("shell", command)


def fail(status: int, message: str = "scripted failure", *, kind: str = "error", **headers: str) -> Turn:
    """An HTTP error. ``headers`` with underscores for dashes, as ``retry_after="2"``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Turn("fail", status=status, headers=named, body={"type": kind, "message": message})


def cut() -> Turn:
    return Turn("cut", "half a sen")


def hang() -> Turn:
    return Turn("hang")


class ScriptedProvider:
    """See the module's text."""

    def __init__(self, turns: Sequence[Turn] = (), *, forever: Turn | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._turns = list(turns)
        self._forever = forever or say("done")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        #: set when a turn that hangs has been taken
        self.hanging = threading.Event()
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> Turn:
        if not body.get("tools") and not _runs_scripts(body):
            return say("a title")
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            return self._turns.pop(0) if self._turns else self._forever

    def play(self, turns: Sequence[Turn], *, forever: Turn | None = None) -> None:
        """Put a new script on: ``turns``, then ``forever`` (default ``say("done")``)."""
        with self._lock:
            self._turns = list(turns)
            self._forever = forever or say("done")

    def wait_closed(self) -> None:
        self.hanging.set()
        self._closing.wait()


class _Handler(BaseHTTPRequestHandler):
    owner: ScriptedProvider
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._json(200, {"data": [], "models": []})

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            body = {}
        path = self.path.split("?")[0]
        if path.endswith("/count_tokens"):
            self._json(200, {"input_tokens": INPUT_TOKENS})
            return
        player = {
            "/v1/messages": _anthropic,
            "/v1/responses": _responses,
            "/v1/chat/completions": _chat,
        }.get(path)
        if player is None:
            self._json(200, {})
            return
        turn = self.owner.take(body, {name.lower(): value for name, value in self.headers.items()})
        if turn.kind == "hang":
            self.owner.wait_closed()
            self.close_connection = True
            return
        if turn.kind == "fail":
            error = turn.body or {}
            self._json(turn.status, {"type": "error", "error": {**error, "code": error["type"]}}, turn.headers)
            return
        if turn.kind == "cut" and not body.get("stream"):
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.close_connection = True
            return
        if not body.get("stream"):
            self._json(200, _whole(path, body, turn))
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for name, data in player(body, turn):
            head = f"event: {name}\n" if name else ""
            payload = data if isinstance(data, str) else json.dumps(data)
            self.wfile.write(f"{head}data: {payload}\n\n".encode())
            self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


Stream = list[tuple[str, Any]]


def _anthropic(body: dict[str, Any], turn: Turn) -> Stream:
    usage = {
        "input_tokens": INPUT_TOKENS - CACHED_TOKENS,
        "cache_read_input_tokens": CACHED_TOKENS,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message = {
        "id": f"msg_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    block: dict[str, Any]
    delta: dict[str, Any]
    if turn.kind == "shell":
        call = {"command": turn.text, "description": "scripted"}
        block = {"type": "tool_use", "id": f"toolu_{next(_NUMBERS)}", "name": "Bash", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call)}
        reason = "tool_use"
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": turn.text}
        reason = "end_turn"
    start: Stream = [
        ("message_start", {"type": "message_start", "message": message}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
    ]
    if turn.kind == "cut":
        return start
    return [
        *start,
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": OUTPUT_TOKENS},
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]


def _responses(body: dict[str, Any], turn: Turn) -> Stream:
    response = {"id": "resp_1", "object": "response", "model": body.get("model"), "output": []}
    if turn.kind == "shell":
        item = _shell_call(body, turn.text)
    else:
        content = [{"type": "output_text", "text": turn.text, "annotations": []}]
        item = {
            "type": "message",
            "id": f"msg_{next(_NUMBERS)}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    start: Stream = [("response.created", {"type": "response.created", "response": response})]
    if turn.kind == "cut":
        return start
    done = {
        **response,
        "status": "completed",
        "output": [item],
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 10},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }
    return [
        *start,
        ("response.output_item.added", {"type": "response.output_item.added", "output_index": 0, "item": item}),
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
        ("response.completed", {"type": "response.completed", "response": done}),
    ]


def _shell_call(body: dict[str, Any], command: str) -> dict[str, Any]:
    """A call of the shell tool that the program offers: its name and arguments differ by version and model."""
    if _runs_scripts(body):
        return {
            "type": "custom_tool_call",
            "id": f"ctc_{next(_NUMBERS)}",
            "call_id": f"call_{next(_NUMBERS)}",
            "name": "exec",
            "namespace": "functions",
            "input": f"text(await tools.exec_command({json.dumps({'cmd': command})}));",
            "status": "completed",
        }
    offered = {tool.get("name") or tool.get("type") for tool in body["tools"]}
    shapes: dict[str, dict[str, Any]] = {
        "exec_command": {"cmd": command},
        "shell_command": {"command": command},
        "shell": {"command": ["bash", "-lc", command]},
    }
    name = next(name for name in shapes if name in offered)
    return {
        "type": "function_call",
        "id": f"fc_{next(_NUMBERS)}",
        "call_id": f"call_{next(_NUMBERS)}",
        "name": name,
        "arguments": json.dumps(shapes[name]),
        "status": "completed",
    }


def _runs_scripts(body: dict[str, Any]) -> bool:
    """Whether codex offers its tools to scripts alone, in an item of the input, as with its newest models."""
    items = body.get("input")
    return isinstance(items, list) and any(item.get("type") == "additional_tools" for item in items)


def _chat(body: dict[str, Any], turn: Turn) -> Stream:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {
            "id": "chat_1",
            "object": "chat.completion.chunk",
            "model": body.get("model"),
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }

    start: Stream = [("", chunk({"role": "assistant", "content": turn.text}))]
    if turn.kind == "cut":
        return start
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    return [*start, ("", {**chunk({}, "stop"), "usage": usage}), ("", "[DONE]")]


def _whole(path: str, body: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """The answer to a call that does not stream."""
    if path == "/v1/messages":
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [{"type": "text", "text": turn.text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
        }
    return {"id": "x", "object": "response", "status": "completed", "output": [], "choices": []}
