//! A command of the operator, which gets messages on its stdin.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use super::Batch;
use crate::model::alert::AlertBody;
use crate::model::limits::ALERT_CALL_TIME_MAX;
use crate::model::text::duration;

/// How often a command that runs is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// The variables that a command keeps.
const KEPT: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub path: PathBuf,
}

impl Command {
    /// Runs it with a message: the JSON on stdin, the summary in `FLEETFORM_ALERT_SUMMARY`.
    ///
    /// # Errors
    /// A sentence: it cannot be started, does not end in time, or says that it failed.
    pub fn run(&self, batch: &Batch) -> Result<(), String> {
        let mut command = std::process::Command::new(&self.path);
        // The secrets of the daemon are not for it.
        command.env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // What it starts is ended with it.
        command.env("FLEETFORM_ALERT_SUMMARY", batch.summary()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let path = self.path.display();
        let mut child = command.spawn().map_err(|error| format!("{path} cannot be started: {error}"))?;
        let until = Instant::now() + ALERT_CALL_TIME_MAX;
        let message = format!("{}\n", batch.body(AlertBody::Json));
        let mut stdin = child.stdin.take();
        // A command that reads nothing must not hold this thread: it has until the time is over.
        let writer = std::thread::Builder::new().name("alert-stdin".to_string()).spawn(move || {
            let _is_read = stdin.as_mut().is_some_and(|stdin| stdin.write_all(message.as_bytes()).is_ok());
        });
        let ended = wait(&mut child, until);
        drop(writer);
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{path} failed: {status}")),
            None => Err(format!("{path} was ended: it took longer than {}", duration(ALERT_CALL_TIME_MAX))),
        }
    }
}

/// Waits for the end of a process, and ends it when it is time to. Returns `None` when it was ended.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _is_gone = kill_process_group(group, Signal::KILL);
    }
    let _is_gone = child.kill();
    drop(child.wait());
    None
}
