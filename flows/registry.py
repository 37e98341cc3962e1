"""Schemas from the registry. In: schema ids and subjects. Out: `fields.Schema`, cached; or the kind of failure. Thread-safe.

Three failures, three answers: Away (try again, nothing is lost), Refused (a person must act), SchemaError (this schema will never do).
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from confluent_kafka.schema_registry import RegisteredSchema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry import Schema as Entry
from confluent_kafka.schema_registry.common._httpx_compat import httpx

from flows.errors import ConfigError
from flows.fields import Schema, SchemaError, read_schema

CONFLUENT_PATH = "/apis/ccompat/v7"  # Apicurio's Confluent-compatible API
TIMEOUT_S = (2.0, 3.0, 3.0, 3.0)  # connect (a lost packet is sent again after 1 s), read, write, free connection: within 5 s in all
UNKNOWN_S = 60.0  # an unknown id is asked for again after this time
UNKNOWN_IDS = 10_000  # remembered at most, so that random ids in a topic of garbage cannot fill the memory
VERSIONS = 100  # of a subject, that a plan is made from at most
REFERENCES = 100  # schemas that one schema may be made of
NOT_FOUND = range(40400, 40500)  # the registry's own codes (40401 subject, 40402 version, 40403 schema); a bare 404 may be any proxy's

Answer = TypeVar("Answer")


class Away(Exception):  # noqa: N818 - said of the registry, as the design's words have it
    """No registry answers now: refused, hanging, 5xx or 429. To be tried again; nothing may be given up for it."""


class Refused(ConfigError):  # noqa: N818 - as above
    """The registry answers 401 or 403: it wants other credentials."""


class Registry:
    """The registry at an address; `/apis/ccompat/v7` below it where `/subjects` answers 404 (found out once, at the first answer)."""

    def __init__(self, url: str, user_info: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._candidates = [_client(url, path, user_info) for path in ("", CONFLUENT_PATH)]
        weakref.finalize(self, _close, self._candidates)  # so that nobody has to close a registry
        self._lock = threading.Lock()  # never held during a call, so that one that hangs delays no other
        self._client: SchemaRegistryClient | None = None
        self._schemas: dict[int, Schema] = {}
        self._failures: dict[int, tuple[float, str]] = {}

    def schema(self, id: int) -> Schema:  # noqa: A002 - the registry's word
        """The schema of an id. Raises SchemaError for an unknown or unusable one (remembered for 60 s), Away, Refused."""
        with self._lock:
            if (known := self._schemas.get(id)) is not None:
                return known
            since, reason = self._failures.get(id, (0.0, ""))
            if reason and self._clock() - since < UNKNOWN_S:
                raise SchemaError(reason)
        try:
            entry = self._ask(lambda client: _whole(client.get_schema(id)), f"schema {id}")
            schema = read_schema(id, _avro(entry, f"schema {id}"), self._references(entry, {}))
        except SchemaError as error:
            self._remember(id, str(error))
            raise
        with self._lock:
            self._failures.pop(id, None)
            return self._schemas.setdefault(id, schema)

    def latest(self, subject: str) -> tuple[int, str] | None:
        """Id and text of the subject's newest schema; None without such a subject. Raises Away, Refused, SchemaError (not Avro)."""
        try:
            # Not get_latest_version: it would never look again.
            id_, entry = self._ask(lambda client: _numbered(client.get_version(subject, "latest")), subject)
        except _UnknownError:
            return None
        return id_, _avro(entry, subject)

    def versions(self, subject: str) -> set[int]:
        """The ids of a subject's newest 100 versions that are there; none without such a subject. Raises Away, Refused."""
        try:
            numbers = self._ask(lambda client: [int(number) for number in client.get_versions(subject)], subject)
        except _UnknownError:
            return set()
        ids = set()
        for number in sorted(numbers)[-VERSIONS:]:
            try:
                id_, _ = self._ask(lambda client, at=number: _numbered(client.get_version(subject, at)), f"{subject} version {number}")  # type: ignore[misc]
            except SchemaError:  # deleted meanwhile
                continue
            ids.add(id_)
        return ids

    def others(self, topic: str, met: Iterable[Schema]) -> set[int]:
        """The newest ids of subjects that are named after a record: `<topic>-<record>`, or `<record>` with a namespace of those met.

        (Confluent's TopicRecordNameStrategy and RecordNameStrategy.) At most 100 of each. Raises Away, Refused.
        """
        subjects = sorted(self._ask(lambda client: [str(subject) for subject in client.get_subjects()], "subjects"))
        values = [subject for subject in subjects if not subject.endswith(("-key", "-value"))]
        spaces = {schema.parsed["name"].rpartition(".")[0] for schema in met}
        of_topic = [subject for subject in values if subject.startswith(f"{topic}-")][:VERSIONS]
        of_record = [subject for subject in values if subject.rpartition(".")[0] in spaces][:VERSIONS]
        ids = set()
        for subject in (*of_topic, *of_record):
            with suppress(SchemaError):  # deleted meanwhile, or no Avro
                ids |= {newest[0]} if (newest := self.latest(subject)) is not None else set()
        return ids

    def register(self, subject: str, text: str) -> int:
        """The id under which the subject has this schema. Raises SchemaError when it is invalid or incompatible; Away, Refused."""
        return self._ask(lambda client: int(client.register_schema(subject, Entry(text, "AVRO"))), subject)

    def compatible(self, subject: str, text: str) -> bool:
        """Whether the registry would take this schema after the subject's newest; a new subject takes any. Raises as `register` does."""
        try:
            return self._ask(lambda client: bool(client.test_compatibility(subject, Entry(text, "AVRO"))), subject)
        except _UnknownError:
            return True

    def _references(self, entry: Entry, found: dict[tuple[str, int], str]) -> list[str]:
        """Texts of all the schemas that a schema refers to, each after those it refers to itself."""
        for reference in entry.references or []:
            place = (str(reference.subject), int(reference.version or 0))
            if place in found:
                continue
            if len(found) >= REFERENCES:
                raise SchemaError(f"more than {REFERENCES} references")
            found[place] = ""  # seen: a circle ends here, and fails when it is read
            name = f"{place[0]} version {place[1]}"
            _, needed = self._ask(lambda client, at=place: _numbered(client.get_version(*at)), name)  # type: ignore[misc]
            self._references(needed, found)
            del found[place]  # placed behind what it needs
            found[place] = _avro(needed, name)
        return list(found.values())

    def _remember(self, id: int, reason: str) -> None:  # noqa: A002 - as above
        with self._lock:
            self._failures.pop(id, None)
            self._failures[id] = (self._clock(), reason)
            if len(self._failures) > UNKNOWN_IDS:
                del self._failures[next(iter(self._failures))]

    def _ask(self, question: Callable[[SchemaRegistryClient], Answer], what: str) -> Answer:
        def asked() -> Answer:
            client = self._found()
            try:
                return question(client)
            except (ValueError, KeyError, TypeError, AttributeError):
                client.clear_caches()  # type: ignore[no-untyped-call] # it keeps whatever a 200 brought, and would give the same again for ever
                raise

        return _judged(asked, what, self._url)

    def _found(self) -> SchemaRegistryClient:
        """The client of the path that answers. A wrong path is never settled on: only an answer other than 404 counts."""
        if self._client is None:
            for client in self._candidates:
                try:
                    client.get_subjects(limit=1)
                except SchemaRegistryError as error:
                    if error.http_status_code == HTTPStatus.NOT_FOUND:
                        continue
                    if error.http_status_code not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                        raise  # 401 and 403 may be the list's alone
                self._client = client
                break
            else:
                raise Away(f"{self._url}: neither /subjects nor {CONFLUENT_PATH}/subjects is there (404)")
        return self._client


class _UnknownError(SchemaError):
    """The registry knows no such id, subject or version."""


def _whole(entry: Entry) -> Entry:
    if entry.schema_str is None:
        raise ValueError("no schema")
    return entry


def _numbered(version: RegisteredSchema) -> tuple[int, Entry]:
    if version.schema_id is None:
        raise ValueError("no id")
    return version.schema_id, _whole(version.schema)


def _client(urls: str, path: str, user_info: str | None) -> SchemaRegistryClient:
    login = {"basic.auth.user.info": user_info} if user_info else {}
    at = ",".join(url.rstrip("/") + path for url in urls.split(","))
    # No retries inside: its pauses of up to 20 s would hold the caller, who knows better what to do meanwhile.
    return SchemaRegistryClient({"url": at, "timeout": TIMEOUT_S, "max.retries": 0, **login})


def _close(clients: Sequence[SchemaRegistryClient]) -> None:
    for client in clients:
        client.close()


def _avro(entry: Entry, what: str) -> str:
    if entry.schema_type not in {None, "AVRO"}:
        raise SchemaError(f"{what} is {entry.schema_type}, not Avro")
    return str(entry.schema_str)


def _judged(call: Callable[[], Answer], what: str, url: str) -> Answer:
    """What the call returns, or its failure as one of ours."""
    try:
        return call()
    except httpx.HTTPError as error:  # refused, hanging, cut off
        raise Away(f"{url}: {type(error).__name__} {error}".rstrip()) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # the client reads any 200 as an answer, a proxy's login page too
        if isinstance(error, ConfigError | SchemaError):
            raise
        raise Away(f"{url}: the answer about {what} is no registry's ({type(error).__name__})") from error
    except SchemaRegistryError as error:
        status, message = error.http_status_code, str(error.error_message)[:200]
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Refused(f"{url}: {what}: {status}, want credentials that may: set SCHEMA_REGISTRY_USER_INFO to user:password") from error
        if error.error_code in NOT_FOUND:
            raise _UnknownError(f"{what} is unknown to the registry") from error
        if status in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise SchemaError(f"{what}: {message}") from error
        raise Away(f"{url}: {what}: {status} {message}") from error
