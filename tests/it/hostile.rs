//! Folders and repositories that somebody hostile filled, or that git can read and fleetform cannot. Wherever a program
//! is named, it would leave a marker.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{Ran, World, fleetform};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=T", "-c", "user.email=t@example.com"]).args(arguments).current_dir(folder);
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:#?}");
}

/// Makes a program that leaves a marker, and returns it with the marker.
fn program(world: &World) -> (String, PathBuf) {
    let (program, marker) = (world.file(".git/program"), world.file(".git/marker"));
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program.display().to_string(), marker)
}

/// Makes a repository of which every setting that can names the program.
fn make_hostile(folder: &Path, program: &str) {
    fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q", "-b", "main", "."]);
    fs::write(folder.join("file"), "text\n").unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "one"]);
    for setting in
        ["core.fsmonitor", "core.sshCommand", "core.pager", "gpg.program", "diff.external", "credential.helper"]
    {
        git(folder, &["config", setting, program]);
    }
    for (filter, attribute) in [("clean", "*.yaml"), ("smudge", "*.csv"), ("process", "*")] {
        git(folder, &["config", &format!("filter.f.{filter}"), program]);
        let attributes = folder.join(".git/info/attributes");
        fs::create_dir_all(attributes.parent().unwrap()).unwrap();
        fs::write(attributes, format!("{attribute} filter=f\n")).unwrap();
    }
    for hook in ["post-commit", "pre-commit", "reference-transaction", "post-checkout", "pre-push", "post-index-change"]
    {
        let file = folder.join(".git/hooks").join(hook);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(program, &file).unwrap();
    }
}

/// Runs every command that reads a fleet, and the daemon for two seconds.
fn run_all(folder: &Path) {
    for command in
        [&["validate"][..], &["plan"], &["status"], &["apply", "--yes"], &["job", "list"], &["plan", "--rev", "HEAD"]]
    {
        let ran = Ran::of(fleetform().arg("-C").arg(folder).args(command));
        assert!(ran.code == 0, "{command:?}: {ran:?}");
    }
    let mut watch = Command::new("timeout");
    watch.args(["-s", "INT", "2"]).arg(fleetform().get_program()).arg("-C").arg(folder).args([
        "watch",
        "--interval",
        "1s",
    ]);
    let ran = Ran::of(&mut watch);
    assert!(
        ran.stderr.contains("following") || ran.stdout.contains("following") || ran.code == 0 || ran.code == 124,
        "{ran:?}"
    );
}

#[test]
fn a_submodule_of_a_fleet_runs_nothing() {
    let world = World::with_devices("{}", 2);
    let (program, marker) = program(&world);
    let origin = tempfile::tempdir().unwrap();
    make_hostile(origin.path(), &program);
    let address = origin.path().to_str().unwrap();
    git(world.path(), &["-c", "protocol.file.allow=always", "submodule", "add", "-q", address, "vendor/sub"]);
    let modules = world.file(".git/modules/vendor/sub");
    for setting in ["core.fsmonitor", "core.sshCommand", "filter.f.clean", "filter.f.smudge"] {
        git(&world.file("vendor/sub"), &["config", setting, &program]);
    }
    assert!(modules.exists());
    fs::remove_file(&marker).ok();
    world.write("vendor/sub/file", "changed\n");
    world.job("reboot", REBOOT);
    run_all(world.path());
    assert!(!marker.exists());
    // A file that a document names is not read from it.
    world.declare("more.yaml", "DeviceImport", "more", "{file: vendor/sub/file}");
    let ran = world.run(&["validate"]).expect(65);
    assert!(ran.stderr.contains("vendor/sub/file"), "{ran:?}");
    assert!(!marker.exists());
}

#[test]
fn a_repository_that_lies_in_the_fleets_folder_runs_nothing() {
    let world = World::with_devices("{}", 2);
    let (program, marker) = program(&world);
    make_hostile(&world.file("jobs/inner"), &program);
    fs::remove_file(&marker).ok();
    world.declare("jobs/reboot.yaml", "Job", "reboot", REBOOT);
    git(world.path(), &["add", "jobs/reboot.yaml"]);
    git(world.path(), &["commit", "-q", "-m", "reboot"]);
    fs::remove_file(&marker).ok();
    run_all(world.path());
    assert!(!marker.exists());
}

#[test]
fn a_git_file_that_leads_into_the_files_of_a_fleet_is_not_followed() {
    for kind in ["link", "file"] {
        let world = World::new("{}");
        let (program, marker) = program(&world);
        let folder = world.file("fleets/staging");
        let spec = "{results: {branch: fleetform/results-staging}}";
        world.declare("fleets/staging/fleetform.yaml", "Fleet", "staging", spec);
        world.commit("staging");
        make_hostile(&folder.join("vendor/evil"), &program);
        fs::rename(folder.join("vendor/evil/.git"), folder.join("vendor/evil.git")).unwrap();
        match kind {
            "link" => symlink("vendor/evil.git", folder.join(".git")).unwrap(),
            _ => fs::write(folder.join(".git"), "gitdir: vendor/evil.git\n").unwrap(),
        }
        fs::remove_file(&marker).ok();
        Ran::of(fleetform().arg("-C").arg(&folder).arg("init")).expect(0);
        run_all(&folder);
        assert!(!marker.exists(), "{kind}");
        let branches = Ran::of(Command::new("git").args(["branch", "--list"]).current_dir(world.path()));
        assert!(branches.stdout.contains("fleetform/results-staging"), "{kind}: the repository around is used");
    }
}

#[test]
fn alternates_of_the_clone_are_read_and_run_nothing() {
    let world = World::with_devices("{}", 2);
    let (program, marker) = program(&world);
    let other = tempfile::tempdir().unwrap();
    make_hostile(other.path(), &program);
    let alternates = world.file(".git/objects/info/alternates");
    fs::create_dir_all(alternates.parent().unwrap()).unwrap();
    fs::write(alternates, format!("{}\n", other.path().join(".git/objects").display())).unwrap();
    fs::remove_file(&marker).ok();
    world.job("reboot", REBOOT);
    run_all(world.path());
    assert!(!marker.exists());
}

#[test]
fn formats_that_cannot_be_read_are_refused_in_one_sentence() {
    for (option, extension, help) in [
        ("--ref-format=reftable", "refstorage=reftable", "git refs migrate --ref-format=files"),
        ("--object-format=sha256", "objectformat=sha256", "git init --object-format=sha1"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut init = Command::new("git");
        if Ran::of(init.args(["init", "-q", option, "."]).current_dir(folder.path())).code != 0 {
            // An older git does not make such a repository.
            continue;
        }
        for command in [&["init"][..], &["validate"], &["plan"], &["apply", "--yes"], &["watch"], &["status"]] {
            let ran = Ran::of(fleetform().arg("-C").arg(folder.path()).args(command));
            assert!(ran.stderr.contains(extension) && ran.stderr.contains(help), "{command:?}: {ran:?}");
            assert_eq!(ran.code, 1, "{command:?}");
        }
        assert!(!folder.path().join("fleetform.yaml").exists(), "nothing was written");
    }
    // The way out that the message tells.
    let folder = tempfile::tempdir().unwrap();
    let mut init = Command::new("git");
    if Ran::of(init.args(["init", "-q", "-b", "main", "--ref-format=reftable", "."]).current_dir(folder.path())).code
        == 0
    {
        git(folder.path(), &["refs", "migrate", "--ref-format=files"]);
        Ran::of(fleetform().arg("-C").arg(folder.path()).arg("init")).expect(0);
    }
}
