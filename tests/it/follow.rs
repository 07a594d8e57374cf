//! `job show --follow`: a run is shown live by who executes it, and by a clone.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Ran, World, fleetform, spawn};

const SLOW: &str = "limits: {inFlight: 1}, link: {simulated: {latency: 250ms}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

/// Starts an apply of the one job, and waits until its run is begun.
fn begin(world: &World) -> std::process::Child {
    let mut apply = fleetform();
    apply.arg("-C").arg(world.path()).args(["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = spawn(&mut apply);
    let started = Instant::now();
    while !world.run(&["job", "show", "reboot"]).stdout.contains("at work") {
        assert!(started.elapsed() < Duration::from_secs(30), "it does not begin");
        std::thread::sleep(Duration::from_millis(30));
    }
    child
}

#[test]
fn a_run_is_followed_until_it_has_ended() {
    let world = World::with_devices(&format!("{{{SLOW}}}"), 16);
    world.job("reboot", REBOOT);
    let mut apply = begin(&world);
    let ran = world.run(&["job", "show", "reboot", "--follow"]).expect(0);
    assert!(ran.stdout.contains("completed") && ran.stdout.contains("16"), "{ran:?}");
    assert!(ran.stderr.lines().filter(|line| line.contains(" of 16, 0 failed")).count() >= 2, "{ran:?}");
    assert!(ran.stderr.contains("a second, about ") && ran.stderr.contains("at work: "), "{ran:?}");
    apply.wait().unwrap();
    // What has ended is shown at once, also as JSON.
    let ran = world.run(&["--json", "job", "show", "reboot", "--follow"]).expect(0);
    assert_eq!(ran.json().len(), 1, "{ran:?}");
}

#[test]
fn a_clone_follows_a_run_of_another_registry() {
    let remote = tempfile::tempdir().unwrap();
    let git = |folder: &std::path::Path, arguments: &[&str]| {
        let ran = Ran::of(Command::new("git").args(arguments).current_dir(folder));
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    git(remote.path(), &["init", "-q", "--bare", "-b", "main", "."]);
    let world = World::with_devices(&format!("{{results: {{remote: origin}}, {SLOW}}}"), 16);
    let address = remote.path().to_str().unwrap();
    git(world.path(), &["remote", "add", "origin", address]);
    world.job("reboot", REBOOT);
    git(world.path(), &["push", "-q", "origin", "HEAD:main"]);
    let mut apply = begin(&world);
    let clone = tempfile::tempdir().unwrap();
    let two = clone.path().join("two");
    // The claim is pushed before the first device is spoken to, but not before the apply is at work.
    let started = Instant::now();
    let ran = loop {
        assert!(started.elapsed() < Duration::from_secs(30), "it is not claimed");
        drop(std::fs::remove_dir_all(&two));
        git(clone.path(), &["clone", "-q", address, "two"]);
        let ran = Ran::of(fleetform().arg("-C").arg(&two).args(["job", "show", "reboot", "--follow"]));
        if ran.code == 0 {
            break ran;
        }
    };
    assert!(ran.stderr.contains("at work: ") && ran.stdout.contains("completed"), "{ran:?}");
    apply.wait().unwrap();
}
