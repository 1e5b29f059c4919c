"""Catalog and data directory know each other: a wrong pair is refused, and left as it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.server.adapters.sql import open_catalog
from assay.server.core.errors import Reason
from assay.server.core.pools.pool import NO_KEY
from tests.core.kit import POOL, House, counts, fill, make_pool, refused


def settled(house: House) -> set[str]:
    """A house with a catalog and files, closed; returns the files."""
    core = house.open()
    make_pool(core)
    fill(core, 6, step=2)
    house.close()
    return house.files()


def moved_to(house: House, root: Path) -> House:
    """The same catalog with another data directory."""
    return House(root, clock=house.clock, catalog_url=house.url)


def copy_catalog(source: House, root: Path) -> House:
    """A house whose catalog is a copy of another's, as a restore makes one."""
    root.mkdir()
    shutil.copy(source.root / "catalog.db", root / "catalog.db")
    return House(root, clock=source.clock)


def test_a_new_catalog_takes_an_empty_directory_for_good(house: House, tmp_path: Path) -> None:
    files = settled(house)
    other = moved_to(house, tmp_path / "other")
    error = refused(Reason.STORAGE_FAILED, other.open)
    assert "belongs to the data directory" in error.message
    assert "--adopt" in error.message
    assert other.files() == set()
    assert not (other.root / "catalog-id").exists()
    assert counts(house.open()) == {"UNLABELED": 6}
    assert house.files() == files


def test_the_right_catalog_with_the_directory_of_another_is_refused(house: House, tmp_path: Path) -> None:
    settled(house)
    other = House(tmp_path / "other")
    files = settled(other)
    error = refused(Reason.STORAGE_FAILED, moved_to(house, other.root).open)
    assert "belongs to another catalog" in error.message
    assert other.files() == files


def test_a_copy_of_the_directory_is_not_the_directory(house: House, tmp_path: Path) -> None:
    """Two directories that both name the catalog: one of them is not its own."""
    settled(house)
    copy = moved_to(house, tmp_path / "copy")
    copy.root.mkdir()
    shutil.copytree(house.root / "pools", copy.root / "pools")
    catalog_id = (house.root / "catalog-id").read_text().split()[0]
    (copy.root / "catalog-id").write_text(f"{catalog_id}\nanother\n")
    error = refused(Reason.STORAGE_FAILED, copy.open)
    assert "belongs to another data directory" in error.message
    assert len(copy.files()) == len(house.files())


def test_a_new_catalog_takes_no_directory_with_files(house: House, tmp_path: Path) -> None:
    files = settled(house)
    (house.root / "catalog-id").unlink()
    new = House(house.root, catalog_url=f"sqlite:///{tmp_path}/new.db")
    refused(Reason.STORAGE_FAILED, new.open)
    assert new.files() == files
    refused(Reason.STORAGE_FAILED, lambda: new.open(adopt=True))
    assert new.files() == files


def test_a_catalog_with_pools_takes_no_empty_directory(house: House, tmp_path: Path) -> None:
    """Also one that was written before catalogs knew their directories."""
    settled(house)
    with open_at(house) as tx:
        tx.join_directory("")
    other = moved_to(house, tmp_path / "other")
    error = refused(Reason.STORAGE_FAILED, other.open)
    assert "is empty, and the catalog has pools" in error.message
    assert counts(house.open()) == {"UNLABELED": 6}


class open_at:
    """A transaction of a house's catalog, while the house is closed."""

    def __init__(self, house: House) -> None:
        self._catalog = open_catalog(house.url)
        self._transaction = self._catalog.transaction()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self._transaction.__enter__()

    def __exit__(self, *error: object) -> None:
        self._transaction.__exit__(*error)  # type: ignore[arg-type]
        self._catalog.close()


def test_a_start_that_ended_between_the_two_steps_is_taken_up(house: House, tmp_path: Path) -> None:
    settled(house)
    named = (house.root / "catalog-id").read_text()
    with open_at(house) as tx:
        tx.join_directory("")
    assert counts(house.open()) == {"UNLABELED": 6}
    assert (house.root / "catalog-id").read_text() == named
    house.close()
    refused(Reason.STORAGE_FAILED, moved_to(house, tmp_path / "other").open)


def test_a_directory_of_an_older_assay_gets_an_id(house: House, tmp_path: Path) -> None:
    settled(house)
    catalog_id = (house.root / "catalog-id").read_text().split()[0]
    (house.root / "catalog-id").write_text(f"{catalog_id}\n")
    with open_at(house) as tx:
        tx.join_directory("")
    assert counts(house.open()) == {"UNLABELED": 6}
    assert len((house.root / "catalog-id").read_text().split()) == 2
    house.close()
    refused(Reason.STORAGE_FAILED, moved_to(house, tmp_path / "other").open)


def test_a_backup_is_adopted_once(house: House, tmp_path: Path) -> None:
    """Catalog and files restored to a new place, without the file that ties them."""
    settled(house)
    restored = copy_catalog(house, tmp_path / "restored")
    shutil.copytree(house.root / "pools", restored.root / "pools")
    refused(Reason.STORAGE_FAILED, restored.open)
    assert counts(restored.open(adopt=True)) == {"UNLABELED": 6}
    assert counts(restored.open()) == {"UNLABELED": 6}


@pytest.mark.parametrize("what", ["nothing", "files of another"])
def test_a_directory_without_any_file_of_the_catalog_is_not_adopted(house: House, tmp_path: Path, what: str) -> None:
    settled(house)
    restored = copy_catalog(house, tmp_path / "restored")
    if what == "files of another":
        other = House(tmp_path / "other")
        settled(other)
        shutil.copytree(other.root / "pools", restored.root / "pools")
    files = restored.files()
    error = refused(Reason.STORAGE_FAILED, lambda: restored.open(adopt=True))
    assert "none of the 6 files" in error.message
    assert restored.files() == files


def test_a_backup_that_lacks_a_file_is_adopted_with_its_damage(house: House, tmp_path: Path) -> None:
    files = settled(house)
    restored = copy_catalog(house, tmp_path / "restored")
    shutil.copytree(house.root / "pools", restored.root / "pools")
    (restored.root / min(file for file in files if "/samples/" in file)).unlink()
    assert counts(restored.open(adopt=True)) == {"UNLABELED": 4, "DAMAGED": 2}


def test_to_adopt_what_is_ones_own_changes_nothing(house: House) -> None:
    settled(house)
    named = (house.root / "catalog-id").read_text()
    core = house.open(adopt=True)
    core.pools.delete(POOL, NO_KEY)
    assert (house.root / "catalog-id").read_text() == named
    assert core.pools.list("", 10) == []


def test_a_name_half_written_by_a_crash_stops_no_start(house: House) -> None:
    house.root.mkdir(exist_ok=True)
    (house.root / "catalog-id.tmp").write_text("")
    make_pool(house.open())


Names = Callable[[Path], Path]


def through_a_link(database: Path) -> Path:
    link = database.parent / "link.db"
    link.symlink_to(database)
    return link


def through_a_linked_folder(database: Path) -> Path:
    link = database.parent.parent / "folder"
    link.symlink_to(database.parent)
    return link / database.name


def through_a_detour(database: Path) -> Path:
    return database.parent / ".." / database.parent.name / database.name


@pytest.mark.parametrize("name", [through_a_link, through_a_linked_folder, through_a_detour])
def test_one_catalog_serves_one_server_however_it_is_named(house: House, tmp_path: Path, name: Names) -> None:
    make_pool(house.open())
    second = House(tmp_path / "second", catalog_url=f"sqlite:///{name(house.root / 'catalog.db')}")
    error = refused(Reason.DATA_DIRECTORY_LOCKED, second.open)
    assert "in use by process" in error.message
    house.close()
    refused(Reason.STORAGE_FAILED, second.open)  # free by now, but not its directory
