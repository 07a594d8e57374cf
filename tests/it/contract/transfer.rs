//! A whole registry as rows: out of one store, into another of its kind, and what contradicts itself in it.

use std::collections::BTreeMap;

use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::model::subscriptions::Subscriptions;
use fleetform::registry::{
    Cell, Change, ColumnKind, Contents, Flaw, FlawKind, Heard, HeardOf, KeptFile, Moved, NewMessage, Noted, Registry,
    RegistryError, TABLES, Table, WholeAnswer,
};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, after, devices, hub, hub_spec, now, outcome};

/// The rows of a registry by their table, in an order of their own.
type Rows = BTreeMap<&'static str, Vec<Vec<Cell>>>;

pub fn rows(registry: &Registry) -> Rows {
    let mut found: Rows = BTreeMap::new();
    let mut keep = |table: &'static Table, cells: Vec<Cell>| {
        assert_eq!(cells.len(), table.columns.len(), "{}", table.name);
        let cells = cells.into_iter().zip(table.columns).map(|(cell, (_, kind))| canonical(cell, *kind));
        found.entry(table.name).or_default().push(cells.collect());
        Ok(())
    };
    registry.unload(&mut keep).unwrap();
    found.values_mut().for_each(|rows| rows.sort_by_key(|row| format!("{row:?}")));
    found
}

/// JSON as every store says it.
fn canonical(cell: Cell, kind: ColumnKind) -> Cell {
    match (cell, kind) {
        (Cell::Text(text), ColumnKind::Json) => {
            Cell::Text(serde_json::from_str::<Value>(&text).expect("a section is JSON").to_string())
        }
        (cell, _) => cell,
    }
}

/// Awkward texts and numbers.
fn twin() -> Value {
    json!({
        "texts": ["", "it's", "a\u{0}b", "\u{1}\u{1}", "\u{1}\u{2}", "\u{0}\u{1}\u{0}", "\\u0000", "\\N", "\t\n\r\\"],
        "numbers": [i64::MAX, i64::MIN, u64::MAX, 1e300, -1e300, 5e-324, 0.1, 1.0, 9_007_199_254_740_993_i64],
        "floats": [9_007_199_254_740_992.0, 1.152921504606847e18, 1e22, 123_456_789_012_345_680_000.0],
        "key\u{1}\u{2}": {"": null, "\u{1f600}": [[], {}, [null]]},
    })
}

/// A registry with rows in every table, and the number of its open run.
fn in_use(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::new(fresh);
    let line =
        |n: usize| json!({"id": format!("d-{n:04}"), "tags": {"n": n}, "properties": {"desired": {"text": "a\u{0}b"}}});
    let imported = fleet.import(&hub_spec("all"), &hub(&(0..8).map(line).collect::<Vec<_>>()));
    assert_eq!(imported.errors, [], "the twins are legal");
    fleet.registry.write(Change::MakeSecretKey).unwrap();
    let done = fleet.run("done");
    fleet.registry.write(Change::Confirm { run_id: done }).unwrap();
    fleet.record(done, &(0..8).map(|ordinal| outcome(ordinal, Reason::Responded)).collect::<Vec<_>>());
    fleet
        .registry
        .write(Change::Late { run_id: done, ordinal: 3, code: 504, message: "a\u{0}\\N\tb", at: now() })
        .unwrap();
    let ended = Change::End { run_id: done, status: RunStatus::Completed, reason: None, at: now() };
    fleet.registry.commit(&[ended, Change::Close { run_id: done }]).unwrap();
    let run_id = fleet.run("dim");
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    let mut failed = outcome(3, Reason::Rejected);
    (failed.code, failed.message) = (Some(500), "no\u{0}\u{1}, \u{1}\u{1}".to_string());
    fleet.record(run_id, &[failed]);
    let ids = fleet.target();
    let mark = Change::Mark { run_id, devices: &[(0, 1), (1, 1), (5, 2)], ids: &ids, at: after(2) };
    fleet.registry.write(mark).unwrap();
    fleet.registry.write(Change::Unmark { run_id, ordinals: &[1] }).unwrap();
    let file = KeptFile { path: "imports/a".to_string(), content: vec![0, 255, 10, 92], blob_id: None };
    fleet.registry.keep_files::<RegistryError>(std::iter::once(Ok(file))).unwrap();
    fleet.registry.write(Change::Note { what: Noted::AppliedHead, commit: "c1" }).unwrap();
    fleet.registry.write(Change::Report { about: "direct", entry: "{\"text\": \"\\u0001\"}" }).unwrap();
    fleet.registry.write(Change::UsePlan { plan_id: "p", at: now() }).unwrap();
    let payload = vec![0, 255, 10, 92];
    let answers = [WholeAnswer { ordinal: 3, code: 500, payload: payload.clone(), at: now() }];
    fleet.registry.write(Change::KeepAnswers { run_id, answers: &answers }).unwrap();
    let message = NewMessage {
        message_id: Some("a\u{0}b".to_string()),
        properties: json!({"text": "a\u{0}b"}),
        body: payload,
        expires_at: after(60),
    };
    fleet.registry.write(Change::Enqueue { device_id: "d-0003", message: &message, at: now() }).unwrap();
    let subscriptions = Some(Subscriptions { messages: true, ..Subscriptions::default() });
    let session = Heard { device_id: "d-0003", at: now(), what: HeardOf::Session { subscriptions } };
    let presence = |is_online, seconds| Heard {
        device_id: "d-0003",
        at: after(seconds),
        what: HeardOf::Presence { is_online, is_news: true },
    };
    let from = [session, presence(true, 1), presence(false, 2), presence(true, 3)];
    fleet.registry.write(Change::Heard { from: &from }).unwrap();
    fleet.block(&["d-0004"]);
    fleet.delete(&["d-0002"]);
    fleet.registry.enter_epoch(4).unwrap();
    (fleet, run_id)
}

/// The same, with sections and names that no import and no job writes.
fn with_awkward_rows(fresh: Fresh) -> Fleet {
    let (fleet, _) = in_use(fresh);
    let mut other = Fleet::new(fresh);
    let loaded = other.registry.load(&mut |sink| {
        fleet.registry.unload(&mut |table, mut cells| {
            for (cell, (name, kind)) in cells.iter_mut().zip(table.columns) {
                match (*name, kind) {
                    ("tags" | "desired" | "reported" | "cloud", ColumnKind::Json) => {
                        *cell = Cell::Text(twin().to_string())
                    }
                    ("device_name", _) => *cell = Cell::Text("\u{0}\u{1}\u{1}, \\.\n\\N".to_string()),
                    _ => {}
                }
            }
            sink(table, cells)
        })
    });
    loaded.unwrap();
    other
}

pub fn awkward_texts_and_numbers_read_back(fresh: Fresh) {
    let fleet = with_awkward_rows(fresh);
    let mut other = Fleet::new(fresh);
    other.registry.copy_from(&fleet.registry).unwrap();
    let other = other.reopened();
    assert_eq!(rows(&other.registry), rows(&fleet.registry));
    let found = other.device("d-0000");
    assert_eq!((&found.tags, &found.reported), (&twin(), &twin()));
    let numbers = |value: &Value| value["numbers"].to_string() + &value["floats"].to_string();
    assert_eq!(numbers(&found.tags), numbers(&twin()), "integers stay integers, and floats floats");
    assert_eq!(found.device_name, "\u{0}\u{1}\u{1}, \\.\n\\N");
}

pub fn every_row_reads_back_in_another_store(fresh: Fresh) {
    let (fleet, run_id) = in_use(fresh);
    let expect = rows(&fleet.registry);
    for table in [
        "answer",
        "message",
        "device_session",
        "device_connection",
        "device",
        "device_key",
        "device_status",
        "import",
        "run",
        "run_target",
        "outcome",
        "sent",
        "late",
        "kept_file",
    ] {
        assert!(!expect[table].is_empty(), "{table}");
    }
    assert_eq!(expect["deleted_device"].len(), 1);
    let mut other = Fleet::new(fresh);
    other.registry.copy_from(&fleet.registry).unwrap();
    let other = other.reopened();
    assert_eq!(rows(&other.registry), expect);
    assert_eq!(devices(&other.registry), devices(&fleet.registry));
    let (copied, original) = (&other.registry, &fleet.registry);
    assert_eq!(copied.identity().unwrap(), original.identity().unwrap());
    assert_eq!(copied.journal().unclosed().unwrap(), original.journal().unclosed().unwrap());
    assert_eq!(copied.journal().sent_marks(run_id).unwrap(), original.journal().sent_marks(run_id).unwrap());
    assert_eq!(copied.journal().claims_version().unwrap(), original.journal().claims_version().unwrap());
    assert_eq!(copied.branch_copy().outbox().unwrap(), original.branch_copy().outbox().unwrap());
    let messages = |registry: &Registry| registry.devices().messages("d-0003", now()).unwrap();
    assert_eq!(messages(copied), messages(original));
    assert_eq!(copied.secret_key().unwrap(), original.secret_key().unwrap());
    assert_eq!(copied.noted_epoch().unwrap(), 4);
    assert_eq!(copied.flaws().unwrap(), []);
}

pub fn work_goes_on_after_rows_were_taken(fresh: Fresh) {
    let (fleet, run_id) = in_use(fresh);
    let mut other = Fleet::new(fresh);
    other.registry.copy_from(&fleet.registry).unwrap();
    let mut other = other.reopened();
    let next = other.run("next");
    assert!(next > run_id, "a run gets a number that none has");
    other.record(run_id, &[outcome(0, Reason::Responded)]);
    assert_eq!(other.outcomes(run_id), [(0, Reason::Responded), (3, Reason::Rejected)]);
    other.delete(&["d-0001"]);
    assert_eq!(other.ids().len(), 6);
    assert_ne!(other.registry.journal().claims_version().unwrap(), fleet.registry.journal().claims_version().unwrap());
}

pub fn a_registry_that_has_something_takes_no_rows(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    for mut other in [Fleet::with_devices(fresh, 1), {
        let mut other = Fleet::new(fresh);
        let file = KeptFile { path: "imports/a".to_string(), content: Vec::new(), blob_id: None };
        other.registry.keep_files::<RegistryError>(std::iter::once(Ok(file))).unwrap();
        other
    }] {
        let before = rows(&other.registry);
        match other.registry.copy_from(&fleet.registry) {
            Err(RegistryError::Occupied { location }) => assert_eq!(location, other.place.location()),
            taken => panic!("{taken:?}"),
        }
        assert_eq!(rows(&other.registry), before);
    }
}

pub fn an_error_of_the_source_leaves_nothing(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    let mut other = Fleet::new(fresh);
    let before = rows(&other.registry);
    let all: usize = rows(&fleet.registry).values().map(Vec::len).sum();
    for most in [0, 1, 9, all - 1, all] {
        let mut left = most;
        let loaded = other.registry.load(&mut |sink| {
            fleet.registry.unload(&mut |table, cells| {
                left = left.checked_sub(1).ok_or(RegistryError::Locked { location: "the source".to_string() })?;
                sink(table, cells)
            })?;
            Err(RegistryError::Locked { location: "the source".to_string() })
        });
        let error = loaded.expect_err("the source has failed");
        assert!(matches!(&error, RegistryError::Locked { location } if location == "the source"), "{most}: {error:?}");
        assert_eq!(rows(&other.registry), before, "{most}");
    }
    // And it is of use then.
    other.registry.copy_from(&fleet.registry).unwrap();
    assert_eq!(rows(&other.registry), rows(&fleet.registry));
}

pub fn an_error_of_the_sink_ends_the_rows(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    let mut seen = 0;
    let unloaded = fleet.registry.unload(&mut |_, _| {
        seen += 1;
        Err(RegistryError::Locked { location: "the sink".to_string() })
    });
    assert!(matches!(unloaded, Err(RegistryError::Locked { location }) if location == "the sink"));
    assert_eq!(seen, 1);
    assert_eq!(fleet.ids().len(), 7, "it can be read as before");
}

pub fn a_copy_waits_for_its_identity(fresh: Fresh) {
    let (mut fleet, _) = in_use(fresh);
    let mut other = Fleet::new(fresh);
    let (drawn, identity) = (other.registry.identity().unwrap().id, fleet.registry.identity().unwrap().id);
    let mut seen = 0;
    let taken = other.registry.become_copy_of(&fleet.registry, &mut |_| {
        seen += 1;
        Ok(())
    });
    let taken = taken.unwrap();
    let mut other = other.reopened();
    let found = other.registry.identity().unwrap();
    assert_eq!((found.id, found.moved), (drawn, Some(Moved::CopyOf(identity.clone()))));
    assert_eq!(found.sends, fleet.registry.identity().unwrap().sends);
    let contents = |registry: &Registry| Contents::of(registry, &mut |_| Ok(())).unwrap();
    assert_eq!(taken.differences(&contents(&fleet.registry)), []);
    assert_eq!(taken.differences(&contents(&other.registry)), []);
    assert!(seen >= taken.all_rows() && taken.rows("device") == 7, "{seen} {taken:?}");

    fleet.registry.write(Change::GiveUp { identity: "new", to: "a place, of any name" }).unwrap();
    let given = fleet.registry.identity().unwrap();
    let moved = Moved::GaveUp { identity: identity.clone(), to: "a place, of any name".to_string() };
    assert_eq!((given.id.as_str(), given.moved), ("new", Some(moved)));
    other.registry.write(Change::Inherit { identity: &identity }).unwrap();
    let found = other.registry.identity().unwrap();
    assert_eq!((found.id, found.moved), (identity, None));
    assert_eq!(contents(&fleet.registry).differences(&contents(&other.registry)), []);
}

pub fn another_row_is_a_difference(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    let mut other = Fleet::new(fresh);
    other.registry.copy_from(&fleet.registry).unwrap();
    let contents = |fleet: &Fleet| Contents::of(&fleet.registry, &mut |_| Ok(())).unwrap();
    let before = contents(&other);
    other.block(&["d-0005"]);
    // What changes admissions is counted.
    let rows = before.rows("meta");
    let expected = [("device", 7, 7), ("device_status", 1, 2), ("meta", rows, rows)];
    assert_eq!(before.differences(&contents(&other)), expected);
    other.delete(&["d-0005"]);
    let names: Vec<_> = before.differences(&contents(&other)).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["deleted_device", "device", "device_key", "meta"]);
}

pub fn rows_that_contradict_each_other_are_found(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    let number = |text: &str| Cell::Integer(text.parse().unwrap());
    let of_kind = |kind: &ColumnKind| match kind {
        ColumnKind::Text => Cell::Text("x".to_string()),
        ColumnKind::Json => Cell::Text("{}".to_string()),
        ColumnKind::Bool | ColumnKind::Integer => Cell::Integer(0),
        ColumnKind::Bytes => Cell::Bytes(vec![0; 32]),
    };
    let runs = rows(&fleet.registry)["run"].clone();
    let of_job = |job: &str| {
        let is_it = |row: &&Vec<Cell>| row[1] == Cell::Text(job.to_string());
        runs.iter().find(is_it).map(|row| row[0].clone()).unwrap()
    };
    // A row, with some of its cells, and what is wrong with it.
    let check = |table: &str, cells: &[(&str, Cell)], expect: &[(FlawKind, &str)]| {
        let table = TABLES.iter().find(|one| one.name == table).unwrap();
        let cell = |(name, kind): &(&str, ColumnKind)| {
            let given = cells.iter().find(|(given, _)| given == name);
            given.map_or_else(|| of_kind(kind), |(_, cell)| cell.clone())
        };
        let row: Vec<Cell> = table.columns.iter().map(cell).collect();
        let mut other = Fleet::new(fresh);
        let loaded = other.registry.load(&mut |sink| {
            let mut is_added = false;
            fleet.registry.unload(&mut |current, cells| {
                // Behind the rows of its table.
                if current.name == "meta" && !std::mem::replace(&mut is_added, true) {
                    sink(table, row.clone())?;
                }
                sink(current, cells)
            })
        });
        loaded.unwrap();
        let flaw = |(kind, example): &(FlawKind, &str)| Flaw { kind: *kind, count: 1, example: (*example).to_string() };
        assert_eq!(other.registry.flaws().unwrap(), expect.iter().map(flaw).collect::<Vec<_>>(), "{}", table.name);
    };
    check("device_key", &[], &[(FlawKind::KeysWithoutDevice, "x")]);
    check("device_status", &[], &[(FlawKind::StatusWithoutDevice, "x")]);
    check("message", &[], &[(FlawKind::MessageWithoutDevice, "x")]);
    check("device_session", &[], &[(FlawKind::SessionWithoutDevice, "x")]);
    check("device_connection", &[], &[(FlawKind::SessionWithoutDevice, "x")]);
    check("left_device", &[], &[(FlawKind::LeftWithoutDevice, "x")]);
    check("late", &[("run_id", number("99"))], &[(FlawKind::RowsWithoutRun, "run number 99")]);
    check("answer", &[("run_id", number("99"))], &[(FlawKind::RowsWithoutRun, "run number 99")]);
    check("outcome", &[("run_id", number("99"))], &[(FlawKind::RowsWithoutRun, "run number 99")]);
    let (dim, done) = (of_job("dim"), of_job("done"));
    let beyond = [("run_id", dim.clone()), ("ordinal", number("8"))];
    check("outcome", &beyond, &[(FlawKind::OutcomeBeyondTarget, "dim run 1")]);
    check("sent", &beyond, &[(FlawKind::MarkBeyondTarget, "dim run 1")]);
    let beside = [("run_id", dim), ("ordinal", number("3"))];
    check("sent", &beside, &[(FlawKind::MarkBesideOutcome, "dim run 1")]);
    let completed = [(FlawKind::MarkBeyondTarget, "done run 1"), (FlawKind::MarkOfCompletedRun, "done run 1")];
    check("sent", &[("run_id", done), ("ordinal", number("8"))], &completed);
}
