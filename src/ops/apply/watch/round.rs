//! One reconcile: plan what can be planned, and begin it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::super::guards::behind;
use super::super::upstream::{Upstream, upstream_of};
use super::super::{Applied, Apply, ApplyOptions};
use super::source::Seen;
use super::{Daemon, Note, Session};
use crate::diag::{Diagnostics, Severity};
use crate::execute::Progress;
use crate::link::{DeviceLink, SimulatedDevices};
use crate::manifest::{Kind, Loaded, error_places, hold_at};
use crate::model::fleet::{Declared, HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::job::Job;
use crate::ops::workspace::findings_of;
use crate::ops::{OpsError, Workspace};
use crate::plan::Agenda;
use crate::prepare::{HistoryError, Known, with_open_occurrences};
use crate::registry::{ExclusionFailure, Registry};

/// What an apply works with.
type Tools<'a> = (&'a mut Registry, &'a mut (dyn DeviceLink + 'static), Option<&'a mut Upstream>, &'a mut Known);

/// Returns an apply of what was seen, with other documents than those that it declares if need be.
pub(super) fn apply_of<'a>(
    workspace: &'a Workspace,
    seen: &'a Seen<'_>,
    (declared, held): (&'a Declared, &'a HeldDocuments),
    (registry, link, upstream, known): Tools<'a>,
    options: &'a ApplyOptions,
) -> Apply<'a> {
    Apply {
        declared,
        held,
        repo: &workspace.repo,
        loaded: &seen.loaded,
        tree: &seen.tree,
        branch: workspace.repo.results(&declared.fleet.results.branch),
        upstream,
        known,
        registry,
        link,
        heeds_stops: false,
        looked_at: seen.head.clone(),
        head: seen.head.clone(),
        options,
    }
}

impl Daemon<'_> {
    /// Plans what is declared now and begins it. What the plan refuses is held, and the rest goes on.
    pub(super) fn reconcile(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        self.open_session(now)?;
        let Some(seen) = &self.seen else { return Ok(()) };
        let Some(session) = &mut self.session else { return Ok(()) };
        let Session { registry, link, applied, reconciled, .. } = session;
        let branch = self.workspace.repo.results(&seen.declared.fleet.results.branch);
        if let Some(upstream) = self.upstream.as_mut().filter(|upstream| upstream.lease().is_none()) {
            upstream.sync(&branch)?;
        }
        let mut declared = match with_open_occurrences(&seen.declared, registry, (&self.workspace.repo, &branch))? {
            Cow::Borrowed(_) => Arc::clone(&seen.declared),
            Cow::Owned(declared) => Arc::new(declared),
        };
        let mut held = seen.held.clone();
        let mut found = Diagnostics::new();
        let (planned, agenda) = loop {
            let tools = (&mut *registry, &mut **link, self.upstream.as_mut(), &mut self.known);
            let mut apply = apply_of(self.workspace, seen, (&declared, &held), tools, &self.options);
            apply.republish(&mut |progress| tell(&Note::Progress(progress)))?;
            match apply.check_rewind() {
                // What it does not come after may be what is being fetched.
                Err(OpsError::History(HistoryError::Rewound { head, last })) if self.source.is_being_fetched() => {
                    return Err(behind(&head, &last));
                }
                checked => checked?,
            }
            let (planned, diagnostics) = apply.plan_to_work(now, &self.running)?;
            let refused = refused(&seen.loaded, &diagnostics);
            if !diagnostics.has_errors() {
                let mut agenda = apply.agenda(&planned, (seen.seen_at, now))?;
                tell_refusals(&mut agenda, &self.held);
                let fresh: Vec<Job> =
                    agenda.start.iter().filter(|job| is_fresh(job, &declared, &held)).cloned().collect();
                if fresh.is_empty() {
                    found.extend(diagnostics);
                    apply.settle_agenda(&agenda, &planned, now)?;
                    for missed in &agenda.missed {
                        let (job, run) = (missed.job.name.as_str(), missed.job.run.as_str());
                        tell(&Note::Missed { job, run, reason: &missed.reason });
                    }
                    break (planned, agenda);
                }
                // Planned again with what is due.
                let fresh = fresh.into_iter().map(|job| (job.name.clone(), Arc::new(job)));
                Arc::make_mut(&mut declared).jobs.extend(fresh);
                continue;
            }
            // Warnings are told by the plan that is carried out.
            let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
            errors.for_each(|error| found.push(error.clone()));
            if leave_out(refused, Arc::make_mut(&mut declared), &mut held) == 0 {
                return Err(OpsError::Invalid(Box::new(findings_of(&seen.loaded, found))));
            }
        };
        if !seen.is_told.replace(true) || self.held != held {
            self.held.clone_from(&held);
            tell_taken_up(seen, &held, found, tell);
        }
        let tools = (registry, &mut **link, self.upstream.as_mut(), &mut self.known);
        let mut apply = apply_of(self.workspace, seen, (&declared, &held), tools, &self.options);
        let mut observer = |progress: &Progress| tell(&Note::Progress(progress));
        apply.begin(&planned, &BTreeSet::new(), &mut self.running, applied, &mut observer)?;
        *reconciled = Some(seen.head.clone());
        self.is_due = false;
        self.awaits_answer = false;
        self.next_due = agenda.next;
        self.agenda_at = agenda.look_again_at;
        Ok(())
    }
}

impl Daemon<'_> {
    /// Takes the lock and opens the registry, unless that was done.
    fn open_session(&mut self, now: Timestamp) -> Result<(), OpsError> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let fleet = &seen.declared.fleet;
        let is_other_link = |session: &Session| session.link_config != fleet.link && self.running.is_empty();
        let is_new = self.session.as_ref().is_none_or(is_other_link);
        let is_other = |upstream: &Upstream| upstream.lease().is_none() && !upstream.is_of(&self.workspace.repo, fleet);
        if self.upstream.as_ref().is_none_or(is_other) {
            self.upstream = upstream_of(&self.workspace.repo, fleet, (&self.owner, &self.options), &self.waker, now)?;
        }
        if !is_new {
            return Ok(());
        }
        self.session = None;
        let branch = self.workspace.repo.results(&fleet.results.branch);
        let own = self.workspace.own_registry(fleet)?;
        let lock = match (own.lock(&self.owner), &mut self.upstream) {
            (Ok(lock), upstream) => {
                upstream.iter_mut().for_each(|upstream| upstream.take_lock(&lock));
                Some(lock)
            }
            (Err(ExclusionFailure::Held(holder)), Some(upstream)) => {
                if !upstream.overrules(holder.as_deref(), &branch, now)? {
                    return Err(ExclusionFailure::Held(holder).into());
                }
                None
            }
            (Err(failure), _) => return Err(failure.into()),
        };
        let mut registry = self.options.ports.registry(own.open_for_writing()?);
        if let Some(upstream) = &mut self.upstream {
            // The fence is not put up in a registry that was just opened.
            upstream.forget();
            if lock.is_none() {
                // And without the lock it alone keeps others away.
                upstream.sync(&branch)?;
                upstream.acquire(&branch, &mut registry, now)?;
            }
        }
        self.session = Some(Session {
            registry,
            link: self.options.ports.link(SimulatedDevices::new(&fleet.link, self.workspace.repo.folder())?),
            link_config: fleet.link.clone(),
            applied: Applied::default(),
            reconciled: None,
            _lock: lock,
        });
        Ok(())
    }
}

/// Says of occurrences that nothing started why that was, when the last plan has refused them.
fn tell_refusals(agenda: &mut Agenda, refused: &HeldDocuments) {
    for missed in agenda.missed.iter_mut().filter(|missed| missed.is_late) {
        if let Some(why) = refused.why(Kind::Schedule.as_str(), &missed.job.name) {
            missed.reason.push_str(&format!(" It was refused: {why}"));
        }
    }
}

fn tell_taken_up(seen: &Seen<'_>, held: &HeldDocuments, found: Diagnostics, tell: &mut dyn FnMut(&Note<'_>)) {
    let findings = findings_of(&seen.loaded, found);
    let fleet = seen.declared.fleet.name.as_str();
    tell(&Note::TakenUp { fleet, commit: &seen.head, held, findings: &findings });
}

/// Returns true for an occurrence that is due and not yet planned for.
fn is_fresh(job: &Job, declared: &Declared, held: &HeldDocuments) -> bool {
    !declared.jobs.contains_key(&job.name) && held.why(Kind::Schedule.as_str(), &job.name).is_none()
}

/// Returns the documents that the errors of a plan are about, each with the first sentence that says why.
fn refused(loaded: &Loaded, diagnostics: &Diagnostics) -> BTreeMap<(Kind, Name), Hold> {
    let mut refused = BTreeMap::new();
    for error in diagnostics.iter().filter(|one| one.severity == Severity::Error) {
        for place in error_places(error) {
            if let Some((kind, name)) = loaded.spans.document_at(place) {
                refused.entry((kind, name.clone())).or_insert_with(|| hold_at(error, place, &loaded.sources));
            }
        }
    }
    refused
}

/// Holds documents and returns how many.
fn leave_out(refused: BTreeMap<(Kind, Name), Hold>, declared: &mut Declared, held: &mut HeldDocuments) -> usize {
    let mut count = 0;
    for ((kind, name), hold) in refused {
        let is_declared = match kind {
            // Of a schedule, the occurrence that is due: the others stay due at their time.
            Kind::Job => declared.jobs.remove(&name).is_some(),
            Kind::DeviceImport => declared.imports.remove(&name).is_some(),
            Kind::Schedule => declared.jobs.remove(&name).is_some() || declared.schedules.remove(&name).is_some(),
            // A plan refuses what is to be done, and that is the three above.
            Kind::Fleet | Kind::Organization | Kind::DeviceTemplate | Kind::DeviceGroup | Kind::EdgeManifest => false,
        };
        if is_declared {
            held.documents.insert((kind.as_str().to_string(), name), hold);
            count += 1;
        }
    }
    count
}
