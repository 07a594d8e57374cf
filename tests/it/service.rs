//! Messages to the service manager over a real socket, and the packaged unit.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleetform::listen::ServiceManager;

use crate::world::Ran;

/// Set in the process that speaks; the environment of this one is of no use, it has many threads.
const SPEAKER: &str = "FLEETFORM_TEST_SPEAKER";

/// Runs only [`the_speaker`] in a process of its own.
fn speak(variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "service::the_speaker", "--nocapture"]).env(SPEAKER, "1");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Ran::of(&mut command).expect(0)
}

/// Not a test of its own: says everything when another one starts it.
#[test]
fn the_speaker() {
    if std::env::var_os(SPEAKER).is_none() {
        return;
    }
    let manager = ServiceManager::from_environment();
    manager.ready("acme at 1f3a");
    manager.status("bad\nMAINPID=1\u{1b}[2J");
    manager.status(&"long ".repeat(1_000));
    manager.alive();
    manager.stopping();
    println!("\ninterval={:?}", manager.watchdog_interval());
}

/// Returns the datagrams that came, in order.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8192];
    let mut all = Vec::new();
    while let Ok(bytes) = socket.recv(&mut buffer) {
        all.push(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
    }
    all
}

#[test]
fn a_manager_hears_ready_alive_and_stopping_and_no_line_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let ran = speak(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")]);
    assert!(ran.stdout.contains(&format!("interval=Some({:?})", Duration::from_millis(1_500))), "{ran:?}");
    let heard = heard(&socket);
    assert_eq!(heard.len(), 5, "{heard:?}");
    assert_eq!(heard[0], "READY=1\nSTATUS=acme at 1f3a\n");
    assert_eq!(heard[1], "STATUS=bad\\nMAINPID=1\\u{1b}[2J\n");
    assert_eq!(heard[2].lines().count(), 1);
    assert!(heard[2].chars().count() < 220, "{}", heard[2]);
    assert_eq!(heard[3..], ["WATCHDOG=1\n", "STOPPING=1\n"]);
}

#[test]
fn without_a_watchdog_nothing_is_said_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // For another process, or none at all.
    let ran = speak(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")]);
    assert!(ran.stdout.contains("interval=None"), "{ran:?}");
    assert!(!heard(&socket).iter().any(|message| message.contains("WATCHDOG")));
    assert!(speak(&[("WATCHDOG_USEC", "0")]).stdout.contains("interval=None"));
}

#[test]
fn without_a_manager_or_with_a_dead_one_the_work_goes_on() {
    assert!(speak(&[]).stdout.contains("interval=None"));
    assert!(speak(&[("NOTIFY_SOCKET", "/nowhere/at/all")]).stdout.contains("interval=None"));
}

const UNIT: &str = include_str!("../../docs/watch/fleetform-watch.service");

/// Returns the value of a key of the unit that is there once.
fn value(key: &str) -> &'static str {
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {key}"));
    assert_eq!(values.next(), None, "{key} is there twice");
    value
}

#[test]
fn the_unit_waits_longer_than_the_daemon_takes() {
    assert_eq!((value("Type"), value("NotifyAccess"), value("KillSignal")), ("notify", "main", "SIGTERM"));
    let seconds = |key: &str| value(key).parse::<u64>().unwrap();
    // The grace for devices in flight is 10 s by default.
    assert!(seconds("TimeoutStopSec") > 2 * 10);
    assert!(seconds("WatchdogSec") >= 30);
    assert!(value("ExecStart").starts_with("/usr/local/bin/fleetform "), "{}", value("ExecStart"));
}

/// Lets systemd itself read the unit when it is installed; otherwise this says so and checks no more than the test
/// before.
#[test]
fn systemd_understands_the_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("systemd-analyze is not installed: the unit was not verified.");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleetform-watch.service");
    // The program of the unit has to be there for it to be sound.
    let unit = UNIT.replace("/usr/local/bin/fleetform ", &format!("{} ", env!("CARGO_BIN_EXE_fleetform")));
    std::fs::write(&path, unit).unwrap();
    let analyze = |arguments: &[&str], path: &Path| {
        Ran::of(Command::new("systemd-analyze").args(arguments).arg(path).env("SYSTEMD_LOG_LEVEL", "warning"))
    };
    let ran = analyze(&["verify", "--man=no"], &path).expect(0);
    let about_ours: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("fleetform")).collect();
    assert_eq!(about_ours, [""; 0], "{}", ran.stderr);
    let ran = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20"], &path);
    let last = ran.stdout.lines().rfind(|line| line.contains("Overall exposure")).unwrap_or_default().to_string();
    // 2.0 or less of 10, systemd's "OK"; without a hardened unit it is 9.6.
    assert!(ran.code == 0, "{last}\n{}{}", ran.stdout, ran.stderr);
}
