//! The programs of PostgreSQL, run as a user who is not root, and the end of their servers with the process that started
//! them. The benchmarks have this file too.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::getuid;

/// Ends the servers of a folder and removes it once its standard input is closed, which the end of any process does.
/// The folder is among no arguments of its own, so that it finds no process but the servers.
const WATCHER: &str = r#"trap '' INT TERM HUP
read -r _
servers() { echo "$FOLDER/data" | grep -laFf - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3; }
for server in $(servers); do kill -QUIT "$server"; done
n=0
while [ -n "$(servers)" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
for server in $(servers); do kill -KILL "$server"; done
rm -rf "$FOLDER""#;

/// A process that outlives this one, and cleans up after it.
pub struct Watcher {
    process: Child,
    /// Closed when this process ends, also by a signal that nothing can catch.
    pub input: Option<ChildStdin>,
}

impl Watcher {
    /// Starts it for a folder of servers.
    pub fn start(folder: &Path) -> Watcher {
        let mut command = Command::new("sh");
        command.args(["-c", WATCHER]).env("FOLDER", folder).stdin(Stdio::piped());
        // What ends the tests from outside often ends their whole group.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take();
        Watcher { process, input }
    }

    /// Makes it clean up now.
    pub fn end(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Makes the data folder of a server in a folder that is the user's.
pub fn initialize(folder: &Path) {
    let mut command = program("initdb");
    command.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
    let made = command.arg(folder.join("data")).output().unwrap();
    assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Returns the server of a folder, with settings as `name=value`.
pub fn server(folder: &Path, port: u16, settings: &[String]) -> Command {
    let mut command = program("postgres");
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    // Clients of killed servers may still hold the name of the log: it is opened for appending.
    let log = fs::File::options().append(true).create(true).open(folder.join("log")).unwrap();
    command.stderr(log).stdout(Stdio::null());
    command
}

/// Returns a program of the newest PostgreSQL of this machine, to run as a user who is not root: it refuses that one.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(find(name));
    command.current_dir("/").stdin(Stdio::null());
    if getuid().is_root() {
        let (user, group) = user();
        command.uid(user.unwrap()).gid(group.unwrap());
    }
    command
}

fn find(name: &str) -> PathBuf {
    let version = |folder: &PathBuf| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut versions: Vec<PathBuf> = versions.collect();
    versions.sort_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = versions.iter().rev().map(|folder| folder.join("bin")).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is needed: install postgresql"))
}

/// Gives a folder to the user that servers run as, for nobody else to look into.
pub fn give_to_user(folder: &Path) {
    chown(folder, user().0, None).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Returns the user and the group to run as, by their numbers; `None` for our own.
pub fn user() -> (Option<u32>, Option<u32>) {
    if !getuid().is_root() {
        return (None, None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let numbers = |name: &str| {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<_>| fields[0] == name)?;
        Some((fields[2].parse().ok(), fields[3].parse().ok()))
    };
    numbers("postgres").or_else(|| numbers("nobody")).expect("the user postgres is needed: install postgresql")
}
