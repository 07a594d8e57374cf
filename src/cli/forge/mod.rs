//! The arguments of a forge, and the statuses that a daemon or an apply sets there.

pub mod ci;
mod standing;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::error::CommandError;
use crate::diag::{Severity, code};
use crate::execute::Progress;
use crate::forge::{Forge, ForgeError, Given, Kind, Place, Reporter, Token, TokenSource};
use crate::ledger::RunRecord;
use crate::model::fleet::HeldDocuments;
use crate::model::limits::FORGE_LINK_CHARS_MAX;
use crate::model::text::sanitize_line;
use crate::ops::job::{JobFilter, list};
use crate::ops::watch::Note;
use crate::ops::{Environment, Findings, OpsError};
use standing::Standing;

pub use standing::Undone;

/// The token, when no file has it. Not an argument: every user of the machine can read those.
const TOKEN: &str = "FLEETFORM_FORGE_TOKEN";
/// Runs that are looked at for those of the commit with which a daemon begins.
const PAST_RUNS_MAX: usize = 1_000;

/// Which project of which forge, and the token for it.
#[derive(Debug, Clone, Default, Args)]
pub struct ForgeArgs {
    /// Which forge has the repository; known by the remote's address for github.com, gitlab.com and the like. Its token
    /// comes from FLEETFORM_FORGE_TOKEN, or a file
    #[arg(long, value_name = "KIND", value_enum, env = "FLEETFORM_FORGE", help_heading = "Forge")]
    pub forge: Option<ForgeKind>,
    /// The address of its API, when that is not where the remote is, such as https://git.example.com/api/v3
    #[arg(long, value_name = "URL", env = "FLEETFORM_FORGE_API", help_heading = "Forge")]
    pub forge_api: Option<String>,
    /// The project, such as owner/name; that of the remote when absent
    #[arg(long, value_name = "PROJECT", env = "FLEETFORM_FORGE_PROJECT", help_heading = "Forge")]
    pub forge_project: Option<String>,
    /// Read the token from the first line of a file, each time anew
    #[arg(long, value_name = "FILE", env = "FLEETFORM_FORGE_TOKEN_FILE", help_heading = "Forge")]
    pub forge_token_file: Option<PathBuf>,
    /// Where a status of a commit leads, such as a page that shows the fleet
    #[arg(long, value_name = "URL", env = "FLEETFORM_FORGE_LINK", help_heading = "Forge")]
    pub forge_link: Option<String>,
}

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForgeKind {
    Github,
    Gitlab,
    /// And Forgejo
    #[value(alias = "forgejo")]
    Gitea,
    /// A variable that is set and empty is how unit and compose files leave one out
    #[value(name = "", hide = true)]
    Unset,
}

impl ForgeKind {
    fn kind(self) -> Option<Kind> {
        match self {
            ForgeKind::Github => Some(Kind::GitHub),
            ForgeKind::Gitlab => Some(Kind::GitLab),
            ForgeKind::Gitea => Some(Kind::Gitea),
            ForgeKind::Unset => None,
        }
    }
}

/// Reads variables of the environment; `None` for one that is not set, or empty.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a variable of the environment of the process.
#[expect(clippy::disallowed_methods, reason = "a token is no argument, and this room owns the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl ForgeArgs {
    /// Returns the project at its forge; `None` when there is neither a token nor another setting. `fallback` has what
    /// the surroundings of a job of CI say, and `remote` is the address that git has of the repository.
    ///
    /// # Errors
    /// `CommandError::Usage`: something is missing or cannot be used.
    pub fn open(
        &self,
        remote: Option<&str>,
        fallback: Option<&ci::Surroundings>,
        variables: Variables<'_>,
    ) -> Result<Option<Forge>, CommandError> {
        let file = self.forge_token_file.as_ref().filter(|path| !path.as_os_str().is_empty());
        let given = variables(TOKEN);
        let theirs = fallback.and_then(|around| around.token.as_deref());
        let token = match (file, given.as_deref().or(theirs)) {
            (Some(path), _) => Some(TokenSource::File(path.clone())),
            (None, Some(text)) => {
                let token = Token::parse(text).map_err(|why| {
                    let help = format!("Set {TOKEN} to a token of the forge.");
                    CommandError::Usage { what: format!("the token of the forge cannot be used: {why}"), help }
                })?;
                Some(TokenSource::Given(token))
            }
            (None, None) => None,
        };
        let Some(token) = token else {
            if self.forge.and_then(ForgeKind::kind).is_none() {
                return Ok(None);
            }
            let help = format!("Set {TOKEN}, or name a file with --forge-token-file.");
            return Err(CommandError::Usage { what: "there is no token for the forge".to_string(), help });
        };
        // A file that is not there would be found out at the first status.
        token.read()?;
        self.check_link()?;
        let is_given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (api, project) = (is_given(&self.forge_api), is_given(&self.forge_project));
        let place = Place::of(Given {
            kind: self.forge.and_then(ForgeKind::kind).or(fallback.map(|around| around.kind)),
            api: api.as_deref().or(fallback.and_then(|around| around.api.as_deref())),
            project: project.as_deref().or(fallback.and_then(|around| around.project.as_deref())),
            remote,
        })?;
        Ok(Some(Forge::new(place, token)))
    }

    /// Returns where statuses lead.
    pub fn link(&self) -> Option<String> {
        self.forge_link.clone().filter(|link| !link.is_empty())
    }

    fn check_link(&self) -> Result<(), CommandError> {
        let Some(link) = self.link() else { return Ok(()) };
        let is_link = link.starts_with("https://") || link.starts_with("http://");
        if is_link && link.chars().all(|c| c.is_ascii_graphic()) && link.len() <= FORGE_LINK_CHARS_MAX {
            return Ok(());
        }
        Err(CommandError::Usage {
            what: format!("--forge-link `{}` cannot be used", sanitize_line(&link)),
            help: format!("Give it a URL with https:// and at most {FORGE_LINK_CHARS_MAX} characters."),
        })
    }
}

impl From<ForgeError> for CommandError {
    fn from(error: ForgeError) -> CommandError {
        let (what, help) = (error.to_string(), error.help());
        match error {
            ForgeError::Unusable { .. } | ForgeError::NoToken { .. } => CommandError::Usage { what, help },
            ForgeError::Unreachable { .. }
            | ForgeError::Denied { .. }
            | ForgeError::Limited { .. }
            | ForgeError::Moved { .. }
            | ForgeError::Refused { .. }
            | ForgeError::Broken { .. }
            | ForgeError::Strange { .. } => CommandError::Unavailable { what, help },
        }
    }
}

/// Tells a forge how the commits stand that a process takes up.
pub struct Teller {
    standing: Standing,
    reporter: Reporter,
}

impl Teller {
    /// # Errors
    /// The system has no thread.
    pub fn start(forge: Forge, link: Option<String>) -> std::io::Result<Teller> {
        Ok(Teller { standing: Standing::new(link), reporter: Reporter::start(forge)? })
    }

    /// Hears a note of a daemon.
    pub fn note(&mut self, note: &Note<'_>, environment: &Environment) {
        match note {
            Note::TakenUp { fleet, commit, held, findings } => {
                let past = if self.standing.is_new() { past_runs(environment, commit) } else { Vec::new() };
                self.standing.take_up(fleet.name.as_str(), commit, undone(held, findings), &past);
            }
            Note::Trouble { error, is_news: true, passed_over: Some(newest), .. } => {
                self.standing.pass_over(&newest.commit, &first_of(error));
                self.look(false);
            }
            Note::Progress(progress) => self.progress(progress),
            Note::Looked(look) => self.look(look.is_reconciled),
            Note::Started { .. }
            | Note::NoEvents { .. }
            | Note::Fetched { .. }
            | Note::Trouble { .. }
            | Note::Missed { .. }
            | Note::Link { .. }
            | Note::Recovered
            | Note::Reconciling => {}
        }
    }

    /// An apply takes up a commit.
    pub fn take_up(&mut self, fleet: &str, commit: &str, undone: Undone) {
        self.standing.take_up(fleet, commit, undone, &[]);
    }

    /// Hears what a run or an import does.
    pub fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::ImportFinished { import, report } => self.standing.import(import, report.rejected),
            Progress::RunStarted { job, run, counts, .. } => self.standing.start(job, run, *counts),
            Progress::RunFinished { record } | Progress::RunPaused { record, .. } => self.standing.end(record),
            Progress::BranchRepublished { .. }
            | Progress::RegistryPutBack { .. }
            | Progress::RenewsByCommits { .. }
            | Progress::LinkAway { .. }
            | Progress::LinkBack
            | Progress::RunClaimed { .. }
            | Progress::StopSeen { .. }
            | Progress::Advanced { .. }
            | Progress::BatchFinished { .. } => {}
        }
    }

    /// Sends what is new.
    pub fn look(&mut self, is_reconciled: bool) {
        self.standing.look(is_reconciled).into_iter().for_each(|report| self.reporter.tell(report));
    }

    /// Waits some seconds for what is on its way, and returns why something was not sent.
    pub fn end(self) -> Option<ForgeError> {
        self.reporter.end()
    }
}

fn undone(held: &HeldDocuments, findings: &Findings) -> Undone {
    let first = held.rows().next().map(|(address, hold)| format!("{address}: {}", hold.why));
    Undone { held: held.count() as u64, first, frozen: frozen_of(findings) }
}

impl Undone {
    /// Returns what errors keep from being done.
    pub fn of_findings(findings: &Findings) -> Undone {
        let sorted = findings.diagnostics.sorted();
        let first = sorted.iter().find(|one| one.severity == Severity::Error).map(|one| one.detail.clone());
        Undone { held: findings.diagnostics.counts().0 as u64, first, frozen: BTreeSet::new() }
    }

    /// Returns what a failure keeps from being done. One of the surroundings is none of the commit's.
    pub fn of_error(error: &OpsError) -> Undone {
        match error {
            OpsError::Invalid(findings) => Undone::of_findings(findings),
            _ => Undone::default(),
        }
    }

    /// Returns what does not start now, a sentence each.
    pub fn frozen(sentences: impl Iterator<Item = String>) -> Undone {
        Undone { frozen: sentences.collect(), ..Undone::default() }
    }
}

/// Returns what does not start now, without the occurrences of schedules: the clock starts them.
fn frozen_of(findings: &Findings) -> BTreeSet<String> {
    let frozen = findings.diagnostics.iter().filter(|one| one.code == code::FROZEN);
    frozen.map(|one| one.detail.clone()).filter(|detail| !detail.starts_with("The occurrence")).collect()
}

/// Returns the first thing that is wrong.
pub fn first_of(error: &OpsError) -> String {
    match error {
        OpsError::Invalid(findings) => Undone::of_findings(findings).first.unwrap_or_else(|| error.to_string()),
        error => error.to_string(),
    }
}

/// Returns the runs of a commit that the results branch has; none when it cannot be read.
fn past_runs(environment: &Environment, commit: &str) -> Vec<RunRecord> {
    let filter = JobFilter { newest: Some(PAST_RUNS_MAX), ..JobFilter::default() };
    let runs = list(environment, &filter, &mut |_| {}).unwrap_or_default();
    runs.into_iter().map(|run| run.record).filter(|record| record.source_commit == commit).collect()
}
