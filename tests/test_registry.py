"""The schema registry client, against a small HTTP server that fails in every way a registry can."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows import registry as module
from flows.fields import SchemaError
from flows.registry import Away, Refused, Registry

TEXT = json.dumps({"type": "record", "name": "Order", "fields": [{"name": "quantity", "type": "int"}]})


class Server:
    """Answers each path as told; other paths as a registry that does not know what is asked for. Notes what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {"/subjects": (200, [])}
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = self.path.partition("?")[0]
                server.asked.append(path)
                server.gate.wait()
                status, body = server.answers.get(path, server.answers.get("*", (404, {"error_code": 40403, "message": "not found"})))
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            request_queue_size = 64  # the default of 5 lets the 32 threads' connections wait for a second

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def knows(self, id_: int, text: str = TEXT, **more: object) -> None:
        self.answers[f"/schemas/ids/{id_}"] = (200, {"schema": text, **more})

    def asked_for(self, path: str) -> int:
        return self.asked.count(path)

    def close(self) -> None:
        self.gate.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_schema_is_fetched_once(server: Server) -> None:
    server.knows(7)
    registry = Registry(server.url)
    assert registry.schema(7) is registry.schema(7)
    assert list(registry.schema(7).leaves) == ["quantity"]
    assert server.asked_for("/schemas/ids/7") == 1


def test_threads_get_the_same_schema(server: Server) -> None:
    server.knows(7)
    registry = Registry(server.url)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(registry.schema, [7] * 32))
    assert {id(schema) for schema in found} == {id(registry.schema(7))}


def test_an_unknown_id_is_asked_for_once_a_minute(server: Server) -> None:
    #  0 s: asked   59.9 s: remembered   60 s: asked, and known by now
    clock = Clock()
    registry = Registry(server.url, clock=clock)
    for _ in range(3):
        with pytest.raises(SchemaError, match="schema 7 is unknown to the registry"):
            registry.schema(7)
    clock.now += 59.9
    with pytest.raises(SchemaError):
        registry.schema(7)
    assert server.asked_for("/schemas/ids/7") == 1
    clock.now += 0.1
    server.knows(7)
    assert registry.schema(7).id == 7


@pytest.mark.parametrize(
    ("text", "kind"),
    [("no json", "AVRO"), ('"string"', "AVRO"), ('{"type": "record"}', "AVRO"), ("message M {}", "PROTOBUF"), ("{}", "JSON")],
)
def test_a_schema_that_will_never_do_is_remembered_too(server: Server, text: str, kind: str) -> None:
    server.knows(7, text, schemaType=kind)
    registry = Registry(server.url, clock=Clock())
    for _ in range(2):
        with pytest.raises(SchemaError):
            registry.schema(7)
    assert server.asked_for("/schemas/ids/7") == 1


def test_random_ids_do_not_fill_the_memory(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNKNOWN_IDS", 5)
    registry = Registry(server.url)
    for id_ in range(20):
        with pytest.raises(SchemaError):
            registry.schema(id_)
    assert list(registry._failures) == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_registry_in_trouble_is_away_and_nothing_is_given_up(server: Server, status: int) -> None:
    registry = Registry(server.url, clock=Clock())
    server.answers["*"] = (status, b"<html>")
    with pytest.raises(Away, match=str(status)):
        registry.schema(7)
    with pytest.raises(Away):
        registry.latest("shop.orders-value")
    with pytest.raises(Away):
        registry.register("shop.orders-value", TEXT)
    server.knows(7)
    assert registry.schema(7).id == 7  # the clock stands still: nothing was remembered


def test_a_registry_that_refuses_connections_is_away_until_it_is_there() -> None:
    with socket.socket() as taken:  # bound, not listening: refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Away, match="ConnectError"):
            Registry(f"http://127.0.0.1:{taken.getsockname()[1]}").schema(7)


def test_a_registry_that_hangs_is_given_up_within_five_seconds(server: Server) -> None:
    registry = Registry(server.url)
    server.knows(7)
    server.gate.clear()
    started = time.monotonic()
    with pytest.raises(Away, match="ReadTimeout"):
        registry.schema(7)
    assert 1 < time.monotonic() - started < 5
    server.gate.set()
    assert registry.schema(7).id == 7


def test_a_registry_that_hangs_delays_no_cached_schema(server: Server) -> None:
    registry = Registry(server.url)
    server.knows(7)
    registry.schema(7)
    server.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(registry.schema, 8)
        while not server.asked_for("/schemas/ids/8"):
            time.sleep(0.01)
        assert registry.schema(7).id == 7
        assert not hanging.done()
        server.gate.set()
        with pytest.raises(SchemaError):
            hanging.result()


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_stop_with_a_hint_that_shows_none(server: Server, status: int) -> None:
    server.answers["*"] = server.answers["/subjects"] = (status, {"error_code": status, "message": "no"})
    registry = Registry(server.url, "me:hunter2")
    with pytest.raises(Refused, match="SCHEMA_REGISTRY_USER_INFO") as caught:
        registry.schema(7)
    assert "hunter2" not in str(caught.value)


def test_who_may_not_list_subjects_may_still_read_schemas(server: Server) -> None:
    server.answers["/subjects"] = (403, {"error_code": 40301, "message": "no"})
    server.knows(7)
    assert Registry(server.url).schema(7).id == 7


def test_a_404_that_is_not_the_registrys_own_gives_nothing_up(server: Server) -> None:
    server.answers["/schemas/ids/7"] = (404, b"404 page not found")  # a proxy without its backend
    registry = Registry(server.url, clock=Clock())
    with pytest.raises(Away):
        registry.schema(7)
    server.knows(7)
    assert registry.schema(7).id == 7


@pytest.mark.parametrize("body", [b"<html>sign in</html>", [], {}])
def test_an_answer_that_is_no_registrys_gives_nothing_up(server: Server, body: object) -> None:
    server.answers["/subjects/shop.orders-value/versions/latest"] = (200, body)
    with pytest.raises(Away):
        Registry(server.url).latest("shop.orders-value")
    server.answers["/schemas/ids/7"] = (200, body)
    with pytest.raises(Away):
        Registry(server.url).schema(7)


def test_an_answer_that_was_no_registrys_is_asked_for_again(server: Server) -> None:
    registry = Registry(server.url)
    server.answers["/schemas/ids/7"] = (200, {"status": "UP"})
    with pytest.raises(Away):
        registry.schema(7)
    server.knows(7)
    assert registry.schema(7).id == 7


def test_the_confluent_path_is_tried_where_subjects_is_not_there_and_found_out_once(server: Server) -> None:
    server.answers["/subjects"] = (404, {"status": 404})
    server.answers["/apis/ccompat/v7/subjects"] = (200, [])
    server.answers["/apis/ccompat/v7/schemas/ids/7"] = server.answers["/apis/ccompat/v7/schemas/ids/8"] = (200, {"schema": TEXT})
    registry = Registry(server.url)
    assert (registry.schema(7).id, registry.schema(8).id) == (7, 8)
    assert server.asked_for("/subjects") == server.asked_for("/apis/ccompat/v7/subjects") == 1


def test_no_path_is_settled_on_before_one_answers(server: Server) -> None:
    server.knows(7)
    registry = Registry(server.url)
    server.answers["/subjects"] = (404, b"")  # a registry that boots, behind a proxy
    with pytest.raises(Away):
        registry.schema(7)
    server.answers["/subjects"] = (200, [])
    assert registry.schema(7).id == 7


def test_references_are_read_before_what_refers_to_them(server: Server) -> None:
    #  Order --> Address --> Country
    def record(name: str, field: str) -> str:
        return json.dumps({"type": "record", "name": name, "fields": [{"name": "x", "type": field}]})

    def version(text: str, *needs: str) -> tuple[int, object]:
        references = [{"name": name, "subject": name, "version": 1} for name in needs]
        return 200, {"subject": "s", "version": 1, "id": 9, "schema": text, "references": references}

    server.answers["/subjects/Country/versions/1"] = version(record("Country", "string"))
    server.answers["/subjects/Address/versions/1"] = version(record("Address", "Country"), "Country")
    _, body = version(record("Order", "Address"), "Address", "Country")
    server.answers["/schemas/ids/7"] = (200, body)
    assert list(Registry(server.url).schema(7).leaves) == ["x.x.x"]


def test_references_in_a_circle_end_as_a_bad_schema(server: Server) -> None:
    text = json.dumps({"type": "record", "name": "A", "fields": [{"name": "x", "type": "B"}]})
    reference = [{"name": "A", "subject": "A", "version": 1}]
    server.answers["/subjects/A/versions/1"] = (200, {"subject": "A", "version": 1, "id": 9, "schema": text, "references": reference})
    server.knows(7, text, references=reference)
    with pytest.raises(SchemaError):
        Registry(server.url).schema(7)


def test_a_missing_reference_is_a_bad_schema(server: Server) -> None:
    server.knows(7, references=[{"name": "A", "subject": "A", "version": 1}])
    with pytest.raises(SchemaError, match="A version 1 is unknown"):
        Registry(server.url).schema(7)


def test_the_latest_schema_is_looked_up_each_time(server: Server) -> None:
    registry = Registry(server.url)
    assert registry.latest("shop.orders-value") is None
    for id_ in (7, 8):
        body = {"subject": "shop.orders-value", "version": id_, "id": id_, "schema": TEXT}
        server.answers["/subjects/shop.orders-value/versions/latest"] = (200, body)
        assert registry.latest("shop.orders-value") == (id_, TEXT)


def test_a_registered_schema_gets_its_id(server: Server) -> None:
    server.answers["/subjects/kpi.a%2Fb-value/versions"] = (200, {"id": 12})
    assert Registry(server.url).register("kpi.a/b-value", TEXT) == 12


@pytest.mark.parametrize(("status", "code"), [(409, 409), (422, 42201)])
def test_a_schema_the_registry_does_not_take_is_a_bad_schema(server: Server, status: int, code: int) -> None:
    server.answers["/subjects/a-value/versions"] = (status, {"error_code": code, "message": "incompatible with an earlier schema"})
    with pytest.raises(SchemaError, match="a-value: incompatible with an earlier schema"):
        Registry(server.url).register("a-value", TEXT)


@pytest.mark.parametrize("good", [True, False])
def test_the_registry_says_whether_a_schema_would_be_taken(server: Server, good: bool) -> None:
    server.answers["/compatibility/subjects/a-value/versions/latest"] = (200, {"is_compatible": good})
    assert Registry(server.url).compatible("a-value", TEXT) == good


def test_a_subject_that_is_not_there_takes_any_schema(server: Server) -> None:
    server.answers["*"] = (404, {"error_code": 40401, "message": "not found"})
    assert Registry(server.url).compatible("a-value", TEXT)
