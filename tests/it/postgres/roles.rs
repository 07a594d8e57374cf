//! The roles of docs/production.md: its SQL is run as it stands there.

use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, run};
use crate::world::{Ran, World, fleetform};

/// Returns the blocks of SQL of the section, in order.
fn blocks() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/production.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("PostgreSQL\n")).unwrap();
    section.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

/// Runs statements one by one: a database is not made in a transaction.
fn each(url: &str, block: &str) {
    block.split_inclusive(";\n").filter(|statement| !statement.trim().is_empty()).for_each(|one| run(url, one));
}

#[test]
fn the_roles_of_the_docs_can_do_what_they_are_for_and_no_more() {
    let cluster = Cluster::start(&[]);
    let blocks = blocks();
    let [roles, database, tables] = blocks.as_slice() else { panic!("three blocks: {blocks:#?}") };
    each(&cluster.url("postgres"), roles);
    let url = cluster.url("fleet");
    each(&url, database);
    let world = World::with_devices("{registry: {sqlite: {}}, link: {simulated: {}}}", 3);
    world.declare("groups.yaml", "DeviceGroup", "even", "{query: \"tags.parity = 'even'\"}");
    world.job("reboot", "{target: {group: even}, action: {command: {name: reboot}}}");
    let as_role = |role: &str, arguments: &[&str]| {
        let url = url.replace("postgres@", &format!("fleetform_{role}@"));
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(arguments).env("FLEETFORM_REGISTRY", url);
        Ran::of(&mut command)
    };
    // Before there are tables.
    as_role("planner", &["plan"]).expect(0);
    let refused = as_role("planner", &["apply", "--yes"]).expect(69);
    assert!(refused.stderr.contains("permission denied"), "{refused:#?}");
    let applied = as_role("worker", &["apply", "--yes"]).expect(0);
    assert!(!applied.stderr.contains("index"), "{applied:#?}");
    each(&url, tables);
    let count = |text: &str| {
        crate::cluster::block_on(async {
            let client = crate::cluster::connect(&url).await.unwrap();
            client.query_one(text, &[]).await.unwrap().get::<_, i64>(0)
        })
    };
    let others = "SELECT count(*) FROM pg_tables WHERE schemaname = 'fleetform' AND tableowner <> 'fleetform_owner'";
    assert_eq!(count(others), 0);
    let made = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'fleetform' AND indexdef LIKE '%parity%'";
    assert_eq!(count(made), 1);
    // Another change, with an import that is planned.
    world.write("devices.csv", crate::world::devices_csv(4));
    world.job("again", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    let planned = as_role("planner", &["plan"]).expect(0);
    assert!(planned.stdout.contains("4 devices") && planned.stdout.contains("1 new"), "{planned:#?}");
    for arguments in [&["status"] as &[&str], &["device", "list"], &["job", "show", "reboot"], &["group", "list"]] {
        as_role("planner", arguments).expect(0);
    }
    for arguments in [&["apply", "--yes"] as &[&str], &["device", "block", "d-001", "--reason", "test", "--yes"]] {
        let refused = as_role("planner", arguments).expect(69);
        assert!(refused.stderr.contains("permission denied"), "{refused:#?}");
    }
    let keys = world.file(".git/keys.csv");
    let refused = as_role("planner", &["device", "export", "-o", keys.to_str().unwrap()]).expect(69);
    assert!(refused.stderr.contains("permission denied for table device_key"), "{refused:#?}");
    as_role("worker", &["device", "export", "-o", keys.to_str().unwrap()]).expect(0);
    as_role("worker", &["apply", "--yes"]).expect(0);
    // A worker in the place of the first one.
    run(
        &url,
        "CREATE ROLE fleetform_successor LOGIN IN ROLE fleetform_owner; GRANT CONNECT, TEMPORARY ON DATABASE \
        fleet TO fleetform_successor; ALTER ROLE fleetform_worker NOLOGIN",
    );
    world.declare("groups.yaml", "DeviceGroup", "even", "{query: 'tags.n = 1'}");
    world.job("last", "{target: {query: '*'}, action: {tags: {ring: b}}}");
    let applied = as_role("successor", &["apply", "--yes"]).expect(0);
    assert!(!applied.stderr.contains("index"), "{applied:#?}");
}
