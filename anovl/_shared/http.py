"""One file over HTTP: with a progress bar, resumed after a break, proven before it counts."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from anovl._shared.files import hash_file, is_web_page

TIMEOUT = 20  # seconds without a byte


def fetch(url: str, target: Path, *, prove: Callable[[str], None]) -> str:
    """Download a file and return its SHA-256; `target` appears only when complete and proven.

    `prove` is given the SHA-256 and raises ValueError when the file is not the one that was meant;
    then nothing is kept. Bytes that came before a break are kept in `target`.part: called again,
    the download goes on behind them, if the server still has the same file and can send parts.

    Raises ConnectionError when the server refuses, cannot be reached, stops before the end, or
    sends a web page.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        _download(url, part)
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"{url} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, HTTPException, ConnectionError) as error:
        raise ConnectionError(f"{url}: {getattr(error, 'reason', error)}") from error
    digest = hash_file(part)
    _version_of(part).unlink(missing_ok=True)
    if is_web_page(part):
        part.unlink()
        raise ConnectionError(f"{url} answers with a web page, not with {target.name}")
    try:
        prove(digest)
    except ValueError:
        part.unlink()
        raise
    part.replace(target)
    return digest


def _download(url: str, part: Path) -> None:
    """Bring `part` to its full length, behind what it holds already where that is safe."""
    from tqdm import tqdm

    response = _open(url, part)
    if response is None:
        return
    with response:
        start = part.stat().st_size if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        _version_of(part).write_text(_version(response), encoding="utf-8")
        name = part.name.removesuffix(".part")
        if start:
            of = "" if total is None else f" of {total:,}"
            print(f"{name}: {start:,}{of} bytes are in {part}; the download goes on behind them")
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(
                total=total, initial=start, desc=name, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            while block := response.read(1 << 18):
                file.write(block)
                bar.update(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(
            f"the connection broke after {size:,} of {total:,} bytes; they are kept in {part}, run "
            "the same command again to go on from there"
        )


def _open(url: str, part: Path) -> Any:
    """Ask for what `part` lacks: an answer with status 206 is the rest, None says it is whole.

    If-Range names the version that the first bytes came from: of another one, all is sent.
    """
    size = part.stat().st_size if part.exists() else 0
    version = _version_of(part).read_text(encoding="utf-8") if _version_of(part).exists() else ""
    if not (size and version):
        return urllib.request.urlopen(urllib.request.Request(url), timeout=TIMEOUT)
    ranged = urllib.request.Request(url, headers={"Range": f"bytes={size}-", "If-Range": version})
    try:
        response = urllib.request.urlopen(ranged, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{size}":
            return None
    else:
        span = response.headers.get("Content-Range", "")
        if response.status != 206 or span.startswith(f"bytes {size}-"):
            return response
        response.close()
    part.unlink()  # the server's parts do not fit these bytes: begin again
    return _open(url, part)


def _version(response: Any) -> str:
    """What names the content behind a link, for If-Range: a strong ETag, or the date; or ""."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _version_of(part: Path) -> Path:
    """The file beside `part` that remembers the version that it is a part of."""
    return part.with_name(f"{part.name}-version")
