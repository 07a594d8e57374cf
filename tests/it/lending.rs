//! A registry that stays open between two uses answers as one that is opened each time.

use std::fs;
use std::path::{Path, PathBuf};

use fleetform::registry::sqlite::SqlitePlace;
use fleetform::registry::{Change, Registry, RegistryError, StorePlace};

/// The text of an entry that only tells one content from another.
const ABOUT: &str = "about";

struct Site {
    _folder: tempfile::TempDir,
    path: PathBuf,
    place: SqlitePlace,
}

impl Site {
    /// A registry that is kept open, with one entry.
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let place = SqlitePlace::new(path.clone(), "acme");
        place.keep_open();
        let site = Site { _folder: folder, path, place };
        write(&site.place, "first");
        site
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Makes another registry of the fleet, at rest.
    fn other(&self, entry: &str) -> PathBuf {
        let path = self.beside("other.db");
        write(&SqlitePlace::new(path.clone(), "acme"), entry);
        path
    }

    fn remove_logs(&self) {
        for ending in ["-wal", "-shm"] {
            let path = self.beside(&format!("fleet.db{ending}"));
            assert!(path.exists(), "it is open");
            fs::remove_file(path).unwrap();
        }
    }
}

fn write(place: &SqlitePlace, entry: &str) {
    let mut registry = Registry::new(place.open().unwrap());
    registry.write(Change::Report { about: ABOUT, entry }).unwrap();
}

fn entries(store: &Registry) -> Vec<String> {
    store.branch_copy().outbox().unwrap().into_iter().map(|entry| entry.text).collect()
}

fn read(place: &SqlitePlace) -> Vec<String> {
    entries(&Registry::new(place.open_for_reading().unwrap()))
}

fn read_to_write(place: &SqlitePlace) -> Vec<String> {
    entries(&Registry::new(place.open().unwrap()))
}

#[test]
fn what_another_process_writes_is_read() {
    let site = Site::new();
    assert_eq!(read(&site.place), ["first"]);
    write(&SqlitePlace::new(site.path.clone(), "acme"), "second");
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["second".into()], vec!["second".into()]));
    // Two at the same time, and both are there again afterwards.
    let two = [site.place.open_for_reading().unwrap(), site.place.open_for_reading().unwrap()];
    write(&site.place, "third");
    for store in two {
        assert_eq!(entries(&Registry::new(store)), ["third"]);
    }
}

#[test]
fn a_file_in_the_place_of_the_one_that_is_open_is_the_registry() {
    let site = Site::new();
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["first".into()], vec!["first".into()]));
    let other = site.other("second");
    site.remove_logs();
    fs::rename(other, &site.path).unwrap();
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["second".into()], vec!["second".into()]));
    // What is written now is in the new file.
    write(&site.place, "third");
    site.place.close_kept();
    assert_eq!(read(&SqlitePlace::new(site.path.clone(), "acme")), ["third"]);
}

#[test]
fn a_backup_that_is_put_back_into_the_same_file_is_the_registry() {
    let site = Site::new();
    site.place.close_kept();
    let backup = site.beside("backup.db");
    fs::copy(&site.path, &backup).unwrap();
    write(&site.place, "second");
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["second".into()], vec!["second".into()]));
    // As `docs/recovery.md` says it.
    site.remove_logs();
    fs::copy(&backup, &site.path).unwrap();
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["first".into()], vec!["first".into()]));
}

#[test]
fn a_registry_that_is_deleted_is_empty_and_made_anew() {
    let site = Site::new();
    assert_eq!(read(&site.place), ["first"]);
    site.remove_logs();
    fs::remove_file(&site.path).unwrap();
    assert!(read(&site.place).is_empty() && !site.path.exists(), "nothing is made by a look");
    write(&site.place, "second");
    assert_eq!((read(&site.place), site.path.exists()), (vec!["second".into()], true));
}

/// A write-ahead log that is gone takes with it what is written to it from then on.
#[test]
fn a_registry_without_its_log_is_opened_anew() {
    let site = Site::new();
    assert_eq!((read(&site.place), read_to_write(&site.place)), (vec!["first".into()], vec!["first".into()]));
    site.remove_logs();
    write(&site.place, "second");
    site.place.close_kept();
    assert_eq!(read(&SqlitePlace::new(site.path.clone(), "acme")), ["second"]);
}

#[test]
fn a_registry_of_a_newer_version_is_refused_also_while_it_is_open() {
    let site = Site::new();
    assert_eq!(read(&site.place), ["first"]);
    let connection = rusqlite::Connection::open(&site.path).unwrap();
    connection.execute_batch("PRAGMA user_version = 999").unwrap();
    assert!(matches!(site.place.open_for_reading().err(), Some(RegistryError::Newer { version: 999, .. })));
    assert!(matches!(site.place.open().err(), Some(RegistryError::Newer { version: 999, .. })));
    drop(connection);
}

/// Who rests has its file alone, so that it can be copied and put back.
#[test]
fn a_registry_that_is_kept_open_no_longer_has_nothing_beside_it() {
    let site = Site::new();
    drop((read(&site.place), read_to_write(&site.place)));
    let is_open = |path: &Path| path.with_file_name("fleet.db-wal").exists();
    assert!(is_open(&site.path));
    site.place.close_kept();
    assert!(!is_open(&site.path));
    assert_eq!(read(&site.place), ["first"]);
    site.place.close_kept();
    assert!(!is_open(&site.path));
}

/// The locks of an open registry do not end when somebody asks for the right to work: another process that closes the
/// file last would remove its log.
#[test]
fn the_right_to_work_is_taken_beside_an_open_registry() {
    let site = Site::new();
    write(&site.place, "second");
    let own = site.place.open_for_reading().unwrap();
    drop(site.place.exclude("one").unwrap());
    // It waits in vain for the file to be nobody else's.
    let mut command = std::process::Command::new("sqlite3");
    let Ok(closed) = command.arg(&site.path).arg("SELECT count(*) FROM meta").output() else { return };
    assert!(closed.status.success(), "{closed:?}");
    assert!(site.beside("fleet.db-wal").exists(), "it is open here");
    drop(own);
    assert_eq!(read(&site.place), ["second"]);
}
