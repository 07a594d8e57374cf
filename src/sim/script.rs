//! Scripted sessions: what people, devices and a dying process do to one fleet, one command a line, and the output.
//!
//! A script is text. It begins with a comment that says what it proves; `#` starts a comment, at the beginning of a
//! line or behind white space. The fleet is called `sim`, its devices are `d-001`, `d-002`, … with the tag `parity`;
//! every change of a file is a separate commit.
//!
//! * `devices N`: imports so many devices
//! * `fleet KEY=VALUE …`: `seed`, `latency`, `failures`, `offline` of the simulated devices; `runningJobs`, `inFlight`
//! * `device ID BEHAVIOUR`: `online`, `offline`, `silent`, `answers CODE` or `latency TIME`
//! * `job NAME KIND KEY=VALUE …`: declares a job, or declares it anew. `KIND`: `property`, `acknowledged`, `tags`,
//!   `cloud`, `command`, `idempotent`. Keys: `run`, `target` (`all`, `even`, or the first `N`), `batch`, `failures` and
//!   `failuresPerBatch` (above which it is canceled), `retries`, `after`, `offline=wait`, `minutes` (that it may run).
//!   It writes its run token under its own name, or calls a command of that name
//! * `job NAME`: declares a job whose spec is the YAML of the indented lines that follow
//! * `stop JOB`, `continue JOB`, `copy JOB`, `rerun JOB`: does what `fleetform job` does
//! * `delete JOB`, `restore JOB`: removes its file; brings it back
//! * `rename JOB NEW [with previousName]`: moves it to another name
//! * `reformat JOB`: adds a comment and moves the file
//! * `rewind N`: takes the last `N` commits back
//! * `delete registry`: deletes the database
//! * `lock branch [at EVENT]`, `unlock branch`: another program locks the results branch, at once or when `imported`,
//!   `claimed`, `started`, `batch`, `finished` is reported for the first time
//! * `advance TIME`: time passes
//! * `crash before|after STEP [N]`: the next apply dies there: at the `N`th `import`, `journal claim`, `publish claim`,
//!   `confirm claim`, `start run`, `mark sent`, `send`, `poll`, `record`, `write`, `unmark`, `end run`, `publish`,
//!   `close run` or `note tip`
//! * `plan`: shows the plan of the work tree
//! * `apply [--wait] [--accept-rewind] [interrupted after TIME]`: applies
//! * `show JOB [RUN]`: its status and counts, and the outcomes of its devices
//! * `executed`: what the devices' own journal says
//! * `twin ID`: what the registry has for a device
//! * `branch`: the log of the results branch

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use super::{DeclaredJob, JobKind, Target};
use crate::execute::Side;
use crate::model::delivery::{Amount, Threshold, ThresholdScope};

/// Why a script cannot be run. `Display` is a line as compilers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A command of a script.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ScriptCommand {
    Devices(u64),
    Fleet(Vec<(String, String)>),
    /// The behaviour in YAML, `None` for one like all others.
    Device(String, Option<String>),
    Declare(DeclaredJob),
    /// A job with its spec in YAML, indented.
    Document(String, String),
    Edit(String, EditVerb),
    Delete(String),
    Restore(String),
    Rename {
        old: String,
        new: String,
        says_so: bool,
    },
    Reformat(String),
    Rewind(usize),
    DeleteRegistry,
    Lock(Option<Moment>),
    Unlock,
    Advance(SignedDuration),
    Crash(Side, String, u64),
    Plan,
    Apply {
        waits: bool,
        accepts_rewind: bool,
        interrupted: Option<Duration>,
    },
    Show(String, Option<String>),
    Executed,
    Twin(String),
    Branch,
}

/// A change that `fleetform job` makes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EditVerb {
    Stop,
    Continue,
    Copy,
    Rerun,
}

/// A progress event of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Imported,
    Claimed,
    Started,
    Batch,
    Finished,
}

/// A command and where it stands.
pub(super) struct ScriptLine {
    pub line: usize,
    pub text: String,
    pub command: ScriptCommand,
}

/// Reads all lines; an error has its line.
pub(super) fn read(text: &str) -> Result<Vec<ScriptLine>, (usize, String)> {
    let mut steps: Vec<ScriptLine> = Vec::new();
    for (at, raw) in text.lines().enumerate() {
        let line = at + 1;
        let is_block = raw.starts_with("  ");
        let told = without_comment(raw);
        if told.trim().is_empty() {
            continue;
        }
        if is_block {
            match steps.last_mut().map(|step| &mut step.command) {
                Some(ScriptCommand::Document(_, spec)) => spec.push_str(&format!("{told}\n")),
                _ => return Err((line, "only a `job` without a kind goes on with indented lines".to_string())),
            }
            continue;
        }
        let command = parse(told).map_err(|what| (line, what))?;
        steps.push(ScriptLine { line, text: told.to_string(), command });
    }
    for (at, step) in steps.iter().enumerate() {
        let next = steps.get(at + 1).map(|next| &next.command);
        if matches!(step.command, ScriptCommand::Crash(..)) && !matches!(next, Some(ScriptCommand::Apply { .. })) {
            return Err((step.line, "no apply follows this crash".to_string()));
        }
    }
    let is_empty = |step: &ScriptLine| matches!(&step.command, ScriptCommand::Document(_, spec) if spec.is_empty());
    match steps.iter().find(|step| is_empty(step)) {
        Some(step) => Err((step.line, "a job has a kind, or its spec in the indented lines that follow".to_string())),
        None => Ok(steps),
    }
}

fn without_comment(line: &str) -> &str {
    let end = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    line[..end.unwrap_or(line.len())].trim_end()
}

fn parse(line: &str) -> Result<ScriptCommand, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let owned = |word: &str| word.to_string();
    Ok(match words.as_slice() {
        ["devices", count] => ScriptCommand::Devices(number(count)?),
        ["fleet", settings @ ..] => {
            ScriptCommand::Fleet(settings.iter().map(|word| pair(word)).collect::<Result<_, _>>()?)
        }
        ["device", id, "online"] => ScriptCommand::Device(owned(id), None),
        ["device", id, "offline"] => ScriptCommand::Device(owned(id), Some("{offline: true}".to_string())),
        ["device", id, "silent"] => ScriptCommand::Device(owned(id), Some("{silent: true}".to_string())),
        ["device", id, "answers", code] => {
            ScriptCommand::Device(owned(id), Some(format!("{{answers: {}}}", number::<u16>(code)?)))
        }
        ["device", id, "latency", time] => ScriptCommand::Device(owned(id), Some(format!("{{latency: {time}}}"))),
        ["job", name] => ScriptCommand::Document(owned(name), String::new()),
        ["job", name, kind, settings @ ..] => ScriptCommand::Declare(job(name, kind, settings)?),
        ["stop", name] => ScriptCommand::Edit(owned(name), EditVerb::Stop),
        ["continue", name] => ScriptCommand::Edit(owned(name), EditVerb::Continue),
        ["copy", name] => ScriptCommand::Edit(owned(name), EditVerb::Copy),
        ["rerun", name] => ScriptCommand::Edit(owned(name), EditVerb::Rerun),
        ["delete", "registry"] => ScriptCommand::DeleteRegistry,
        ["delete", name] => ScriptCommand::Delete(owned(name)),
        ["restore", name] => ScriptCommand::Restore(owned(name)),
        ["rename", old, new] => ScriptCommand::Rename { old: owned(old), new: owned(new), says_so: false },
        ["rename", old, new, "with", "previousName"] => {
            ScriptCommand::Rename { old: owned(old), new: owned(new), says_so: true }
        }
        ["reformat", name] => ScriptCommand::Reformat(owned(name)),
        ["rewind", commits] => ScriptCommand::Rewind(number(commits)?),
        ["lock", "branch"] => ScriptCommand::Lock(None),
        ["lock", "branch", "at", moment] => ScriptCommand::Lock(Some(parse_moment(moment)?)),
        ["unlock", "branch"] => ScriptCommand::Unlock,
        ["advance", time] => ScriptCommand::Advance(duration(time)?),
        ["crash", side, step @ ..] if !step.is_empty() => crash(side, step)?,
        ["plan"] => ScriptCommand::Plan,
        ["apply", options @ ..] => apply(options)?,
        ["show", name] => ScriptCommand::Show(owned(name), None),
        ["show", name, run] => ScriptCommand::Show(owned(name), Some(owned(run))),
        ["executed"] => ScriptCommand::Executed,
        ["twin", id] => ScriptCommand::Twin(owned(id)),
        ["branch"] => ScriptCommand::Branch,
        _ => return Err(format!("`{line}` is not a command")),
    })
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number that fits here"))
}

fn duration(word: &str) -> Result<SignedDuration, String> {
    word.parse().map_err(|_| format!("`{word}` is not a time such as 90s or 10m"))
}

fn pair(word: &str) -> Result<(String, String), String> {
    let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not KEY=VALUE"))?;
    Ok((key.to_string(), value.to_string()))
}

fn amount(word: &str) -> Result<Amount, String> {
    match word.strip_suffix('%') {
        Some(percent) => Ok(Amount::Percent(number(percent)?)),
        None => Ok(Amount::Count(number(word)?)),
    }
}

fn parse_moment(word: &str) -> Result<Moment, String> {
    Ok(match word {
        "imported" => Moment::Imported,
        "claimed" => Moment::Claimed,
        "started" => Moment::Started,
        "batch" => Moment::Batch,
        "finished" => Moment::Finished,
        _ => return Err(format!("nothing is told as `{word}`")),
    })
}

fn crash(side: &str, step: &[&str]) -> Result<ScriptCommand, String> {
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return Err(format!("a process dies before or after something, not `{side}`")),
    };
    let (name, occurrence) = match step.split_last() {
        Some((last, name)) if !name.is_empty() && last.parse::<u64>().is_ok() => (name, number(last)?),
        _ => (step, 1),
    };
    if occurrence == 0 {
        return Err("steps are counted from 1".to_string());
    }
    Ok(ScriptCommand::Crash(side, name.join(" "), occurrence))
}

fn apply(mut options: &[&str]) -> Result<ScriptCommand, String> {
    let (mut waits, mut accepts_rewind, mut interrupted) = (false, false, None);
    loop {
        options = match options {
            [] => return Ok(ScriptCommand::Apply { waits, accepts_rewind, interrupted }),
            ["--wait", rest @ ..] => {
                waits = true;
                rest
            }
            ["--accept-rewind", rest @ ..] => {
                accepts_rewind = true;
                rest
            }
            ["interrupted", "after", time, rest @ ..] => {
                let after = Duration::try_from(duration(time)?).map_err(|_| format!("`{time}` is in the past"))?;
                interrupted = Some(after);
                rest
            }
            [other, ..] => return Err(format!("apply does not know `{other}`")),
        };
    }
}

fn job(name: &str, kind: &str, settings: &[&str]) -> Result<DeclaredJob, String> {
    let kind = match kind {
        "property" => JobKind::Property,
        "acknowledged" => JobKind::Acknowledged,
        "tags" => JobKind::Tags,
        "twin" => JobKind::Twin,
        "cloud" => JobKind::Cloud,
        "command" => JobKind::Command { idempotent: false },
        "idempotent" => JobKind::Command { idempotent: true },
        _ => return Err(format!("`{kind}` is not a kind of job")),
    };
    let mut job = DeclaredJob::new(name, kind);
    for setting in settings {
        let (key, value) = pair(setting)?;
        match key.as_str() {
            "run" => job.run = number(&value)?,
            "target" => {
                job.target = match value.as_str() {
                    "all" => Target::All,
                    "even" => Target::Even,
                    count => Target::Listed(number(count)?),
                };
            }
            "batch" => job.batch_size = Some(amount(&value)?),
            "canary" => job.canary = Some(number(&value)?),
            "failures" => job.threshold = Some(Threshold { failures: amount(&value)?, per: ThresholdScope::Job }),
            "failuresPerBatch" => {
                job.threshold = Some(Threshold { failures: amount(&value)?, per: ThresholdScope::Batch });
            }
            "retries" => job.retries = number(&value)?,
            "after" => job.after = Some(value),
            "offline" if value == "wait" => job.waits_online = true,
            "minutes" => job.max_execution = Some(number(&value)?),
            _ => return Err(format!("a job has no `{setting}`")),
        }
    }
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::super::run_script;

    /// Runs an invalid script and checks the error.
    #[track_caller]
    fn check(script: &str, expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("# It proves nothing.\n{script}");
        assert_eq!(run_script("s.txt", &text, folder.path()).unwrap_err().to_string(), expect);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        check("devices 3\n\nreboot d-001\n", "s.txt:4: `reboot d-001` is not a command");
        check("devices many", "s.txt:2: `many` is not a number that fits here");
        check("job dim shine", "s.txt:2: `shine` is not a kind of job");
        check("job dim property colour=red", "s.txt:2: a job has no `colour=red`");
        check("job dim\nplan", "s.txt:2: a job has a kind, or its spec in the indented lines that follow");
        check("plan\n  target: {}", "s.txt:3: only a `job` without a kind goes on with indented lines");
        check("crash beside send", "s.txt:2: a process dies before or after something, not `beside`");
        check("crash after send 0", "s.txt:2: steps are counted from 1");
        check("advance soon", "s.txt:2: `soon` is not a time such as 90s or 10m");
        check("apply --now", "s.txt:2: apply does not know `--now`");
        check("lock branch at noon", "s.txt:2: nothing is told as `noon`");
        check("fleet loud", "s.txt:2: `loud` is not KEY=VALUE");
    }

    #[test]
    fn a_command_that_cannot_be_done_is_named() {
        check(
            "devices 2\nshow dim # not there",
            "s.txt:3: job `dim` has no run on the results branch or in the journal",
        );
        check("fleet volume=11", "s.txt:2: a fleet has no `volume`");
        check("delete dim", "s.txt:2: there is no file jobs/dim.yaml");
        check("rewind 99", "s.txt:2: 99 commits cannot be taken back: parent 0 does not exist");
        let places = "devices 2\njob dim property\ncrash after lunch\napply";
        check(places, "s.txt:5: the apply did not die after `lunch` number 1: it never came there");
        check("devices 2\ncrash after import", "s.txt:3: no apply follows this crash");
    }

    #[test]
    fn a_script_says_what_it_proves() {
        let folder = tempfile::tempdir().unwrap();
        let error = run_script("s.txt", "plan\n", folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "s.txt:1: a script opens with a comment that says what it proves");
    }
}
