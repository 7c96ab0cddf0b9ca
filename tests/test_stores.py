"""Shards in an object store: a real S3 server on this machine, behind a proxy that fails, answers late, or not at all."""

import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from asr.corpus import shard_files, store_lock, stores
from asr.corpus import spool as spool_module
from asr.corpus.manifest import read_manifest
from asr.corpus.shard_writer import UNFINISHED, ShardOptions, write_shards
from asr.corpus.shards import INDEX, BadShardError, Shards, is_shards, open_shards, read_utterances
from asr.corpus.spool import NoRoomError, Spool, stream_shards
from asr.corpus.store_lock import LOCK, StoreLock, open_store_lock
from asr.corpus.stores import LocalStore, MissingFileError, ObjectStore, is_url, open_store
from asr.errors import InputError
from tests.test_shards import contents, largest_file, manifest, read_audio  # noqa: F401  a fixture

pytest.importorskip("moto", reason="OBJECT STORES ARE NOT TESTED: no moto")

OPTIONS = ShardOptions(shard_utterances=2, retry_s=30.0)


class Proxy(ThreadingHTTPServer):
    """Forwards requests to the server. ``fail`` requests are answered with 503, all after ``delay_s``; ``down``: none."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.target, self.fail, self.delay_s, self.down = port, 0, 0.0, False
        self.down_for: Callable[[str, str], bool] = lambda method, path: False
        self.seen: list[tuple[str, str]] = []
        self.mutex = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def count(self, method: str, part: str) -> int:
        """The requests so far with this method and this part of the path."""
        return sum(one == method and part in path for one, path in self.seen)

    def hang(self) -> bool:
        """Do not answer for longer than a test takes."""
        time.sleep(60)
        return True

    def reset(self) -> None:
        self.fail, self.delay_s, self.down, self.seen = 0, 0.0, False, []
        self.down_for = lambda method, path: False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has closed its connection is no error."""


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.mutex:
            self.server.seen.append((self.command, self.path))
            failing = self.server.fail > 0
            self.server.fail -= failing
        if self.server.down or self.server.down_for(self.command, self.path):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        time.sleep(self.server.delay_s)
        if failing:
            self.answer(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        self.answer(answer.status, answer.getheaders(), answer.read())
        connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        given = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        head = self.command == "HEAD"
        self.send_header("Content-Length", given.get("content-length", "0") if head else str(len(content)))
        self.end_headers()
        if not head:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815  names of the base class

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the overridden method's
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3 server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.1)
        yield port
        process.terminate()


@pytest.fixture(scope="module")
def shared_proxy(server: int) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy
        proxy.shutdown()


@pytest.fixture
def proxy(shared_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy as the endpoint of S3, in this process and those that it starts; short pauses."""
    shared_proxy.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{shared_proxy.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name, seconds in (("RENEW_S", 0.1), ("STALE_S", 5.0), ("SETTLE_S", 0.0)):
        monkeypatch.setattr(store_lock, name, seconds)
    yield shared_proxy
    shared_proxy.reset()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    shard_files.store_at.cache_clear()


@pytest.fixture
def bucket(proxy: Proxy, request: pytest.FixtureRequest) -> str:
    """The URL of an empty folder in a bucket."""
    import s3fs

    name = f"bucket-{abs(hash(request.node.name))}"
    s3fs.S3FileSystem().mkdir(name)
    proxy.reset()
    return f"s3://{name}/train"


def store_at(url: str, retry_s: float = 30.0) -> ObjectStore:
    store = open_store(url, retry_s)
    assert isinstance(store, ObjectStore)
    return store


def objects(url: str) -> dict[str, bytes]:
    store = store_at(url)
    return {name: store.read_bytes(name) for name in sorted(store.sizes())}


# --- writing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_objects_are_the_files_of_a_folder(manifest: Path, bucket: str, tmp_path: Path, jobs: int) -> None:  # noqa: F811
    local = write_shards(manifest, tmp_path / "local", OPTIONS)
    remote = write_shards(manifest, bucket, OPTIONS, jobs)
    assert objects(bucket) == contents(tmp_path / "local")
    assert (remote.digest, remote.location) == (local.digest, bucket)
    assert is_shards(bucket)
    assert not is_shards(bucket + "/none")
    with Spool(tmp_path / "spool") as spool:
        read = [(number, one) for number, part in stream_shards(remote, [4, 0, 2], spool) for one in part]
        originals = read_manifest(manifest)
        assert [one.id for _, one in read] == [originals[index].id for index in (8, 9, 0, 1, 4, 5)]
        assert [number for number, _ in read] == [4, 4, 0, 0, 2, 2]
        for (_, one), index in zip(read, (8, 9, 0, 1, 4, 5), strict=True):
            assert (read_audio(one.audio_path) == read_audio(originals[index].audio_path)).all()
    write_shards(bucket, tmp_path / "back", ShardOptions(shard_utterances=5))
    write_shards(manifest, tmp_path / "direct", ShardOptions(shard_utterances=5))
    back, direct = contents(tmp_path / "back"), contents(tmp_path / "direct")
    assert {name for name in back | direct if back.get(name) != direct.get(name)} == {INDEX}


def test_a_manifest_may_be_in_a_store(manifest: Path, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    store_at(bucket).write_bytes("cuts.jsonl.gz", manifest.read_bytes())
    write_shards(f"{bucket}/cuts.jsonl.gz", tmp_path / "out", OPTIONS)
    write_shards(manifest, tmp_path / "local", OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_other_stores_and_urls(tmp_path: Path) -> None:
    assert [
        is_url(one) for one in ("s3://a/b", Path("s3://a/b"), "gs://a", "file:///a", "/a/b", "a:b", "C:/x", "c")
    ] == [
        *[True] * 3,
        *[False] * 5,
    ]
    assert open_store(Path("s3://a/b")).location == "s3://a/b"
    local = open_store(f"file://{tmp_path}")
    assert isinstance(local, LocalStore)
    for store in (open_store("memory://x/y"), local):
        assert store.sizes() == {}
        assert not store.has("a")
        store.write_bytes("a", b"12")
        store.write_bytes("a", b"123")
        (tmp_path / "file").write_bytes(b"4567")
        store.put(tmp_path / "file", "b")
        assert store.sizes() == {"a": 3, "b": 4}
        assert store.read_bytes("b") == b"4567"
        store.remove(["a", "none"])
        assert store.sizes() == {"b": 4}
        with pytest.raises(MissingFileError, match=r"/a: no such file"):
            store.read_bytes("a")


# --- stores that fail -------------------------------------------------------------------------------------------------


def test_a_store_that_fails_for_a_while(
    manifest: Path,  # noqa: F811
    proxy: Proxy,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "FIRST_PAUSE_S", 0.01)
    write_shards(manifest, tmp_path / "local", OPTIONS)
    proxy.fail = 7
    shards = write_shards(manifest, bucket, OPTIONS)
    assert objects(bucket) == contents(tmp_path / "local")
    proxy.fail = 7
    with Spool(tmp_path / "spool", retry_s=30.0) as spool:
        assert len([one for _, part in stream_shards(shards, range(5), spool) for one in part]) == 10
    assert proxy.fail == 0


def test_a_store_that_stays_away_while_shards_are_written(
    manifest: Path,  # noqa: F811
    proxy: Proxy,
    bucket: str,
    tmp_path: Path,
) -> None:
    write_shards(manifest, tmp_path / "local", OPTIONS)
    proxy.down_for = lambda method, path: method == "PUT" and "recording.000003" in path
    expected = (
        rf"{bucket}/recording.000003.tar: no answer in \d+ s and \d+ tries \(\w+: .*\), expected a store that answers; "
    )
    with pytest.raises(
        InputError, match=expected + "what is done is kept, and the same command, or resume=true"
    ) as error:
        write_shards(manifest, bucket, ShardOptions(shard_utterances=2, retry_s=1.0))
    assert "\n" not in str(error.value)
    tries = proxy.count("PUT", "recording.000003")
    assert 3 <= tries <= 12
    assert set(store_at(bucket).sizes()) == {
        UNFINISHED,
        *(name for number in range(3) for name in (f"cuts.{number:06}.jsonl.gz", f"recording.{number:06}.tar")),
    }
    proxy.reset()
    write_shards(manifest, bucket, OPTIONS)
    assert objects(bucket) == contents(tmp_path / "local")
    assert proxy.count("PUT", "recording.0") == 2  # the third and the fourth


def test_a_store_that_stays_away_while_shards_are_read(
    manifest: Path,  # noqa: F811
    proxy: Proxy,
    bucket: str,
    tmp_path: Path,
) -> None:
    shards = write_shards(manifest, bucket, OPTIONS)
    with Spool(tmp_path / "spool", retry_s=0.5) as spool:
        stream = stream_shards(shards, range(5), spool, skip_bad=True, ahead=0)
        assert next(stream)[0] == 0
        proxy.down = True
        with pytest.raises(InputError, match=rf"{bucket}/cuts.000001.jsonl.gz: no answer in \d+ s and") as error:
            next(stream)
        assert not isinstance(error.value, BadShardError)
        assert not list((tmp_path / "spool").glob("*.partial"))
        proxy.down = False
        assert [number for number, _ in stream_shards(shards, range(5), spool)] == list(range(5))
    proxy.down = True
    for action in (is_shards, open_shards):
        with pytest.raises(InputError, match=rf"{bucket}/{INDEX}: no answer in"):
            action(bucket, 0.2)


def test_pauses_grow_and_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [100.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores.time, "sleep", sleep)
    monkeypatch.setattr(stores.random, "uniform", lambda low, high: high)

    def refuse() -> None:
        raise ConnectionError("gone\naway")

    with pytest.raises(
        InputError, match=r"^x: no answer in 60 s and 13 tries \(ConnectionError: gone away\), expected"
    ):
        stores.ask("x", refuse, 60.0)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10, 7.3])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError("Access Denied"),
            r"^x: refused \(PermissionError: Access Denied\), expected keys that may use it",
        ),
        (FileNotFoundError("x"), "^x: no such file or bucket, expected one"),
        (NotImplementedError("x"), "^x: such a store cannot do this, expected one that is read and written"),
        (
            OSError(28, "No space left on device", "/spool/a"),
            "^/spool/a: No space left on device, expected a disk with room",
        ),
    ],
)
def test_what_waiting_does_not_mend_is_not_asked_again(error: Exception, message: str) -> None:
    tries = []

    def refuse() -> None:
        tries.append(1)
        raise error

    with pytest.raises(InputError, match=message):
        stores.ask("x", refuse, 60.0)
    assert len(tries) == 1


def test_places_that_do_not_exist(manifest: Path, proxy: Proxy) -> None:  # noqa: F811
    with pytest.raises(InputError, match=r"s3://no-such-bucket-here/x/.*: no such file or bucket, expected one"):
        write_shards(manifest, "s3://no-such-bucket-here/x", ShardOptions(retry_s=1.0))
    with pytest.raises(InputError, match="s3://no-such-bucket-here/x/cuts.index: no such file, expected shards as"):
        open_shards("s3://no-such-bucket-here/x", 1.0)
    script = (
        "import sys; sys.modules['s3fs'] = None; from asr.corpus.stores import open_store; open_store('s3://another/x')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Install s3fs" in done.stderr
    assert "expected the packages for it, such as pip install 'asr-phones[shards]'" in done.stderr


# --- bad objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuts.000001.jsonl.gz", "recording.000001.tar"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-9], r"\d+ bytes, expected \d+$"),
        (lambda content: b"", r"0 bytes, expected \d+$"),
        (lambda content: content[:50] + b"x" + content[51:], r"SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}$"),
        (None, r"no such file or bucket, expected one$"),
    ],
    ids=["truncated", "empty", "altered", "missing"],
)
def test_a_bad_object_is_named_and_can_be_skipped(
    manifest: Path,  # noqa: F811
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[bytes], bytes] | None,
    message: str,
) -> None:
    shards, store = write_shards(manifest, bucket, ShardOptions(shard_utterances=4)), store_at(bucket)
    if damage is None:
        store.remove([name])
    else:
        store.write_bytes(name, damage(store.read_bytes(name)))
    with Spool(tmp_path / "spool", retry_s=2.0) as spool:
        with pytest.raises(BadShardError, match=f"^{bucket}/{name}: {message}"):
            spool.fetch(shards, 1)
        assert [number for number, _ in stream_shards(shards, range(3), spool, skip_bad=True)] == [0, 2]
    assert f"asr: {bucket}/{name}: " in capsys.readouterr().err
    assert not list((tmp_path / "spool").glob(f"{name[:16]}*"))


def test_a_copy_that_has_been_altered_in_the_spool_is_fetched_again(
    manifest: Path,  # noqa: F811
    proxy: Proxy,
    bucket: str,
    tmp_path: Path,
) -> None:
    shards = write_shards(manifest, bucket, OPTIONS)
    with Spool(tmp_path / "spool") as spool:
        with spool.fetch(shards, 1) as local:
            good = local.data.read_bytes()
            local.data.write_bytes(good[:-1] + b"x")
        with spool.fetch(shards, 1) as local:
            assert local.data.read_bytes() == good
    assert proxy.count("GET", "recording.000001") == 2


# --- the spool --------------------------------------------------------------------------------------------------------


def test_reading_ahead(manifest: Path, proxy: Proxy, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    """While a shard is in use, the next ones come, though every answer takes 50 ms."""
    shards = write_shards(manifest, bucket, OPTIONS)
    proxy.reset()
    proxy.delay_s = 0.05
    with Spool(tmp_path / "spool") as spool:
        for number, _ in stream_shards(shards, range(5), spool, ahead=2):
            wanted = {f"recording.{other:06}" for other in range(min(number + 3, 5))}
            for _ in range(600):
                if all(list((tmp_path / "spool").glob(f"{name}.*.tar")) for name in wanted):
                    break
                time.sleep(0.05)
            else:
                raise AssertionError(f"shard {number}: {wanted} have not come")
    assert Counter(path.rpartition("/")[2] for method, path in proxy.seen if method == "GET" and "000" in path) == {
        name: 1 for number in range(5) for name in (f"cuts.{number:06}.jsonl.gz", f"recording.{number:06}.tar")
    }


def test_a_spool_of_bounded_size(manifest: Path, proxy: Proxy, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    shards, folder = write_shards(manifest, bucket, OPTIONS), tmp_path / "spool"
    sizes = [sum(file.size_bytes for file in shard.files) for shard in shards]
    limit = max(sizes[0] + sizes[1], sizes[0] + sizes[2]) + 10
    folder.mkdir()
    (folder / "thesis.tex").write_bytes(bytes(limit))  # neither counts nor goes
    proxy.reset()

    def present() -> set[int]:
        return {int(path.name.split(".")[1]) for path in folder.glob("recording.*.tar")}

    with Spool(folder, limit, retry_s=0.3) as spool:
        kept = spool.fetch(shards, 0)
        spool.fetch(shards, 1).close()
        assert present() == {0, 1}
        spool.fetch(shards, 2).close()
        assert present() == {0, 2}  # the first is older, but in use
        other = spool.fetch(shards, 2)
        with pytest.raises(
            NoRoomError, match=rf"spool: [\d,]+ of {limit:,} bytes in use, expected room for the [\d,]+ of"
        ):
            spool.fetch(shards, 3)
        spool.read_ahead(shards, [3, 4])  # no room for these: they come when they are needed
        assert [one.id for one in read_utterances(kept)] == ["a-0", "a-1"]
        kept.close()
        other.close()
        spool.drop_ahead()
        spool.fetch(shards, 4).close()
        spool.fetch(shards, 2).close()
    assert sum(path.stat().st_size for path in folder.iterdir()) - (folder / "thesis.tex").stat().st_size <= limit
    assert proxy.count("GET", "recording.000000") == 1
    tiny = Spool(folder, 100)
    with pytest.raises(NoRoomError, match=r"of 100 bytes in use, expected room for"):
        tiny.fetch(shards, 0)


def test_what_is_read_ahead_and_dropped_leaves_its_place(manifest: Path, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    shards = write_shards(manifest, bucket, OPTIONS)
    with Spool(tmp_path / "spool", 10**6, retry_s=5.0) as spool:
        spool.read_ahead(shards, range(5))
        spool.fetch(shards, 0).close()
        spool.drop_ahead()
    sizes = [sum(file.size_bytes for file in shard.files) for shard in shards]
    for _ in range(200):  # until threads that were at work have ended
        if not list((tmp_path / "spool").glob("*.partial")):
            break
        time.sleep(0.05)
    with Spool(tmp_path / "spool", max(sizes) + 1, retry_s=5.0) as spool:
        for number in range(5):
            spool.fetch(shards, number).close()


@pytest.fixture
def in_memory(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:  # noqa: F811
    """Five shards in an object store without a server."""
    monkeypatch.setattr(store_lock, "SETTLE_S", 0.0)
    return write_shards(manifest, f"memory:/{tmp_path}", OPTIONS)


def room_for(shards: Shards, numbers: Sequence[int]) -> int:
    """Bytes of these shards, and a few more, since they differ."""
    return sum(file.size_bytes for number in numbers for file in shards[number].files) + 1000


def fetch_one_by_one(shards: Shards, spool: Spool) -> None:
    for number in range(len(shards)):
        spool.fetch(shards, number).close()


@pytest.mark.parametrize("under_way", [False, True])
def test_the_shard_that_is_needed_has_precedence(
    in_memory: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, under_way: bool
) -> None:
    """Shards read ahead that have come first, or are coming for longer than there is patience, leave their room."""
    plain, folder, failed = ObjectStore.read_blocks, tmp_path / "spool", threading.Event()

    def until(condition: Callable[[], object]) -> None:
        for _ in range(1200):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError

    def read_blocks(store: ObjectStore, name: str, size_bytes: int) -> Iterator[bytes]:
        if name.startswith("cuts.000000"):
            others = "recording.00000[12].*" + (".partial" if under_way else ".tar")
            until(lambda: sum(path.stat().st_size > 0 for path in folder.glob(others)) == 2)
        if under_way and name.startswith("recording.") and not failed.is_set():
            until(failed.is_set)
            time.sleep(1)
        yield from plain(store, name, size_bytes)

    class FailedError(NoRoomError):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            failed.set()

    monkeypatch.setattr(ObjectStore, "read_blocks", read_blocks)
    monkeypatch.setattr(spool_module, "NoRoomError", FailedError)
    with Spool(folder, room_for(in_memory, [1, 2]) + in_memory[0].files[0].size_bytes, retry_s=0.3) as spool:
        assert [number for number, _ in stream_shards(in_memory, range(5), spool)] == list(range(5))
    assert failed.is_set()


def test_a_file_system_that_locks_for_writing_what_is_open_for_writing(
    in_memory: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does."""
    plain = fcntl.flock

    def flock(file: IO[bytes], operation: int) -> None:
        if operation & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        plain(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Spool(tmp_path / "spool", room_for(in_memory, [1]), retry_s=1.0) as spool:
        fetch_one_by_one(in_memory, spool)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (fcntl.LOCK_EX | fcntl.LOCK_NB, r"spool: [\d,]+ of [\d,]+ bytes in use, expected room for the [\d,]+ of"),
        (fcntl.LOCK_EX, r"spool/cuts.*.partial: cannot be locked \(No locks available\), expected a file system with"),
        (fcntl.LOCK_SH, r"spool/cuts.*.gz: cannot be locked \(No locks available\), expected a file system with locks"),
    ],
)
def test_a_file_system_without_locks(
    in_memory: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, message: str
) -> None:
    plain = fcntl.flock

    def flock(file: IO[bytes], operation: int) -> None:
        if operation == refused:
            raise OSError(errno.ENOLCK, "No locks available")
        plain(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        Spool(tmp_path / "spool", room_for(in_memory, [1]), retry_s=0.0) as spool,
        pytest.raises(InputError, match=message),
    ):
        fetch_one_by_one(in_memory, spool)


READER = """
import sys
from pathlib import Path
from asr.corpus.shards import open_shards
from asr.corpus.spool import Spool, stream_shards
shards = open_shards(sys.argv[1])
with Spool(Path(sys.argv[2])) as spool:
    for number, utterances in stream_shards(shards, range(len(shards)), spool):
        print(number, *[one.id for one in utterances], flush=True)
"""


@pytest.mark.slow
def test_processes_share_a_spool(manifest: Path, proxy: Proxy, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    write_shards(manifest, bucket, OPTIONS)
    proxy.reset()
    proxy.delay_s = 0.05
    command = [sys.executable, "-c", READER, bucket, str(tmp_path / "spool")]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [reader.communicate()[0] for reader in readers]
    assert len(set(outputs)) == 1
    assert len(outputs[0].splitlines()) == 5
    for number in range(5):
        assert proxy.count("GET", f"recording.{number:06}") == 1


def test_a_download_that_was_killed_is_not_used(manifest: Path, proxy: Proxy, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    shards, folder = write_shards(manifest, bucket, OPTIONS), tmp_path / "spool"
    proxy.delay_s = 30.0
    with subprocess.Popen([sys.executable, "-c", READER, bucket, str(folder)], env=os.environ | {"X": "1"}) as reader:
        proxy.delay_s = 0.0
        proxy.down_for = lambda method, path: "recording.000000" in path and proxy.hang()
        for _ in range(600):
            if list(folder.glob("recording.000000.*.partial")):
                break
            time.sleep(0.05)
        reader.send_signal(signal.SIGKILL)
    assert list(folder.glob("recording.000000.*.partial"))
    proxy.reset()
    with Spool(folder) as spool:
        assert [number for number, _ in stream_shards(shards, range(5), spool)] == list(range(5))
    assert not list(folder.glob("*.partial"))


def test_a_full_disk_under_the_spool(manifest: Path, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    shards = write_shards(manifest, bucket, OPTIONS)
    with Spool(tmp_path / "spool") as spool:
        with (
            largest_file(15_000),
            pytest.raises(InputError, match=r"File too large, expected a disk with room") as error,
        ):
            spool.fetch(shards, 0)
        assert not isinstance(error.value, BadShardError)
        assert not list((tmp_path / "spool").glob("recording*"))
        spool.fetch(shards, 0).close()


# --- one writer -------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused(manifest: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    store, who = store_at(bucket), f"process {os.getpid()} on {socket.gethostname()}"
    with open_store_lock(store):
        with (
            pytest.raises(InputError, match=f"{bucket}: in use by {who}, expected one writer at a time"),
            open_store_lock(store),
        ):
            pass
        assert LOCK in store.sizes()
    assert LOCK not in store.sizes()
    write_shards(manifest, bucket, OPTIONS)


def test_a_lock_that_nobody_renews_is_taken_over(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_at(bucket)
    monkeypatch.setattr(store_lock, "STALE_S", 0.5)
    store.write_bytes(LOCK, json.dumps({"id": "x", "host": "node7", "process": 99, "turn": 4}).encode())
    with open_store_lock(store) as lock:
        assert lock is not None
        lock.check()
    assert capsys.readouterr().err == f"asr: {bucket}/{LOCK}: left by process 99 on node7, taken over\n"
    assert LOCK not in store.sizes()


def test_a_writer_that_has_lost_its_lock_stops(bucket: str) -> None:
    store = store_at(bucket)

    def check(lock: StoreLock) -> None:
        for _ in range(200):
            lock.check()
            time.sleep(0.05)

    with open_store_lock(store) as lock:
        assert lock is not None
        store.write_bytes(LOCK, json.dumps({"id": "x", "host": "node7", "process": 99, "turn": 0}).encode())
        with pytest.raises(
            InputError, match=f"{LOCK}: taken over by process 99 on node7, expected one writer; this one"
        ):
            check(lock)
    assert json.loads(store.read_bytes(LOCK))["id"] == "x"  # the other's lock stays


def test_of_two_that_create_the_lock_at_once_one_wins(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a store that does not know 'only if it is new': both write, the first reads the second's."""
    store, create = store_at(bucket), ObjectStore.create

    def create_twice(self: ObjectStore, name: str, content: bytes) -> bool:
        assert create(self, name, content)
        self.write_bytes(name, json.dumps({"id": "x", "host": "node7", "process": 99, "turn": 0}).encode())
        return True

    monkeypatch.setattr(ObjectStore, "create", create_twice)
    with (
        pytest.raises(InputError, match="in use by process 99 on node7"),
        open_store_lock(store),
    ):
        pass
