//! A fleet that is open for planning, by whichever command: its files, what was done before, and its registry.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::history::read_ledger_again;
use super::lease::at_work;
use super::observe::prepare;
use super::occurrences::with_open_occurrences;
use super::preparation::{Preparation, StagedFile};
use super::recorded::Recorded;
use super::warnings::{behind_remote, named, older_registry, only_looks, other_registry, rewound};
use super::{Files, Findings, OnError, PrepareError, TreeChoice, Workspace};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::ledger::Ledger;
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::repo::ResultsBranch;

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be read: it also says how many devices the schedules would select now, who is at work, and why an apply would
    /// hold.
    Show,
    /// To be carried out, or compared with one that is.
    Work,
}

/// A fleet that is open for planning.
pub struct View<'w> {
    pub workspace: &'w Workspace,
    pub files: Files<'w>,
    /// What is declared and can be used, with a job for each occurrence of a schedule that is under way.
    pub declared: Arc<Declared>,
    /// What is declared and cannot be used.
    pub held: HeldDocuments,
    pub branch: ResultsBranch<'w>,
    pub registry: Registry,
    /// What was done before; empty until it is read.
    pub ledger: Ledger,
    /// The jobs and schedules that are declared and had other names before; found when the ledger is read.
    pub renamed: Vec<Name>,
    /// The commit that the files are compared with, when they are planned as a change of it.
    pub base: Option<String>,
}

/// A plan, and what it was made of.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    /// The files of imports that it writes. Their rows stay with the registry's connection until they are applied.
    pub staged: Vec<StagedFile>,
    /// What it has to say about the declared files. With errors an apply refuses it.
    pub diagnostics: Diagnostics,
    pub made_at: Timestamp,
}

impl<'w> View<'w> {
    /// Opens a fleet for planning. Nothing is written.
    ///
    /// # Errors
    /// The files are invalid (with [`OnError::Hold`], the Fleet document), or something cannot be read.
    pub fn open(workspace: &'w Workspace, choice: TreeChoice<'_>, on_error: OnError) -> Result<View<'w>, PrepareError> {
        View::of_files(workspace, Files::read(workspace, choice, on_error)?)
    }

    /// Opens a fleet of which the files have been read. Nothing is written.
    ///
    /// # Errors
    /// The Fleet document is invalid, or something cannot be read.
    pub fn of_files(workspace: &'w Workspace, files: Files<'w>) -> Result<View<'w>, PrepareError> {
        let fleet = &files.usable()?.fleet;
        let branch = workspace.repo.results(&fleet.results.branch);
        let registry = workspace.open_for_reading(fleet)?;
        let mut view = View::unread(workspace, files, branch, registry)?;
        view.add_occurrences()?;
        workspace.kept().with_recorded(|recorded| view.read_ledger(recorded))?;
        Ok(view)
    }

    /// Returns a view of files, a branch and a registry that are open. Occurrences and the ledger are still to be read.
    ///
    /// # Errors
    /// The Fleet document is invalid.
    pub fn unread(
        workspace: &'w Workspace,
        files: Files<'w>,
        branch: ResultsBranch<'w>,
        registry: Registry,
    ) -> Result<View<'w>, PrepareError> {
        let (declared, held) = (Arc::clone(files.usable()?), HeldDocuments::clone(&files.held));
        Ok(View {
            workspace,
            files,
            declared,
            held,
            branch,
            registry,
            ledger: Ledger::default(),
            renamed: Vec::new(),
            base: None,
        })
    }

    /// Looks at other files from now on, those of a newer commit.
    ///
    /// # Errors
    /// The Fleet document is invalid.
    pub fn turn_to(&mut self, files: &Files<'w>) -> Result<(), PrepareError> {
        self.declared = Arc::clone(files.usable()?);
        self.held = HeldDocuments::clone(&files.held);
        self.files = files.clone();
        Ok(())
    }

    /// Adds a job for each occurrence that is under way, as it was claimed. The branch has to be up to its remote's.
    ///
    /// # Errors
    /// The registry or the branch cannot be read.
    pub fn add_occurrences(&mut self) -> Result<(), PrepareError> {
        let place = (&self.workspace.repo, &self.branch);
        if let Cow::Owned(declared) = with_open_occurrences(&self.declared, &self.registry, place)? {
            self.declared = Arc::new(declared);
        }
        Ok(())
    }

    /// Reads what was done before. What is in `recorded` and has not changed is not read again.
    ///
    /// # Errors
    /// The branch or the registry cannot be read, or holds what it should not.
    pub fn read_ledger(&mut self, recorded: &mut Recorded) -> Result<(), PrepareError> {
        self.ledger = read_ledger_again(&self.branch, &self.registry, &self.declared, recorded)?;
        self.follow_renames();
        Ok(())
    }

    /// Adds to the former names of what is declared those that these had before.
    fn follow_renames(&mut self) {
        let has_some = |names: &Vec<Name>| !names.is_empty();
        let jobs = self.declared.jobs.values().filter(|job| has_some(&job.previous_names));
        let schedules = self.declared.schedules.values().filter(|schedule| has_some(&schedule.previous_names));
        let names = jobs.map(|job| &job.name).chain(schedules.map(|schedule| &schedule.name));
        self.renamed = names.cloned().collect();
        for name in &self.renamed {
            let previous = self.declared.previous_names(name);
            let former = self.ledger.former_names(previous);
            if former.len() > previous.len() {
                Arc::make_mut(&mut self.declared).set_previous_names(name, &former);
            }
        }
    }

    /// Observes the fleet and plans.
    ///
    /// # Errors
    /// The registry or the repository cannot be read. What is wrong with the files is in the diagnostics.
    pub fn plan(&mut self, purpose: Purpose, now: Timestamp) -> Result<Planned, PrepareError> {
        let is_shown = purpose == Purpose::Show;
        let other = match is_shown {
            true => {
                let own = self.workspace.registry_place(&self.declared.fleet)?;
                other_registry(&self.workspace.repo, &self.registry, &self.branch, &own)?
            }
            false => None,
        };
        let worker = || match (at_work(&self.branch, now)?, &other) {
            (None, Some(other)) => Ok::<_, PrepareError>(Some(named(other))),
            (worker, _) => Ok(worker),
        };
        let preparation = Preparation {
            at_work: if is_shown { worker()? } else { None },
            is_shown,
            base: self.base.as_deref(),
            ..preparation_of(
                self.workspace,
                (&self.files, &self.declared, &self.held),
                (&self.branch, &self.ledger),
                now,
            )
        };
        let (plan, staged, mut diagnostics) = prepare(&preparation, &mut self.registry)?;
        if is_shown {
            let files = (&self.files, &*self.declared);
            let warning = rewound(&self.workspace.repo, files, &self.registry, &self.branch);
            warning.into_iter().for_each(|warning| diagnostics.push(warning));
            if let Some(other) = other {
                // That it is new says the same.
                diagnostics.take_out(code::NEW_REGISTRY);
                diagnostics.push(only_looks(&self.branch, other, now)?);
            } else {
                older_registry(&self.registry, &self.ledger)?.into_iter().for_each(|warning| diagnostics.push(warning));
            }
            behind_remote(&self.branch)?.into_iter().for_each(|warning| diagnostics.push(warning));
        }
        Ok(Planned { plan, staged, diagnostics, made_at: now })
    }

    /// Returns what a registry lacks that was put back from a backup, a sentence; `None` for one that has all.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn lacks(&self) -> Result<Option<String>, PrepareError> {
        Ok(older_registry(&self.registry, &self.ledger)?.map(|warning| warning.detail))
    }

    /// Returns what a part of a plan has to say about the declared files.
    pub fn diagnose(&self, plan: &Plan) -> Diagnostics {
        let (declared, recorded) = ((&self.files, &*self.declared, &self.held), (&self.branch, &self.ledger));
        super::diagnose::diagnose(plan, &preparation_of(self.workspace, declared, recorded, Timestamp::UNIX_EPOCH), &[])
    }

    /// Returns true for what a policy says against a job.
    pub fn is_refused_by_policy(&self, job: &Name, one: &Diagnostic) -> bool {
        let is_own = |span| self.files.loaded.spans.document_at(span).is_some_and(|(_, name)| name == job);
        [code::REFUSED_BY_POLICY, code::POLICY_UNREADABLE].contains(&one.code) && one.span.is_some_and(is_own)
    }

    /// Returns the digest of the policies that plans of these files are judged by; `None` without any. A saved plan
    /// holds for one digest.
    pub fn policy_digest(&self) -> Option<Digest> {
        self.files.loaded.spans.digest_of(Kind::Policy)
    }

    /// Returns what was found in the files, and `later` findings about them.
    pub fn findings(&self, later: Diagnostics) -> Findings {
        self.files.findings(later)
    }
}

/// Returns what planning reads of a view, without its registry.
fn preparation_of<'a>(
    workspace: &'a Workspace,
    (files, declared, held): (&'a Files<'_>, &'a Declared, &'a HeldDocuments),
    (branch, ledger): (&'a ResultsBranch<'_>, &'a Ledger),
    now: Timestamp,
) -> Preparation<'a> {
    Preparation {
        repo: &workspace.repo,
        tree: &files.tree,
        loaded: &files.loaded,
        declared,
        held,
        branch,
        ledger,
        at_work: None,
        is_shown: false,
        base: None,
        now,
        secrets: workspace.secrets(),
    }
}
