//! Imports that are staged by a server: who may, what a lost connection takes along, and files of many rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fleetform::model::fleet::Removed;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::{Change, ImportFailure, ImportSpec, Registry, RegistryError, StagedImport, StorePlace};
use serde_json::json;

use crate::cluster::{Cluster, block_on, connect, fresh_database};
use crate::contract::fleet::{FLEET, devices, hub, hub_spec, now, spec};

const TWO: &str = "IOTC_DEVICEID,TAG.n\nd-1,1\nd-2,2\n";

fn open(url: &str) -> Registry {
    Registry::new(PostgresPlace::new(url, FLEET).unwrap().open().unwrap())
}

fn reader(url: &str) -> Registry {
    Registry::new(PostgresPlace::new(url, FLEET).unwrap().open_for_reading().unwrap())
}

fn run(url: &str, statements: &str) {
    block_on(async {
        let client = connect(url).await.unwrap();
        client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    });
}

fn count(url: &str, text: &str) -> i64 {
    block_on(async { connect(url).await.unwrap().query_one(text, &[]).await.unwrap().get(0) })
}

fn stage(registry: &mut Registry, spec: &ImportSpec, file: &str) -> Result<StagedImport, RegistryError> {
    let mut found = registry.imports_mut().stage(spec, &mut file.as_bytes()).map_err(|failure| match failure {
        ImportFailure::Registry(error) => error,
        ImportFailure::File { message, .. } => panic!("{message}"),
    })?;
    assert_eq!(registry.imports().owners_to_ask().unwrap(), [""; 0]);
    registry.imports_mut().settle(spec, &mut found)?;
    Ok(found)
}

fn write(registry: &mut Registry, spec: &ImportSpec) -> Result<(), RegistryError> {
    registry.write(Change::Import { spec, at: now(), outbox: "" }).map(drop)
}

fn import(registry: &mut Registry, spec: &ImportSpec, file: &str) -> StagedImport {
    let found = stage(registry, spec, file).unwrap();
    write(registry, spec).unwrap();
    found
}

/// Ends the connections of a user to a database, as a server does that is restarted.
fn cut_off(url: &str, user: &str) {
    let text = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = '{user}'"
    );
    run(url, &text);
}

#[test]
fn a_standby_says_that_nothing_can_be_staged_there() {
    let primary = Cluster::start(&[]);
    let url = primary.make_database("fleet", "");
    import(&mut open(&url), &spec("a"), TWO);
    let standby = primary.standby();
    let mut registry = reader(&standby.url("fleet"));
    // What a plan without changed imports does.
    registry.imports_mut().clear().unwrap();
    registry.imports_mut().overlay().unwrap();
    assert_eq!(registry.imports().owners_to_ask().unwrap(), [""; 0]);
    assert_eq!(devices(&registry).len(), 2);
    let error = stage(&mut registry, &spec("b"), TWO).unwrap_err();
    assert!(matches!(error, RegistryError::Unfit { .. }), "{error:?}");
    assert!(error.to_string().ends_with(
        "cannot be used: its server is a standby, and imports are staged in temporary tables, which a standby has not"
    ));
    assert_eq!(error.help(), "Name the primary server in the URL of the registry.");
    assert_eq!(devices(&registry).len(), 2, "it reads on");
}

/// A role that may only read, and its URL.
fn planner(url: &str) -> (String, String) {
    let name = format!("planner_{}", url.rsplit('/').next().unwrap());
    run(
        url,
        &format!(
            "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC; CREATE ROLE {name} LOGIN;
             ALTER ROLE {name} SET default_transaction_read_only = on;
             GRANT USAGE ON SCHEMA fleetform TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA fleetform TO {name}",
            url.rsplit('/').next().unwrap()
        ),
    );
    (url.replace("postgres@", &format!("{name}@")), name)
}

#[test]
fn who_lacks_the_right_to_stage_is_told_which() {
    let url = fresh_database();
    import(&mut open(&url), &spec("a"), TWO);
    let (planner_url, name) = planner(&url);
    let database = url.rsplit('/').next().unwrap();
    let mut registry = reader(&planner_url);
    assert_eq!(devices(&registry).len(), 2);
    let error = stage(&mut registry, &spec("a"), TWO).unwrap_err();
    let what = format!("the user `{name}` lacks the right TEMPORARY on the database `{database}`");
    assert!(error.to_string().contains(&what), "{error}");
    assert_eq!(error.help(), "Give it the right with `GRANT TEMPORARY ON DATABASE … TO …`.");
    run(&url, &format!("GRANT TEMPORARY ON DATABASE {database} TO {name}"));
    let lines = [json!({"id": "d-3"}), json!({"id": "d-1", "tags": {"n": 5}})];
    let found = stage(&mut registry, &hub_spec("a"), &hub(&lines)).unwrap();
    assert_eq!((found.new, found.updated, found.kept), (1, 1, 1));
    registry.imports_mut().overlay().unwrap();
    let tags: Vec<_> = devices(&registry).into_iter().map(|device| device.tags).collect();
    assert_eq!(tags, [json!({"n": 5}), json!({"n": "2"}), json!({})]);
    registry.imports_mut().clear().unwrap();
    assert_eq!(devices(&registry).len(), 2);
    run(&url, &format!("DROP OWNED BY {name}; DROP ROLE {name}"));
}

#[test]
fn a_connection_that_is_lost_takes_what_was_staged_along() {
    let url = fresh_database();
    let mut registry = open(&url);
    stage(&mut registry, &spec("a"), TWO).unwrap();
    cut_off(&url, "postgres");
    let error = write(&mut registry, &spec("a")).unwrap_err();
    assert!(error.to_string().contains("the connection was lost while imports were staged"), "{error}");
    let error = registry.imports_mut().overlay().unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error:?}");
    // The next plan begins so.
    registry.imports_mut().clear().unwrap();
    import(&mut registry, &spec("a"), TWO);
    assert_eq!(devices(&registry).len(), 2);
}

#[test]
fn a_connection_that_is_lost_behind_the_last_import_is_made_again() {
    let url = fresh_database();
    let mut registry = open(&url);
    let (a, b) = (spec("a"), spec("b"));
    stage(&mut registry, &a, TWO).unwrap();
    stage(&mut registry, &b, "IOTC_DEVICEID\ne-1\n").unwrap();
    registry.imports_mut().overlay().unwrap();
    write(&mut registry, &a).unwrap();
    write(&mut registry, &b).unwrap();
    cut_off(&url, "postgres");
    assert!(registry.devices().get("d-1").unwrap().is_some());
    cut_off(&url, "postgres");
    registry.write(Change::Block { device_ids: &["e-1".to_string()], is_blocked: true, at: now() }).unwrap();
    let blocked: Vec<bool> = devices(&registry).iter().map(|device| device.blocked).collect();
    assert_eq!(blocked, [false, false, true]);
}

#[test]
fn what_is_staged_stays_staged_when_its_commit_fails() {
    let url = fresh_database();
    let mut registry = open(&url);
    let a = spec("a");
    stage(&mut registry, &a, TWO).unwrap();
    run(
        &url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON fleetform.import EXECUTE FUNCTION refuse()",
    );
    let error = write(&mut registry, &a).unwrap_err();
    assert!(matches!(error, RegistryError::Failed { .. }), "{error:?}");
    assert_eq!(devices(&registry).len(), 0);
    run(&url, "DROP TRIGGER refuse ON fleetform.import");
    write(&mut registry, &a).unwrap();
    assert_eq!(devices(&registry).len(), 2);
}

#[test]
fn null_characters_of_a_file_are_staged() {
    let url = fresh_database();
    let mut registry = open(&url);
    let tags = json!({"a": "\0x\u{1}", "b": ["\u{1}\0"]});
    let lines = [
        json!({"id": "d-1", "tags": tags}),
        json!({"id": "d\0", "tags": {}}),
        json!({"id": "d-2", "deviceName": "a\0b"}),
    ];
    let found = import(&mut registry, &hub_spec("a"), &hub(&lines));
    assert_eq!((found.new, found.rejected), (1, 2));
    assert_eq!(found.errors[0].device_id, "d\0");
    assert_eq!(registry.devices().get("d-1").unwrap().unwrap().tags, tags);
    let found = import(&mut registry, &hub_spec("a"), &hub(&lines));
    assert_eq!((found.unchanged, found.updated), (1, 0));
}

/// Rows that are far from each other in the file, in the order of no index.
fn many(count: u64, mut row: impl FnMut(u64) -> String) -> String {
    let mut file = "IOTC_DEVICEID,TAG.n,TAG.site\n".to_string();
    for at in 0..count {
        writeln!(file, "{}", row(at * 7_919 % count)).unwrap();
    }
    file
}

#[test]
fn a_file_of_many_rows_is_compared_row_by_row() {
    const COUNT: u64 = 100_000;
    let url = fresh_database();
    let mut registry = open(&url);
    let spec = ImportSpec { removed: Removed::Delete, ..spec("a") };
    let first = many(COUNT, |n| format!("d-{n},{n},\"é, {}\"", n % 7));
    // Twice within a look, twice in looks that are far from each other, and an id in another case.
    let file = format!("{first}d-0,again,\nd-99999,again,\nD-5,1,\nD-5,2,\n");
    let found = import(&mut registry, &ImportSpec { removed: Removed::Keep, ..spec.clone() }, &file);
    assert_eq!((found.rows, found.new, found.rejected), (COUNT + 4, COUNT + 1, 3));
    let lines: Vec<u64> = found.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [COUNT + 2, COUNT + 3, COUNT + 5]);
    assert!(found.errors.iter().all(|error| error.message.contains("twice")), "{:?}", found.errors);
    assert_eq!(found.alike.unwrap().sample, ["D-5", "d-5"]);
    let keys = "SELECT count(DISTINCT key) FROM fleetform.device_key, unnest(ARRAY[primary_key, secondary_key]) AS key
        WHERE octet_length(key) = 32";
    assert_eq!(count(&url, keys), 2 * (COUNT as i64 + 1));

    // A device in ten changes, one in a hundred leaves, and one is new.
    let rows = many(COUNT, |n| match (n % 100, n % 10) {
        (50, _) => format!("x-{n},,"),
        (_, 3) => format!("d-{n},{n},changed"),
        _ => format!("d-{n},{n},\"é, {}\"", n % 7),
    });
    let found = import(&mut registry, &spec, &rows);
    let removed = COUNT / 100 + 1;
    assert_eq!((found.new, found.updated, found.removed), (COUNT / 100, COUNT / 10, removed));
    assert_eq!((found.unchanged, found.rejected), (COUNT - COUNT / 10 - COUNT / 100, 0));
    let after: BTreeMap<String, serde_json::Value> =
        devices(&registry).into_iter().map(|device| (device.device_id, device.tags)).collect();
    assert_eq!(after.len() as u64, COUNT);
    assert_eq!(after["d-13"], json!({"n": "13", "site": "changed"}));
    assert_eq!(after["d-14"], json!({"n": "14", "site": "é, 0"}));
    let gone = "SELECT count(*) FROM fleetform.device_key AS k
        WHERE NOT EXISTS (SELECT 1 FROM fleetform.device AS d WHERE d.device_id = k.device_id)";
    assert_eq!(count(&url, gone), 0);
}

/// Devices that move between files of many rows, some of which their owner still has.
#[test]
fn many_devices_move_between_imports() {
    const COUNT: u64 = 5_000;
    let url = fresh_database();
    let mut registry = open(&url);
    let (a, b) = (spec("a"), spec("b"));
    import(&mut registry, &a, &many(COUNT, |n| format!("d-{n},{n},")));
    // The first import wants all of them. The second one still has the even ones, and one of these in a rejected row.
    let mut of_b = registry.imports_mut().stage(&b, &mut many(COUNT, |n| format!("d-{n},{n},")).as_bytes()).unwrap();
    let kept = many(COUNT, |n| match n {
        6 => "d-6,6".to_string(),
        n if n % 2 == 0 => format!("d-{n},{n},"),
        n => format!("new-{n},,"),
    });
    let mut of_a = registry.imports_mut().stage(&a, &mut kept.as_bytes()).unwrap();
    registry.imports_mut().settle(&b, &mut of_b).unwrap();
    registry.imports_mut().settle(&a, &mut of_a).unwrap();
    assert_eq!((of_b.updated, of_b.rejected), (COUNT / 2, COUNT / 2));
    assert_eq!((of_a.unchanged, of_a.new, of_a.rejected), (COUNT / 2 - 1, COUNT / 2, 1), "{:?}", of_a.errors);
    let lines: BTreeSet<u64> = of_b.errors.iter().map(|error| error.line).collect();
    assert_eq!((lines.len() as u64, of_b.errors.is_sorted_by_key(|error| error.line)), (COUNT / 2, true));
    write(&mut registry, &b).unwrap();
    write(&mut registry, &a).unwrap();
    let ids: Vec<String> = (0..COUNT).map(|n| format!("d-{n}")).collect();
    let imports = registry.devices().imports_of(&ids).unwrap();
    let is_right = |n: u64| imports[&format!("d-{n}")] == if n.is_multiple_of(2) { "a" } else { "b" };
    assert!((0..COUNT).all(is_right));
}
