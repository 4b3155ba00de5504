"""Download the photographs that the shipped weights were trained on, as listed in docs/training_photos.tsv.

    python -m bench.fetch_photos photos/

They come from repositories on GitHub, from Debian packages (``apt-get download``, so this needs Debian or Ubuntu) and
from npm packages (``npm pack``). Each is reduced as the table says. A photograph that cannot be downloaded is named,
and the command continues with the others; run it again to fetch what is missing.
"""

from __future__ import annotations

import csv
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import click
from PIL import Image

TABLE = Path(__file__).resolve().parents[1] / "docs" / "training_photos.tsv"
LONG_SIDE = 1600


def fetch(row: dict[str, str], work: Path) -> bytes:
    """The bytes of the image file at its source."""
    kind, _, package = row["source repository"].partition(" package ")
    path, version = row["path"], row["commit"]
    if not package:
        address = f"https://raw.githubusercontent.com/{kind}/{version}/{urllib.parse.quote(path)}"
        with urllib.request.urlopen(address) as answer:
            return bytes(answer.read())
    folder = work / package.replace("/", "_")
    if not folder.exists():
        folder.mkdir()
        if kind == "Debian":
            subprocess.run(["apt-get", "download", f"{package}={version}"], cwd=folder, check=True, capture_output=True)
            subprocess.run(["dpkg-deb", "-x", *folder.glob("*.deb"), folder], check=True)
        else:
            subprocess.run(["npm", "pack", f"{package}@{version}"], cwd=folder, check=True, capture_output=True)
            with tarfile.open(next(folder.glob("*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
    return (folder / path).read_bytes()


def reduced(data: bytes) -> Image.Image:
    """The image in RGB, with its long side reduced to at most 1600 pixels."""
    image = Image.open(BytesIO(data)).convert("RGB")
    factor = LONG_SIDE / max(image.size)
    if factor >= 1:
        return image
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def rows(sources: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of the table: those of the named sources, or all."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            kind = row["source repository"].partition(" package ")
            if not sources or (kind[0] if kind[2] else "GitHub") in sources:
                yield row


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "sources",
    type=click.Choice(["GitHub", "Debian", "npm"]),
    multiple=True,
    help="Fetch from this source only; may be repeated.",
)
def main(folder: Path, sources: tuple[str, ...]) -> None:
    """Write the training photographs to FOLDER. Files that exist already are not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = 0
    with tempfile.TemporaryDirectory() as work:
        for row in rows(sources):
            target = folder / row["file"]
            if target.exists():
                continue
            try:
                reduced(fetch(row, Path(work))).save(target, quality=95, subsampling=0)
            except (OSError, subprocess.CalledProcessError, urllib.error.URLError) as error:
                missing += 1
                click.echo(f"{row['file']}: {row['source repository']}: {error}", err=True)
    if missing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
