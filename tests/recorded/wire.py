"""A conversation of people, a worker and the scheduler with the services, as bytes; and its replay with later services.

A replay sends the recorded requests, with the sessions, tokens and identifiers that the services have given this time
in place of those of then, and holds the answers to what was said then: the same statuses, and every field that was set,
with its value where it is not a matter of time or chance.
"""

import asyncio
import base64
import gzip
import hashlib
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

from dpu.channel import open_async_channel
from dpud.archive import main as archive
from dpud.codeship import main as codeship
from dpud.hosting.server import listening
from dpud.hosting.settings import Environment
from dpud.logs import main as logs
from dpud.scheduler import main as scheduler

ROLES = {"anna": "user", "ruth": "operator", "worker": "worker", "service": "service"}
#: Made by chance, and said again by callers: learned in a replay.
GIVEN = {"session", "token", "id", "next_page_token"}
#: Of their moment or their place, or told by a person's words.
FREE = {
    "archive_address",
    "logs_address",
    "code_address",
    "version",
    "revision",
    "file_name",
    "path",
    "message",
    "why",
    "name",
    "description",
    "identity",
    "catalogue",
}
FREE_KINDS = {"google.protobuf.Timestamp", "google.protobuf.Duration"}
PATIENCE_S = 60.0


@asynccontextmanager
async def house(folder: Path):
    """Serve scheduler, logs, codeship and archive on one socket; yield its address."""
    address = f"unix:{folder / 's'}"
    (folder / "tokens.toml").write_text("\n".join(map(_row, ROLES.items())))
    (folder / "token").write_text("service")
    shared = dict.fromkeys(("DPU_LISTEN", "DPU_ARCHIVE", "DPU_LOGS", "DPU_CODE"), address)
    shared |= {
        "DPU_NAME": "recorded",
        "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
        "DPU_TOKEN_FILE": str(folder / "token"),
    }
    async with AsyncExitStack() as stack:
        services = []
        for module in (archive, logs, codeship, scheduler):
            state = folder / module.__name__.split(".")[-2]
            settings = module.Settings.read(Environment(shared | {"DPU_STATE": str(state)}))
            services += await stack.enter_async_context(module.built(settings))
        await stack.enter_async_context(listening(settings.listening, services))
        yield address


def _row(person):
    user, role = person
    secret = hashlib.sha256(user.encode()).hexdigest()
    return f'[[token]]\nsha256 = "{secret}"\nuser = "{user}"\nprojects = ["*"]\nroles = ["{role}"]\n'


class Line:
    """Calls of any kind of method, as bytes."""

    def __init__(self, address):
        self._address = address
        self._channels = {}

    async def call(self, who, method, requests):
        """Return the answers, and the name of the status."""
        if who not in self._channels:
            self._channels[who] = open_async_channel(self._address, who, "kids")
        call = self._channels[who].stream_stream(method)(iter(requests), timeout=PATIENCE_S)
        answers = []
        with suppress(grpc.RpcError):
            async for answer in call:
                answers.append(answer)  # noqa: PERF401 (those before a failure count)
        return answers, (await call.code()).name

    async def close(self):
        for channel in self._channels.values():
            await channel.close()


class Recorder:
    """Says things, and keeps what was said."""

    def __init__(self, address):
        self._line = Line(address)
        self.entries = []

    async def say(self, who, method, *requests, until=None):
        """Return the answers of a call, which is repeated until one is as it should be."""
        path = _path(method)
        sent = [request.SerializeToString() for request in requests]
        async with asyncio.timeout(PATIENCE_S):
            while True:
                raw, status = await self._line.call(who, path, sent)
                answers = [_types(path)[1].FromString(each) for each in raw]
                if until is None or until(answers[0]):
                    break
                await asyncio.sleep(0.05)
        entry = {"who": who, "method": path, "requests": sent, "answers": raw, "status": status}
        self.entries.append(entry | ({"again": True} if until else {}))
        return answers

    async def close(self):
        await self._line.close()


def write(entries, file):
    """Write a transcript: a JSON object a call, its messages in base64."""
    lines = []
    for entry in entries:
        coded = {key: [base64.b64encode(each).decode() for each in entry[key]] for key in ("requests", "answers")}
        lines.append(json.dumps(entry | coded) + "\n")
    file.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def read(file):
    """Return the calls of a transcript."""
    entries = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    coded = ("requests", "answers")
    return [entry | {key: [base64.b64decode(each) for each in entry[key]] for key in coded} for entry in entries]


async def replay(entries, address):
    """Return what was answered otherwise than it is recorded, a line each."""
    line, given, differences = Line(address), {}, []
    try:
        for number, entry in enumerate(entries):
            found = await _held(line, entry, given)
            differences += [f"call {number}, {entry['method']}: {difference}" for difference in found]
    finally:
        await line.close()
    return differences


async def _held(line, entry, given):
    asks, answers = _types(entry["method"])
    requests = [asks.FromString(each) for each in entry["requests"]]
    then = [answers.FromString(each) for each in entry["answers"]]
    unknown = [str(each) for each in (*requests, *then) if len(UnknownFieldSet(each))]
    sent = [_renamed(request, given).SerializeToString() for request in requests]
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        raw, status = await line.call(entry["who"], entry["method"], sent)
        now = [answers.FromString(each) for each in raw]
        learned = {}
        differences = [f"status {status}, not {entry['status']}"] if status != entry["status"] else []
        if len(now) != len(then):
            differences.append(f"{len(now)} answers, not {len(then)}")
        for before, after in zip(then, now, strict=False):
            differences += _compared(before, after, "", learned)
        if not differences or not entry.get("again") or asyncio.get_running_loop().time() > deadline:
            given |= learned
            return [*(f"fields that are not known any more: {each}" for each in unknown), *differences]
        await asyncio.sleep(0.05)


def _compared(before, after, path, learned):
    """Yield where a message lacks or changes what another has."""
    for field, value in before.ListFields():
        where = f"{path}.{field.name}".lstrip(".")
        other = getattr(after, field.name)
        if field.is_repeated and field.message_type and field.message_type.GetOptions().map_entry:
            yield from _of_map(value, other, where, learned)
        elif field.is_repeated:
            yield from _of_list(field, value, other, where, learned)
        elif field.has_presence and not after.HasField(field.name):
            yield f"{where} is not set"
        else:
            yield from _of_field(field, value, other, where, learned)


def _of_list(field, value, other, where, learned):
    """Yield where a list lacks or changes items; to those that have names, others may have come."""
    if field.message_type is not None and "name" in field.message_type.fields_by_name:
        named = {each.name: each for each in other}
        yield from (f"{where} has no {each.name!r} any more" for each in value if each.name not in named)
        pairs = [(each, named[each.name]) for each in value if each.name in named]
    else:
        pairs = list(zip(value, other, strict=False))
        if len(value) != len(other):
            yield f"{where} has {len(other)} items, not {len(value)}"
    for index, pair in enumerate(pairs):
        yield from _of_field(field, *pair, f"{where}[{index}]", learned)


def _of_map(value, other, where, learned):
    for key, item in value.items():
        if key not in other:
            yield f"{where}[{key!r}] is not set"
        elif hasattr(item, "ListFields"):
            yield from _compared(item, other[key], f"{where}[{key!r}]", learned)
        elif item != other[key]:
            yield f"{where}[{key!r}] is {other[key]!r}, not {item!r}"


def _of_field(field, value, other, where, learned):
    if field.message_type is not None:
        if field.message_type.full_name not in FREE_KINDS:
            yield from _compared(value, other, where, learned)
    elif field.name in GIVEN and isinstance(value, str):
        learned[value] = other
    elif value != other and field.name not in FREE and not isinstance(value, float):
        yield f"{where} is {other!r}, not {value!r}"


def _renamed(message, given):
    """Return the message with what was given this time."""
    for field, value in message.ListFields():
        if field.message_type is not None and not (field.is_repeated and field.message_type.GetOptions().map_entry):
            for each in value if field.is_repeated else [value]:
                _renamed(each, given)
        elif field.type == field.TYPE_STRING and field.is_repeated:
            value[:] = [given.get(each, each) for each in value]
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, given.get(value, value))
    return message


def _path(method):
    service, _, name = method.rpartition(".")
    return f"/dpu_api.v1.{service}/{name}"


def _types(path):
    """Return the classes of a method's requests and answers."""
    service, _, name = path.removeprefix("/").partition("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return message_factory.GetMessageClass(method.input_type), message_factory.GetMessageClass(method.output_type)
