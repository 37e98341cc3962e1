"""The broker's jars and the registry's archive. In: jgo.lock.toml and one pin. Out: files whose sha256 was checked, in a cache.

jgo is the Maven client; its lock names every jar, so nothing is resolved here (resolving takes 20 s, checking 45 MB takes 0.05 s).
"""

import hashlib
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from jgo.env import LockFile
from jgo.maven import MavenContext, PythonResolver

from infra.embedded.errors import PartError

Say = Callable[[str], None]

LOCK = Path(__file__).with_name("jgo.lock.toml")


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of a Maven repository and the sha256 it must have."""

    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name Maven gives it: artifact-version[-classifier].packaging."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.{self.packaging}"


# Not a dependency of Maven's kind (a tar.gz beside the jar), so jgo's lock cannot hold it.
REGISTRY = Pin(
    group="io.apicurio",
    artifact="apicurio-registry-app",
    version="3.3.3",
    classifier="all",
    packaging="tar.gz",
    sha256="8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
)


def cache_directory() -> Path:
    """Where downloads are kept between runs: kpi-flow in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kpi-flow"


def broker_classpath(say: Say) -> str:
    """The jars of jgo.lock.toml, joined to a class path; downloads what is missing or damaged."""
    pins = locked(LOCK)
    directory = fetch(pins, cache_directory() / "jars", lambda: say("downloading the broker's jars (44 MB) ..."), say)
    return os.pathsep.join(str(directory / pin.filename) for pin in pins)


def registry_directory(say: Say) -> Path:
    """The unpacked registry, which holds quarkus-run.jar; downloads and unpacks it the first time."""
    cache = cache_directory()
    unpacked = cache / f"registry-{REGISTRY.version}-{REGISTRY.sha256[:12]}"
    if not unpacked.exists():
        archive = fetch([REGISTRY], cache, lambda: say("downloading the registry (158 MB) ..."), say) / REGISTRY.filename
        with TemporaryDirectory(dir=cache) as staging:
            with tarfile.open(archive) as tar:
                tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python 3.11.2 does not have it yet
                tar.extractall(staging)  # noqa: S202 - its sha256 was checked
            move_into_place(Path(staging), unpacked)
        archive.unlink(missing_ok=True)
    return unpacked


def move_into_place(staging: Path, place: Path) -> None:
    """Make the files of `staging` appear at `place` all at once; whoever comes second finds it done."""
    try:
        staging.rename(place)
    except OSError:
        if not place.exists():
            raise
    else:
        staging.mkdir()  # for whoever removes it


def locked(lock: Path) -> list[Pin]:
    """Every jar of a jgo.lock.toml. A jar without a sha256 is refused."""
    pins = []
    for jar in LockFile.load(lock).dependencies:
        if not jar.sha256:
            raise PartError(f"{lock.name}: {jar.artifactId}: got no sha256, want one (run `make lock`)")
        pins.append(Pin(jar.groupId, jar.artifactId, jar.version, jar.classifier or "", jar.packaging, jar.sha256))
    return pins


def fetch(pins: Sequence[Pin], directory: Path, announce: Callable[[], None], say: Say) -> Path:
    """`directory` with every pinned file in it; `announce` is called when something must be downloaded."""
    missing = [pin for pin in pins if not is_whole(directory / pin.filename, pin.sha256)]
    if missing:
        announce()
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory) as staging, ThreadPoolExecutor(max_workers=8) as pool:
            context = MavenContext(PythonResolver(progress_callback=Progress(say).follow), repo_cache=Path(staging), timeout=30)
            for pin, path in zip(missing, pool.map(lambda pin: download(context, pin), missing), strict=True):
                path.replace(directory / pin.filename)
    return directory


def download(context: MavenContext, pin: Pin) -> Path:
    """The downloaded file, whose sha256 is the pinned one."""
    try:
        component = context.project(pin.group, pin.artifact).at_version(pin.version)
        path: Path = component.artifact(classifier=pin.classifier, packaging=pin.packaging).resolve()
    except requests.ConnectionError as error:
        raise PartError(
            f"cannot download {pin.filename}: the Maven repository cannot be reached; the first start needs the network"
        ) from error
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise PartError(f"cannot download {pin.filename}: {error}") from error
    if not is_whole(path, pin.sha256):
        raise PartError(f"{pin.filename}: the download has another sha256 than the pinned {pin.sha256}; it was not used")
    return path


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there with just these bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


class Progress:
    """Counts the bytes of all downloads and says a line every 20 MB."""

    step = 20_000_000

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._bytes = 0

    @contextmanager
    def follow(self, _filename: str, _total: int) -> Iterator[Callable[[int], None]]:
        """What jgo calls for each file; yields what it calls for each chunk."""
        yield self._add

    def _add(self, count: int) -> None:
        with self._lock:
            before, self._bytes = self._bytes, self._bytes + count
            if self._bytes // self.step > before // self.step:
                self._say(f"  {self._bytes // 1_000_000} MB")
