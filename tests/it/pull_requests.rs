//! A pull request on a real bare repository, from its branch to its results: `docs/pull-requests.md` is the script. Its
//! blocks are run in order, in one folder, on a terminal of 80 columns, against a stand-in for the forge, and what is
//! printed has to be what the page shows; `UPDATE_DOCS=1` writes what is printed into the page.
//!
//! A `console` block has commands (`$ `) and all that they print; ` &` at the end of one leaves it running. A `yaml`
//! block is a file that the paragraph before it names. An indented block is the comment at the forge, and a table the
//! statuses of the commit that is checked out in `fleet`.

use std::fs;
use std::path::Path;
use std::process::Command;

use fleetform::forge::Kind;
use rustix::process::{Pid, Signal, kill_process};

use crate::readme::newcomer;
use crate::servers::{git, wait_until};
use crate::stand_in::{StandIn, TOKEN};
use crate::world::{BRANCH, Ran, folder, spawn};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pull-requests.md");

/// A part of the page.
enum Part {
    Prose(String),
    Fence { kind: String, lines: Vec<String> },
    Indented,
    Table(Vec<String>),
}

/// How a table of statuses begins.
const TABLE: [&str; 2] = ["| state | context | description |", "| --- | --- | --- |"];

fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let inner: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(str::to_string).collect();
            parts.push(Part::Fence { kind: kind.to_string(), lines: inner });
        } else if line.starts_with("    ") {
            while lines.next_if(|line| line.starts_with("    ") || line.is_empty()).is_some() {}
            parts.extend([Part::Indented, Part::Prose(String::new())]);
        } else if line == TABLE[0] {
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row.to_string());
            }
            parts.push(Part::Table(rows.split_off(1)));
        } else {
            parts.push(Part::Prose(line.to_string()));
        }
    }
    parts
}

/// Makes alike what differs from run to run: ids of commits and plans, and times.
fn redacted(text: &str) -> String {
    let mut safe = String::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | ':') {
            word.push(c);
            continue;
        }
        let is_id = word.len() >= 7 && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_time = word.len() >= 8 && word.chars().all(|c| c.is_ascii_digit() || "-:TZ.".contains(c));
        safe.push_str(&if is_id || is_time { "0".repeat(word.len()) } else { std::mem::take(&mut word) });
        word.clear();
        safe.push(c);
    }
    safe.trim_end().to_string()
}

/// The folder of the session.
struct Session {
    folder: tempfile::TempDir,
    server: StandIn,
    left_running: Vec<std::process::Child>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in &mut self.left_running {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Session {
    fn command(&self, program: &str) -> Command {
        let mut command = newcomer(program, self.folder.path());
        for name in ["GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS", "GITLAB_CI"] {
            command.env_remove(name);
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").envs(self.server.variables());
        command
    }

    /// Runs a command on a terminal, and returns the lines that it leaves there.
    fn run(&mut self, line: &str) -> Vec<String> {
        if let Some(line) = line.strip_suffix(" &") {
            let mut command = self.command("bash");
            command.args(["-c", &format!("exec {line}")]);
            self.left_running.push(spawn(&mut command));
            return Vec::new();
        }
        let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/picture.py");
        let ran = Ran::of(self.command("python3").args([picture, "--print", line]));
        assert_eq!(ran.code, 0, "{line}: {ran:#?}");
        ran.stdout.trim_end().lines().map(str::to_string).collect()
    }

    fn git(&self, repository: &str, arguments: &[&str]) -> String {
        let output = git().arg("-C").arg(self.folder.path().join(repository)).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    /// Returns the statuses of the commit that is checked out, as the page shows them, once they are as many as there.
    fn statuses(&self, shown: &[String]) -> Vec<String> {
        let commit = self.git("fleet", &["rev-parse", "HEAD"]);
        let lines = || -> Vec<String> {
            let ours = self.server.statuses().into_iter().filter(|one| one.commit == commit);
            ours.map(|one| format!("| {} | `{}` | {} |", one.state, one.context, one.description)).collect()
        };
        let last = shown.last().cloned().unwrap_or_default();
        wait_until("the statuses are set", || {
            let lines = lines();
            lines.len() >= shown.len() && (lines.last() == Some(&last) || std::env::var("UPDATE_DOCS").is_ok())
        });
        lines()
    }

    /// Waits until the daemon has pushed what it has to say.
    fn settle(&self) {
        let show = |path: &str| self.git("fleet.git", &["show", &format!("{BRANCH}:{path}")]);
        wait_until("the results are pushed", || {
            show("lease.json").contains("\"owner\": \"\"")
                && !self.git("fleet.git", &["log", "--format=%s", BRANCH]).is_empty()
        });
    }
}

#[test]
fn the_page_shows_what_a_pull_request_goes_through() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut session = Session { folder: folder(), server: StandIn::new(Kind::GitHub), left_running: Vec::new() };
    let (mut written, mut named, mut reviews) = (String::new(), String::new(), 0);
    for part in parts(&page) {
        let block = match part {
            Part::Prose(line) => {
                let files = line.split('`').filter(|word| word.starts_with("fleet/"));
                named = files.map(str::to_string).next_back().unwrap_or(named);
                line
            }
            Part::Indented => {
                reviews += 1;
                let comments = session.server.comments();
                assert_eq!(comments.len(), 1, "one comment, whatever changes: {comments:#?}");
                let lines = comments[0].body.trim_end().lines();
                let lines = lines.map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
                lines.collect::<Vec<_>>().join("\n")
            }
            Part::Table(rows) => {
                let shown = session.statuses(&rows);
                session.settle();
                [&TABLE.map(str::to_string)[..], &shown].concat().join("\n")
            }
            Part::Fence { kind, lines } => {
                let inner = match kind.as_str() {
                    "console" => console(&mut session, &lines),
                    "yaml" => {
                        let path = session.folder.path().join(&named);
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, lines.join("\n") + "\n").unwrap();
                        lines
                    }
                    "sh" => lines,
                    other => panic!("a block of the kind `{other}` is not run"),
                };
                format!("```{kind}\n{}\n```", inner.join("\n"))
            }
        };
        written.push_str(&format!("{block}\n"));
    }
    assert!(reviews >= 2, "the comment is shown before and after the fix");
    check_end(&session);
    if redacted(&written) != redacted(&page) {
        if std::env::var("UPDATE_DOCS").is_ok() {
            fs::write(PAGE, written).unwrap();
        } else {
            assert_eq!(redacted(&written), redacted(&page), "UPDATE_DOCS=1 writes the page anew");
        }
    }
}

fn console(session: &mut Session, lines: &[String]) -> Vec<String> {
    let mut written = Vec::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix("$ ")) {
        written.push(format!("$ {line}"));
        written.extend(session.run(line));
    }
    written
}

/// What holds whatever the page shows: one comment, a commit that was refused and one that was applied, and results.
fn check_end(session: &Session) {
    let merged = session.git("fleet", &["rev-parse", "main"]);
    assert_eq!(session.server.states_of(&merged), ["pending", "success"]);
    let record = session.git("fleet.git", &["show", &format!("{BRANCH}:runs/reboot/1/run.json")]);
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["status"], &record["source_commit"]), (&"completed".into(), &merged.as_str().into()));
    let posted = session.server.statuses();
    let of_plans: Vec<&str> =
        posted.iter().filter(|one| one.context.ends_with("/plan")).map(|one| one.state.as_str()).collect();
    assert_eq!(of_plans, ["failure", "success"]);
    session.server.assert_described();
    for child in &session.left_running {
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    }
    no_token_below(session.folder.path());
}

/// No file of the session has the token: no log, no configuration, no object that is not packed.
fn no_token_below(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map_while(Result::ok) {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => no_token_below(&path),
            Ok(metadata) if metadata.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                assert!(!bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{}", path.display());
            }
            _ => {}
        }
    }
}
