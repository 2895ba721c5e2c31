"""The jars of Apache Kafka, fetched from Maven Central once for each user.

A folder of the cache is either complete or absent, whoever is interrupted or races.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack.files import build_folder, file_errors_told, locked
from stack.servers import NOT_INSTALLED, Report, StackError

KAFKA_VERSION = "4.4.0"

COORDINATES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.3"),
)

DOWNLOADS_TOTAL = 8
"""At once; most jars are small, so the time goes into round trips."""


def kafka_class_path(report: Report) -> list[Path]:
    """Kafka's jars in class path order; resolved and downloaded if this is the first time.

    Raises:
        StackError: jgo is not installed, or Maven Central or the disk refused.
    """
    folder = user_cache() / f"kafka-{KAFKA_VERSION}"
    if jars := _complete(folder):
        return jars
    with locked(folder.with_name(f"{folder.name}.lock")), file_errors_told(folder):
        if not _complete(folder):
            report(f"fetching Kafka {KAFKA_VERSION} jars (first time only, about 20 s)")
            build_folder(folder, _fetch)
    return _complete(folder)


def user_cache() -> Path:
    """Where this user's caches of ours live."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gulf-funnel"


def _complete(folder: Path) -> list[Path]:
    """The jars that the listing names, or nothing if any of them is missing."""
    listing = folder / "classpath"
    if not listing.exists():
        return []
    jars = [folder / name for name in listing.read_text().splitlines()]
    return jars if all(jar.exists() for jar in jars) else []


def _fetch(folder: Path) -> None:
    try:
        from jgo.maven import MavenContext
        from jgo.parse import Coordinate
    except ImportError as error:
        raise StackError(NOT_INSTALLED) from error

    # A repository of our own: jgo trusts whatever a killed download left in ~/.m2.
    repository = folder / "repository"
    maven = MavenContext(repo_cache=repository)
    try:
        # raw: else jgo lets log4j's own dependencyManagement choose kafka-clients 3.9.
        inputs, transitive = maven.resolver.resolve(
            [
                maven.create_dependency(
                    Coordinate(
                        groupId=group, artifactId=name, version=version, scope="compile", raw=True
                    )
                )
                for group, name, version in COORDINATES
            ]
        )
        wanted = [*inputs, *(each for each in transitive if each.scope in ("compile", "runtime"))]
        with ThreadPoolExecutor(DOWNLOADS_TOTAL) as pool:
            jars = list(pool.map(lambda each: each.artifact.resolve(), wanted))
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk; errors of the network carry no errno
        raise StackError(f"Kafka's jars cannot be had from Maven Central: {error}") from error
    for jar in jars:
        shutil.move(jar, folder / jar.name)
    shutil.rmtree(repository)
    (folder / "classpath").write_text("\n".join(jar.name for jar in jars))
