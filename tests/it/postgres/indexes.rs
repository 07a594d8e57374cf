//! Indexes are made while others read and write.

use std::thread;

use fleetform::query::{self, PathRef};
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::{Change, IndexChanges, Registry, RegistryError, StorePlace as _};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::observing::loaded;
use crate::cluster::{connect, fresh_database};
use crate::servers::wait_until;
use crate::sql::generated::device;

fn paths(conditions: &[&str]) -> Vec<PathRef> {
    conditions.iter().flat_map(|text| query::searched_paths(&query::parse(text).unwrap())).collect()
}

fn place(url: &str) -> PostgresPlace {
    PostgresPlace::new(url, "acme").unwrap()
}

fn open(url: &str) -> Registry {
    Registry::new(place(url).open().unwrap())
}

fn index(registry: &mut Registry, wanted: &[PathRef]) -> Result<IndexChanges, RegistryError> {
    Ok(registry.write(Change::Index { wanted, changed: 0 })?.into_indexes())
}

struct Other {
    runtime: Runtime,
    client: Client,
}

impl Other {
    fn new(url: &str) -> Other {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(connect(url)).unwrap();
        Other { runtime, client }
    }

    fn run(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).unwrap_or_else(|e| panic!("{statements}: {e:?}"));
    }

    fn count(&self, text: &str) -> i64 {
        self.runtime.block_on(self.client.query_one(text, &[])).unwrap().get(0)
    }
}

const UNFINISHED: &str = "SELECT count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE starts_with(c.relname::text, 'query_') AND NOT i.indisvalid";

#[test]
fn others_write_while_an_index_is_made() {
    let url = fresh_database();
    drop(loaded(&place(&url), &[device("a"), device("b")]));
    let (one, two) = (Other::new(&url), Other::new(&url));
    one.run("BEGIN; UPDATE fleetform.device SET blocked = true WHERE device_id = 'a'");
    let theirs = url.clone();
    let making = thread::spawn(move || index(&mut open(&theirs), &paths(&["tags.line = '3'"])));
    wait_until("the index is under way", || two.count(UNFINISHED) == 1);
    two.run("SET lock_timeout = '5s'; UPDATE fleetform.device SET tags = '{\"line\": \"3\"}' WHERE device_id = 'b'");
    assert!(!making.is_finished(), "it waits for whoever wrote before");
    let second = index(&mut open(&url), &paths(&["tags.line = '3'"]));
    assert!(matches!(second, Err(RegistryError::Locked { .. })), "{second:?}");
    one.run("COMMIT");
    assert_eq!(making.join().unwrap().unwrap().make, ["tags.line"]);
    assert_eq!(two.count(UNFINISHED), 0);
    let read = "SELECT count(*) FROM fleetform.device
        WHERE (tags -> 'line') = '\"3\"'::text::jsonb AND octet_length(tags ->> 'line') <= 512";
    two.run("SET enable_seqscan = off");
    assert_eq!(two.count(read), 1);
}

#[test]
fn an_index_that_came_to_nothing_is_made_again() {
    let url = fresh_database();
    let mut registry = Registry::new(loaded(&place(&url), &[device("a")]));
    let wanted = paths(&["tags.line = '3'", "tags.[[it's]] = 1", "tags.a.b > 2"]);
    let made = index(&mut registry, &wanted).unwrap();
    assert_eq!(made.make, ["tags.line", "tags.[[it's]]", "tags.a.b"]);
    assert!(registry.devices().index_changes(&wanted).unwrap().is_empty());
    let other = Other::new(&url);
    // As a process leaves it that dies meanwhile.
    other.run(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid =
            (SELECT objoid FROM pg_description WHERE description = 'tags.[[it''s]]')::regclass",
    );
    let expect = IndexChanges { make: vec!["tags.[[it's]]".to_string()], ..IndexChanges::default() };
    assert_eq!(registry.devices().index_changes(&wanted).unwrap(), expect);
    assert_eq!(index(&mut registry, &wanted).unwrap(), expect);
    assert_eq!(other.count(UNFINISHED), 0);
    let dropped = index(&mut registry, &wanted[..1]).unwrap();
    assert_eq!((dropped.make.len(), dropped.drop.len()), (0, 2), "{dropped:?}");
    assert_eq!(index(&mut registry, &[]).unwrap().drop, ["tags.line"]);
    assert_eq!(other.count("SELECT count(*) FROM pg_class WHERE starts_with(relname::text, 'query_')"), 0);
}
