//! Mosquitto to test with, on a free port of this machine. It ends when its value is dropped, also when a test panics.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers::{Process, answers, start_on_free_port, wait_until};
use crate::world::folder;

/// A broker.
pub struct Broker {
    folder: tempfile::TempDir,
    pub port: u16,
    process: Process,
}

impl Broker {
    /// Starts a broker that lets everybody in.
    pub fn start() -> Broker {
        Broker::start_with("allow_anonymous true")
    }

    /// Starts a broker with more lines of configuration; `{folder}` stands for a folder of its own.
    pub fn start_with(lines: &str) -> Broker {
        let folder = folder();
        let path = folder.path().to_path_buf();
        let (process, port) = start_on_free_port(|port| command(&path, port, lines));
        Broker { folder, port, process }
    }

    /// Starts a broker with a folder that has files for its configuration.
    pub fn start_in(folder: tempfile::TempDir, lines: &str) -> Broker {
        let path = folder.path().to_path_buf();
        let (process, port) = start_on_free_port(|port| command(&path, port, lines));
        Broker { folder, port, process }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the link of a fleet to it, in YAML's flow style.
    pub fn link(&self) -> String {
        format!("{{link: {{mqtt: {{url: \"mqtt://127.0.0.1:{}\"}}}}}}", self.port)
    }

    /// Kills it: nothing of its memory is kept, and no last will is published.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&mut mosquitto(&configuration(self.path())));
        wait_until("the broker answers again", || answers(self.port));
    }
}

fn configuration(folder: &Path) -> PathBuf {
    folder.join("mosquitto.conf")
}

fn command(folder: &Path, port: u16, lines: &str) -> Command {
    let lines = lines.replace("{folder}", &folder.display().to_string());
    let path = configuration(folder);
    // As root it becomes `mosquitto`, who cannot read the folder.
    let text = format!("listener {port} 127.0.0.1\nuser root\nset_tcp_nodelay true\n{lines}\n");
    std::fs::write(&path, text).unwrap();
    mosquitto(&path)
}

fn mosquitto(configuration: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("mosquitto");
    command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
    command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
