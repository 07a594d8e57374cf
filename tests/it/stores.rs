//! Which registry the fleets of the tests have: a file, or with `FLEETFORM_TEST_REGISTRY=postgres` in the environment a
//! fresh database each. Tests of the file itself have a file in either case.
//!
//! With `FLEETFORM_TEST_NOTE` in the environment, the names of the tests that a database makes a difference to are
//! written to that file, one a line: those whose fleets have had a registry. `tests/all.sh` runs them again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::cluster::fresh_database;

/// The tests, or modules of tests, that are about the file, and why.
pub const OF_FILES: &[(&str, &str)] = &[
    ("apply::a_command_without_an_answer_is_not_sent_again", "It writes to the file past fleetform."),
    ("apply::a_file_in_the_place_of_the_registrys_folder_is_told", "A database has no folder."),
    ("apply::a_locked_registry_is_one_sentence", "It locks the file as SQLite does."),
    ("apply::a_second_apply_does_nothing", "It compares the bytes of the file."),
    (
        "apply::an_idempotent_command_without_an_answer_is_sent_again_with_its_id",
        "It writes to the file past fleetform.",
    ),
    ("apply::each_action_changes_what_it_is_for_and_leaves_alone_what_is_as_desired", "It has SQL of SQLite."),
    ("borders::a_commit_names_no_file_outside_of_the_fleet", "It names files."),
    ("borders::keys_go_to_stdout_or_to_a_file_that_git_leaves_alone", "It needs the folder of the file."),
    ("borders::work_trees_of_a_repository_share_a_registry", "Work trees share a file that nothing names."),
    ("devices::a_device_moves_from_one_import_to_another", "It reads the file past fleetform."),
    ("devices::an_owner_that_still_has_a_device_keeps_it_from_an_earlier_import", "It reads the file past fleetform."),
    ("devices::devices_are_blocked_unblocked_and_deleted_at_once", "It reads the file past fleetform."),
    ("delivery::a_registry_that_cannot_grow_loses_nothing", "The disk of a server is not limited by fleetform."),
    ("edge::a_manifest_without_a_digest_is_written_again", "It goes back to an old schema of the file."),
    (
        "gateway::crowd::a_crowd_that_says_nothing_slows_nobody",
        "It measures connections, which take the processor of all other tests.",
    ),
    ("gateway::a_registry_that_is_locked_for_long_ends_no_connection", "It locks the file as SQLite does."),
    ("gateway::what_a_device_says_is_kept_while_another_process_works", "It takes the lock that lies beside the file."),
    ("indexes", "It reads the indexes of SQLite; `postgres::indexes` has those of a database."),
    ("operator::a_registry_that_a_commit_brings_is_refused", "A commit brings files."),
    ("operator::status_says_what_it_knows_and_what_it_cannot_read", "It damages the file."),
    ("ownership::a_copy_beside_the_original_is_another_registry_and_a_moved_one_is_not", "Files are copied and moved."),
    (
        "rest::torn::a_kill_at_any_call_of_a_commit_leaves_a_job_whole_or_not_at_all",
        "It is about the repository, and waits for the lease of each gateway that it has killed.",
    ),
    ("secrets::a_whole_session_shows_the_value_to_the_devices_alone", "It reads the file past fleetform."),
    ("simulate::nothing_is_touched", "It looks at the files."),
    (
        "watch::what_is_due_and_cannot_be_done_is_not_tried_without_a_pause",
        "It tries for two hours of virtual time, and each try connects.",
    ),
    ("recovery::newer_versions_and_other_fleets_hold_and_touch_nothing", "It compares the bytes of the file."),
];

/// The databases of the fleets in this process, by the folder of the fleet.
static DATABASES: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// Returns true when fleets have databases.
pub fn is_postgres() -> bool {
    match std::env::var("FLEETFORM_TEST_REGISTRY").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite" | "") | Err(_) => false,
        Ok(other) => panic!("FLEETFORM_TEST_REGISTRY is `{other}`, and `sqlite` or `postgres` is known"),
    }
}

/// Makes a database for the fleet of a folder, and returns its URL; `None` for a fleet that has a file.
pub fn database_of(folder: &Path, spec: &str) -> Option<String> {
    if !is_postgres() || spec.contains("registry:") || is_of_file() {
        return None;
    }
    let url = fresh_database();
    DATABASES.lock().unwrap().insert(folder.to_path_buf(), url.clone());
    Some(url)
}

/// Notes the test of this thread when its fleet, with this spec and in this folder, has had a registry.
pub fn note(folder: &Path, spec: &str) {
    if !spec.contains("registry:") && !is_of_file() && folder.join(".fleetform").exists() {
        note_test();
    }
}

fn note_test() {
    static NOTED: Mutex<()> = Mutex::new(());
    let Some(path) = std::env::var_os("FLEETFORM_TEST_NOTE") else { return };
    let _alone = NOTED.lock().unwrap();
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{}", std::thread::current().name().unwrap_or_default()).unwrap();
}

/// Returns the value of `--registry` for processes that share a registry, which is in a folder when it is a file.
pub fn shared_registry(folder: &Path) -> String {
    note_test();
    if is_postgres() && !is_of_file() {
        return fresh_database();
    }
    format!("sqlite:{}", folder.join("fleet.db").display())
}

/// Gives a command that works in the folder of a fleet the database of that fleet, unless it names a registry itself.
pub fn name_database(command: &mut Command) {
    let databases = DATABASES.lock().unwrap();
    let names_one = command.get_args().any(|argument| argument.to_string_lossy().starts_with("--registry"))
        || command.get_envs().any(|(name, value)| name == "FLEETFORM_REGISTRY" && value.is_some());
    if databases.is_empty() || names_one {
        return;
    }
    let mut arguments = command.get_args();
    let named = arguments.by_ref().find(|argument| *argument == "-C").and_then(|_| arguments.next()).map(PathBuf::from);
    // Commands find a fleet in a folder above.
    let here = command.get_current_dir().map(Path::to_path_buf);
    let found = match (named, here) {
        (Some(named), _) => databases.get(&named),
        (None, Some(here)) => here.ancestors().find_map(|folder| databases.get(folder)),
        (None, None) => None,
    };
    if let Some(url) = found.cloned() {
        command.env("FLEETFORM_REGISTRY", url);
    }
}

/// Returns true in a test of the file itself.
fn is_of_file() -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    assert_ne!(test, "main", "a test has the name of its thread: run the tests with more than one thread");
    OF_FILES.iter().any(|(name, _)| test == *name || test.starts_with(&format!("{name}::")))
}

#[test]
fn the_tests_of_files_are_there() {
    for (test, reason) in OF_FILES {
        let parts: Vec<&str> = test.split("::").collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let is_there = match parts.split_last() {
            Some((name, modules)) if !modules.is_empty() => {
                let file = folder.join(modules.join("/")).with_extension("rs");
                let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {error}"));
                text.contains(&format!("fn {name}("))
            }
            _ => folder.join(test).with_extension("rs").exists(),
        };
        assert!(is_there && reason.ends_with('.'), "{test}: {reason}");
    }
}
