"""Download one file, whole or not at all, and check its hash before it counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from anovl._shared.files import hash_file, is_web_page

TIMEOUT = 20  # seconds without a byte


def fetch(url: str, target: Path, *, sha256: str = "") -> None:
    """Download a file with a progress bar; one that is already there is left as it is.

    `target` appears only when it is complete and `check_file` accepts it; otherwise nothing stays.
    `sha256` is its hash, or the first digits, or "" where none is known.

    Raises ConnectionError when the server cannot be reached, refuses, or stops before the end;
    ValueError for a web page or another hash.
    """
    import pooch
    from requests import RequestException

    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 18,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},  # an archive must not be unpacked on its way
    )

    def download_and_check(url: str, file: str, _: Any) -> None:
        download(url, file, None)
        check_file(file, sha256, f"{target.name} from {url}")

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url, None, fname=target.name, path=target.parent, downloader=download_and_check
        )
    except RequestException as error:
        raise ConnectionError(f"{url} cannot be downloaded ({error})") from error


def check_file(file: str | Path, sha256: str, name: str | Path) -> str:
    """Return the SHA-256 of a file that was downloaded; `name` is used in errors.

    Raises ValueError for a web page, and for a hash that does not begin with `sha256`.
    """
    if is_web_page(file):
        raise ValueError(f"{name} is a web page, not the file itself: open the link in a browser")
    digest = hash_file(file)
    if not digest.startswith(sha256):
        raise ValueError(
            f"{name} has the SHA-256 {digest}, which should begin with {sha256}: the file is "
            "damaged or another version, and must be downloaded again"
        )
    return digest
