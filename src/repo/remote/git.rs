//! Runs `git` with fixed arguments, without prompts, with bounds on time and output, and leaves no process behind.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The bytes kept of the start of an output, and as many of its end: what git says first, and why it ended.
const OUTPUT_HALF_MAX: usize = 128 << 10;
/// How often a running git is polled while its outputs are open.
const TICK: Duration = Duration::from_millis(20);
/// How often a git is polled that has closed its outputs, since it is about to end.
const END_TICK: Duration = Duration::from_millis(1);
/// How long a git that was asked to end may take to clean up its locks and unfinished packs.
const END_GRACE: Duration = Duration::from_secs(2);
/// How long to wait for the end of an output after git has ended. A background process may hold it open for ever (the
/// master of `ControlPersist` in ssh does).
const OUTPUT_GRACE: Duration = Duration::from_millis(300);
/// How long a transfer over HTTP may stand still.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long ssh may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// Settings for every call, which override those of the user.
const SETTINGS: &[&str] = &[
    // Local hooks are for people's pushes; hooks of the server still run.
    "core.hooksPath=/dev/null",
    // The `ext` protocol runs any command in its address.
    "protocol.ext.allow=never",
    // Nothing in a folder is taken for a repository because it looks like one, and no program watches files.
    "safe.bareRepository=explicit",
    "core.fsmonitor=false",
    // What was fetched is as durable as the references that point to it (with git 2.36 and later).
    "core.fsync=objects,derived-metadata,reference",
    "http.lowSpeedLimit=1",
    "color.ui=false",
    "color.push=false",
    "color.remote=false",
    "color.transport=false",
];

/// Variables that tie git to another repository than the given one; they are set when a hook runs fleetform.
const LOCAL_VARIABLES: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
];

/// How often a pulse beats.
const PULSE_INTERVAL: Duration = Duration::from_secs(1);

/// A callback that runs while git keeps its caller waiting, to show that the caller is alive.
#[derive(Clone)]
pub struct Pulse(Arc<dyn Fn() + Send + Sync>);

impl Pulse {
    /// Returns a pulse that calls `beat`, which must return at once.
    pub fn new(beat: impl Fn() + Send + Sync + 'static) -> Pulse {
        Pulse(Arc::new(beat))
    }

    /// Calls the callback.
    pub fn beat(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pulse")
    }
}

/// Runs `git` for one repository.
pub(in crate::repo) struct Git<'a> {
    /// The repository's own folder: `.git` of a work tree, or a bare one.
    pub repository: &'a Path,
    /// Environment variables that override those of this process.
    pub environment: &'a [(OsString, OsString)],
    pub time_max: Duration,
    pub pulse: Option<&'a Pulse>,
}

/// The outcome of a git process.
#[derive(Debug)]
pub(in crate::repo) struct GitOutput {
    /// `None` when the process took too long and was ended.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

/// Returns the content of a blob as a stream, read by git: libgit2 holds a blob in memory as a whole.
///
/// # Errors
/// Git cannot be started.
pub fn stream_blob(repository: &Path, blob: git2::Oid) -> std::io::Result<GitStream> {
    let git = Git { repository, environment: &[], time_max: STALL_MAX, pulse: None };
    // Larger blobs are streamed from packs too.
    git.stream(&["core.bigFileThreshold=4m"], &["cat-file", "blob", &blob.to_string()])
}

/// The output of a git that runs.
pub struct GitStream {
    child: Child,
    stdout: std::process::ChildStdout,
}

impl Read for GitStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stdout.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.child.wait()?.success() {
            return Err(std::io::Error::other("git failed to read the object"));
        }
        Ok(read)
    }
}

impl Drop for GitStream {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl GitOutput {
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

impl Git<'_> {
    /// Runs git with settings (`name=value`) beside the usual ones, and waits for its end. After `time_max` git and
    /// everything that it started are ended. Output that is too long loses its middle.
    ///
    /// # Errors
    /// Git cannot be started or waited for.
    pub fn run(&self, settings: &[&str], arguments: &[&str]) -> std::io::Result<GitOutput> {
        let mut command = self.command(settings, arguments);
        let mut child = command.spawn()?;
        let (ended, ends) = channel();
        let stdout = child.stdout.take().map(|stream| read(stream, ended.clone())).transpose();
        let stderr = child.stderr.take().map(|stream| read(stream, ended)).transpose();
        let (stdout, stderr) = match (stdout, stderr) {
            (Ok(stdout), Ok(stderr)) => (stdout, stderr),
            (Err(error), _) | (_, Err(error)) => {
                end(&mut child);
                return Err(error);
            }
        };
        let status = match wait(&mut child, &ends, self.time_max, self.pulse) {
            Ok(Some(status)) => Some(status),
            other => {
                end(&mut child);
                other?
            }
        };
        // Both outputs end when the last process that holds them ends, which usually is git.
        while ends.recv_timeout(OUTPUT_GRACE).is_ok() {}
        let text = |kept: Option<Arc<Mutex<Kept>>>| {
            kept.map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).text()).unwrap_or_default()
        };
        Ok(GitOutput { status, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Starts git and returns its output as a stream. Git is ended when the stream is dropped.
    ///
    /// # Errors
    /// Git cannot be started.
    pub fn stream(&self, settings: &[&str], arguments: &[&str]) -> std::io::Result<GitStream> {
        let mut command = self.command(settings, arguments);
        command.stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("git has no output"))?;
        Ok(GitStream { child, stdout })
    }

    fn command(&self, settings: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(self.repository);
        let stall = format!("http.lowSpeedTime={}", self.time_max.min(STALL_MAX).as_secs().max(1));
        for setting in SETTINGS.iter().chain(settings).chain(&[stall.as_str()]) {
            command.args(["-c", setting]);
        }
        command.args(arguments);
        // The relative path of a configured remote starts here.
        let folder = match self.repository.parent() {
            Some(parent) if self.repository.ends_with(".git") => parent,
            _ => self.repository,
        };
        command.current_dir(folder);
        for name in LOCAL_VARIABLES {
            command.env_remove(name);
        }
        command.env("GIT_CEILING_DIRECTORIES", folder);
        // Not `credential.interactive=false`, which would also silence a GIT_ASKPASS that answers by itself.
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GCM_INTERACTIVE", "never");
        for (name, value) in self.environment {
            command.env(name, value);
        }
        if !self.is_set("SSH_ASKPASS_REQUIRE") {
            // Prompts of ssh, or of git through ssh's dialog, get the answer "no" instead of waiting for a person.
            command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
        }
        if !self.chooses_ssh() {
            let seconds = self.time_max.min(CONNECT_MAX).as_secs().max(1);
            command.env("GIT_SSH_COMMAND", format!("ssh -o BatchMode=yes -o ConnectTimeout={seconds}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        {
            // Git gets its own process group: it can be ended as a whole, and a Ctrl-C that stops fleetform in good
            // order does not cut the push.
            use std::os::unix::process::CommandExt as _;
            command.process_group(0);
        }
        command
    }

    /// Returns true when the user has configured which ssh to run.
    fn chooses_ssh(&self) -> bool {
        if self.is_set("GIT_SSH_COMMAND") || self.is_set("GIT_SSH") {
            return true;
        }
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(self.repository).args(["config", "--get", "core.sshCommand"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for (name, value) in self.environment {
            command.env(name, value);
        }
        command.status().is_ok_and(|status| status.success())
    }

    fn is_set(&self, name: &str) -> bool {
        // These are variables of git, not options of fleetform: clap does not know them.
        self.environment.iter().any(|(given, _)| given == name) || std::env::var_os(name).is_some()
    }
}

/// Waits for the end of a process; `None` when it is still running after `time_max`. Only time spent waiting counts, so
/// a machine that slept meanwhile does not end it.
fn wait(
    child: &mut Child,
    ends: &Receiver<()>,
    time_max: Duration,
    pulse: Option<&Pulse>,
) -> std::io::Result<Option<ExitStatus>> {
    let (mut left, mut beat_at) = (time_max, time_max);
    loop {
        if left <= beat_at
            && let Some(pulse) = pulse
        {
            pulse.beat();
            beat_at = left.saturating_sub(PULSE_INTERVAL);
        }
        let waited = match ends.recv_timeout(TICK.min(left)) {
            Ok(()) => Duration::ZERO,
            Err(RecvTimeoutError::Timeout) => TICK,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(END_TICK);
                END_TICK
            }
        };
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        left = left.saturating_sub(waited);
        if left.is_zero() {
            return Ok(None);
        }
    }
}

/// Ends a process and its group: first with SIGTERM, so that git removes its locks, then with SIGKILL.
#[cfg(unix)]
fn end(child: &mut Child) {
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
    let group = Pid::from_child(child);
    // The system does not reuse the id of the process, or of its group, until we wait for the process.
    let has_ended = || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(group), options), Ok(None))
    };
    // This fails when the group is gone, which is fine.
    let _ = kill_process_group(group, Signal::TERM);
    let mut left = END_GRACE;
    while !has_ended() && !left.is_zero() {
        std::thread::sleep(TICK);
        left = left.saturating_sub(TICK);
    }
    let _ = kill_process_group(group, Signal::KILL);
    drop(child.wait());
}

#[cfg(not(unix))]
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// The kept part of an output: its start and its end.
#[derive(Default)]
struct Kept {
    start: Vec<u8>,
    end: VecDeque<u8>,
    is_cut: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(OUTPUT_HALF_MAX - self.start.len()));
        self.start.extend(first);
        self.end.extend(rest);
        let excess = self.end.len().saturating_sub(OUTPUT_HALF_MAX);
        self.is_cut |= excess > 0;
        drop(self.end.drain(..excess));
    }

    fn text(&self) -> String {
        let mut bytes = self.start.clone();
        if self.is_cut {
            bytes.extend(b"\n");
        }
        bytes.extend(&self.end);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Reads an output to its end in a separate thread, because git blocks on a full pipe. Sends on the channel at the end.
fn read(mut stream: impl Read + Send + 'static, ended: Sender<()>) -> std::io::Result<Arc<Mutex<Kept>>> {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let theirs = Arc::clone(&kept);
    std::thread::Builder::new().name("git output".to_string()).spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => theirs.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The receiver may be gone when git ended long ago.
        let _ = ended.send(());
    })?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_loses_its_middle() {
        let mut kept = Kept::default();
        kept.add(b"first\n");
        for _ in 0..100 {
            kept.add(&[b'x'; 10_000]);
        }
        kept.add(b"\nlast");
        let text = kept.text();
        assert!(text.starts_with("first\nxxx") && text.ends_with("xxx\nlast"), "{} bytes", text.len());
        assert_eq!(text.len(), 2 * OUTPUT_HALF_MAX + 1);
        let mut kept = Kept::default();
        kept.add(b"short");
        assert_eq!(kept.text(), "short");
    }
}
