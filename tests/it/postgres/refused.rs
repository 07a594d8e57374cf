//! What is wrong with a database is one sentence, with what to do about it and an exit code, and without a password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::cluster::{Cluster, fresh_database, run, shared};
use crate::servers::free_port;
use crate::world::{Ran, World, fleetform};

/// Applies with a registry, and checks that it fails with a code and in one sentence.
#[track_caller]
fn check(world: &World, url: &str, code: i32, expect: &[&str]) {
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["apply", "--yes"]).env("FLEETFORM_REGISTRY", url);
    check_ran(Ran::of(&mut command), code, expect);
}

#[track_caller]
fn check_ran(ran: Ran, code: i32, expect: &[&str]) {
    let ran = ran.expect(code);
    assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{ran:#?}");
    assert!(ran.stderr.contains("help:"), "{ran:#?}");
    for words in expect {
        assert!(ran.stderr.contains(words), "{words}: {ran:#?}");
    }
}

/// Returns a fleet whose registry is named where the test says.
fn world() -> World {
    let world = World::new("{registry: {sqlite: {}}}");
    world.declare("fleetform.yaml", "Fleet", "acme", "{registry: {postgres: {url: {env: ACME_DATABASE}}}}");
    world.commit("a database");
    world
}

/// Returns a URL with another user, and a password.
fn as_user(url: &str, user: &str) -> String {
    url.replace("postgres://postgres@", &format!("postgres://{user}:hunter2@"))
}

#[test]
fn a_url_that_is_none_is_refused_without_being_told() {
    let world = world();
    for (url, words) in [
        ("fleet.db", "is not understood"),
        ("sqlite:", "is not understood"),
        ("mysql://ann:hunter2@db/fleet", "is not understood"),
        ("postgres://ann:hunter2@/fleet", "names no host"),
        ("postgres://db.example/fleet?password=hunter2", "names no user"),
        ("postgres://ann:hunter2@db.example", "names no database"),
        ("postgres://ann:hunter2@db.example:hunter2/fleet", "cannot be read"),
        ("postgres://ann@db.example/fleet?hunter2=hunter2", "cannot be read"),
        ("postgres://ann:hunter2@db.example/fleet?sslmode=prefer", "may not encrypt"),
        (
            "postgres://ann:hunter2@db.example/fleet?sslrootcert=/nowhere.pem",
            "names files, and /nowhere.pem cannot be used",
        ),
    ] {
        check(&world, url, 64, &["--registry", words]);
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["device", "list", "--registry", url]);
        check_ran(Ran::of(&mut command), 64, &["--registry", words]);
    }
}

#[test]
fn the_variable_that_a_fleet_names_has_its_url() {
    let world = world();
    let with = |value: Option<&str>, arguments: &[&str]| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(arguments).env_remove("ACME_DATABASE");
        if let Some(value) = value {
            command.env("ACME_DATABASE", value);
        }
        Ran::of(&mut command)
    };
    for (value, words) in [
        (None, "is not set"),
        (Some(""), "is empty"),
        (Some("sqlite:/srv/fleet.db"), "names a file"),
        (Some("hunter2"), "does not begin with postgres://"),
        (Some("postgres://ann:hunter2@/fleet"), "names no host"),
    ] {
        for arguments in [&["plan"] as &[&str], &["apply", "--yes"], &["status"], &["device", "list"]] {
            check_ran(with(value, arguments), 69, &["the variable `ACME_DATABASE`", words]);
        }
    }
    let url = as_user(&fresh_database(), "postgres");
    with(Some(&url), &["apply", "--yes"]).expect(0);
    with(Some(&url), &["device", "list"]).expect(0);
    // What the command line says comes first.
    let file = format!("sqlite:{}", world.file(".git/other.db").display());
    with(None, &["device", "list", "--registry", &file]).expect(0);
    assert!(!world.file(".fleetform/fleet.db").exists());
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address() {
    let url = format!("postgres://ann:hunter2@127.0.0.1:{}/fleet", free_port());
    check(
        &world(),
        &url,
        69,
        &["postgres://ann@127.0.0.1:", "cannot be reached", "refused", "whether the server runs"],
    );
    let unknown = "postgres://ann:hunter2@nowhere.invalid/fleet?sslmode=disable";
    check(&world(), unknown, 69, &["postgres://ann@nowhere.invalid/fleet", "cannot be reached"]);
}

#[test]
fn a_database_that_does_not_exist_is_not_made() {
    let url = as_user(&shared().url("nowhere"), "postgres");
    check(
        &world(),
        &url,
        69,
        &["refuses us", "\"nowhere\" does not exist", "Check the user, the password and the database"],
    );
}

#[test]
fn a_wrong_password_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let rules = folder.path().join("hba.conf");
    fs::write(&rules, "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o644)).unwrap();
    let cluster = Cluster::start(&[&format!("hba_file={}", rules.display())]);
    cluster.run("CREATE ROLE ann LOGIN PASSWORD 'right'");
    let url = cluster.make_database("fleet", "OWNER ann");
    check(&world(), &as_user(&url, "ann"), 69, &["refuses us", "password authentication failed for user \"ann\""]);
    let without = url.replace("postgres@", "ann@");
    check(&world(), &without, 69, &["refuses us", "password"]);
    let right = url.replace("postgres@", "ann:right@");
    let mut command = fleetform();
    let world = world();
    command.arg("-C").arg(world.path()).args(["apply", "--yes"]).env("FLEETFORM_REGISTRY", right);
    Ran::of(&mut command).expect(0);
}

#[test]
fn a_database_of_another_fleet_is_refused() {
    let url = fresh_database();
    let (one, other) = (world(), world());
    other.declare("fleetform.yaml", "Fleet", "globex", "{}");
    other.commit("another fleet");
    let mut command = fleetform();
    command.arg("-C").arg(one.path()).args(["apply", "--yes"]).env("FLEETFORM_REGISTRY", &url);
    Ran::of(&mut command).expect(0);
    check(&other, &url, 75, &["belongs to the fleet `acme`", "a database of its own"]);
}

#[test]
fn a_schema_of_something_else_is_left_alone() {
    let url = fresh_database();
    run(&url, "CREATE SCHEMA fleetform; CREATE TABLE fleetform.theirs (n int)");
    check(&world(), &url, 69, &["is not a fleetform registry", "name another database"]);
    let url = fresh_database();
    run(&url, "CREATE SCHEMA fleetform; CREATE TABLE fleetform.meta (n int)");
    check(&world(), &url, 69, &["is not a fleetform registry"]);
}

#[test]
fn a_registry_of_a_newer_fleetform_is_left_alone() {
    let (world, url) = (world(), fresh_database());
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["apply", "--yes"]).env("FLEETFORM_REGISTRY", &url);
    Ran::of(&mut command).expect(0);
    run(&url, "UPDATE fleetform.meta SET value = '1000' WHERE key = 'schema_version'");
    check(&world, &url, 75, &["has version 1000", "Use a newer fleetform"]);
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let url = shared().make_database("of_latin_1", "ENCODING 'LATIN1' LOCALE 'C'");
    check(&world(), &url, 69, &["its encoding is LATIN1, and UTF8 is needed", "ENCODING 'UTF8'"]);
    shared().run("DROP DATABASE of_latin_1 WITH (FORCE)");
}

#[test]
fn rights_that_are_missing_are_told() {
    shared().run("CREATE ROLE poor LOGIN");
    let url = fresh_database();
    let poor = as_user(&url, "poor");
    check(&world(), &poor, 69, &["refuses us", "permission denied for database", "which rights the user has"]);
    let mut command = fleetform();
    let world = world();
    command.arg("-C").arg(world.path()).args(["apply", "--yes"]).env("FLEETFORM_REGISTRY", &url);
    Ran::of(&mut command).expect(0);
    check(&world, &poor, 69, &["refuses us", "permission denied for schema fleetform"]);
}

#[test]
fn a_database_that_takes_no_writes_is_told() {
    let url = fresh_database();
    let name = url.rsplit('/').next().unwrap();
    shared().run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    check(&world(), &url, 69, &["cannot be written", "the server that takes writes"]);
}

#[test]
fn a_password_is_written_nowhere() {
    let world = world();
    world.job("dim", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    let url = as_user(&fresh_database(), "postgres");
    let run = |arguments: &[&str]| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(arguments).env("ACME_DATABASE", &url).env("FLEETFORM_REGISTRY", &url);
        let ran = Ran::of(&mut command);
        assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran:#?}");
        ran
    };
    run(&["plan", "--out", world.file(".git/saved.json").to_str().unwrap()]).expect(0);
    run(&["-v", "apply", "--yes"]).expect(0);
    run(&["status", "--json"]).expect(0);
    run(&["--help"]).expect(0);
    run(&["apply", "--help"]).expect(0);
    let mut watch = fleetform();
    watch.arg("-C").arg(world.path()).args(["-v", "watch"]).env("ACME_DATABASE", &url);
    let daemon = Ran::start(&mut watch);
    crate::servers::wait_until("the daemon has reconciled", || {
        let status = fs::read_to_string(world.file(".fleetform/status.json")).unwrap_or_default();
        status.contains("\"last_reconcile_at\":\"")
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
    let said = Ran::after(daemon);
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{said:#?}");
    let witness = world.file(".git/fleetform/fleetform-results.json");
    assert!(fs::read_to_string(witness).unwrap().contains("postgres://postgres@127.0.0.1:"));
    let mut folders = vec![world.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let bytes = fs::read(&entry).unwrap();
                assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", entry.display());
            }
        }
    }
}
