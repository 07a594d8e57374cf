//! Who is meant, and what they have now: from declared jobs and imports to the input of the planner.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::templates::Templates;
use super::{PrepareError, failed_devices};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::ledger::{Ledger, RunKey, Standing};
use crate::manifest::{Kind, Loaded};
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, DeviceImport, HeldDocuments, Removed};
use crate::model::id::Name;
use crate::model::job::{Action, Job, Selector};
use crate::model::observation::{DeviceIds, Observation};
use crate::plan::{
    Class, Classified, ImportCounts, ImportObservation, Plan, PlanInput, Source, classify_all, contest, plan,
};
use crate::registry::{ImportFailure, ImportSpec, Noted, Registry, Request, Selection, StagedImport, Touched};
use crate::repo::{FleetTree, Repo, ResultsBranch};

/// What planning reads.
pub struct Preparation<'a> {
    pub repo: &'a Repo,
    pub loaded: &'a Loaded,
    pub declared: &'a Declared,
    pub tree: &'a FleetTree<'a>,
    pub branch: &'a ResultsBranch<'a>,
    pub ledger: &'a Ledger,
    /// Documents of the tree that cannot be used; nothing without a daemon.
    pub held: &'a HeldDocuments,
    /// Who has the right to work now and is somebody else: of no use to whoever has it.
    pub at_work: Option<String>,
    /// Say how many devices the schedules would select now; of no use to whoever starts them.
    pub counts_scheduled: bool,
    pub now: Timestamp,
}

/// An import file that has been compared with the registry and is ready to be written.
#[derive(Debug, Clone)]
pub struct StagedFile {
    pub import: Name,
    pub spec: ImportSpec,
    pub found: StagedImport,
}

/// Observes the fleet and plans. Staged files stay with the registry's connection until they are applied.
///
/// # Errors
/// The registry or the repository cannot be read. What the author did wrong is in the diagnostics.
pub fn prepare(
    preparation: &Preparation<'_>,
    registry: &mut Registry,
) -> Result<(Plan, Vec<StagedFile>, Diagnostics), PrepareError> {
    let mut diagnostics = Diagnostics::new();
    registry.imports_mut().clear()?;
    let (staged, unusable) = stage_imports(preparation, registry, &mut diagnostics)?;
    if !staged.is_empty() {
        registry.imports_mut().overlay()?;
    }
    let mut observations = BTreeMap::new();
    let mut templates = Templates::new(preparation.declared);
    let mut mismatching: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut passed_over = BTreeMap::new();
    let (mut fresh, mut continued) = (Vec::new(), Vec::new());
    for Classified { job, class, .. } in classify_all(preparation.declared, preparation.ledger) {
        if class == Class::Continue {
            continued.push(job);
        } else if class == Class::Run {
            fresh.push(job);
            let found = templates.mismatching(job);
            let request = selection_of(preparation, registry, job, &mut diagnostics)?;
            if !found.is_empty() {
                mismatching.insert(job.name.clone(), found.clone());
            }
            let request = request.map(|(selection, within)| {
                let touched = touched(&job.action, preparation.declared, &mut templates);
                let passed_over = super::targets::questions(job, preparation);
                Request { selection, within, touched, mismatching: found, passed_over }
            });
            let observation = match request {
                Some(request) => registry.devices().observe(&request)?,
                None => Observation::default(),
            };
            passed_over.insert(job.name.clone(), observation.passed_over.clone());
            observations.insert(job.name.clone(), observation);
        }
    }
    let scheduled = match preparation.counts_scheduled {
        true => super::scheduled::counts(preparation, registry, &mut passed_over)?,
        false => BTreeMap::new(),
    };
    let imports = staged.iter().map(|file| (file.import.clone(), observation_of(file))).collect();
    let input = PlanInput {
        declared: preparation.declared,
        source: Source {
            commit: preparation.tree.commit.clone(),
            tree: preparation.tree.tree.clone(),
            digest: preparation.loaded.digest.to_string(),
        },
        base: preparation.branch.tip()?,
        ledger: preparation.ledger,
        observations,
        mismatching,
        imports,
        scheduled,
        at_work: preparation.at_work.clone(),
        unusable,
        ages: ages(preparation, registry, &fresh)?,
        pending: pending(registry, &fresh, &continued)?,
        held: preparation.held,
        observed_at: preparation.now,
    };
    let plan = plan(input);
    crate::plan::check(&plan);
    diagnostics.extend(super::diagnose(&plan, preparation, &staged));
    diagnostics.extend(super::targets::warnings(&plan, preparation, &passed_over, registry)?);
    Ok((plan, staged, diagnostics))
}

/// Returns how long ago each of some jobs was last changed, in commits; nothing for a single one, which has no order.
fn ages(
    preparation: &Preparation<'_>,
    registry: &Registry,
    jobs: &[&Job],
) -> Result<BTreeMap<Name, u64>, PrepareError> {
    if jobs.len() < 2 {
        return Ok(BTreeMap::new());
    }
    let loaded = preparation.loaded;
    let path_of = |job: &&Job| {
        let span = loaded.spans.span(&job.name, "")?;
        Some((job.name.clone(), loaded.sources.path(span.file).to_string()))
    };
    let paths: BTreeMap<Name, String> = jobs.iter().filter_map(path_of).collect();
    let base = registry.branch_copy().noted(Noted::AppliedHead)?;
    let ages = preparation.repo.ages(&paths.values().cloned().collect(), base.as_deref());
    Ok(paths.into_iter().filter_map(|(name, path)| Some((name, *ages.get(&path)?))).collect())
}

/// Returns those devices of jobs that go on that are not terminal, for jobs that write what a new one writes too.
fn pending(registry: &Registry, fresh: &[&Job], continued: &[&Job]) -> Result<BTreeMap<Name, DeviceIds>, PrepareError> {
    let mut pending = BTreeMap::new();
    let is_contested = |job: &Job| fresh.iter().any(|other| contest(&job.action, &other.action));
    let mut contested = continued.iter().filter(|job| is_contested(job)).peekable();
    if contested.peek().is_none() {
        return Ok(pending);
    }
    let journal = registry.journal().unclosed()?;
    for job in contested {
        let Some(run) = journal.iter().find(|run| (&run.job, &run.run) == (&job.name, &job.run)) else { continue };
        pending.insert(job.name.clone(), registry.journal().pending_targets(run.run_id)?);
    }
    Ok(pending)
}

fn observation_of(file: &StagedFile) -> ImportObservation {
    let found = &file.found;
    ImportObservation {
        digest: file.spec.digest,
        counts: ImportCounts {
            new: found.new,
            updated: found.updated,
            renamed: found.renamed,
            unchanged: found.unchanged,
            deleted: found.deleted,
            removed: found.removed,
            is_deletion: file.spec.removed == Removed::Delete,
            kept: found.kept,
            rejected: found.rejected,
            rows: found.rows,
        },
    }
}

fn stage_imports(
    preparation: &Preparation<'_>,
    registry: &mut Registry,
    diagnostics: &mut Diagnostics,
) -> Result<(Vec<StagedFile>, BTreeSet<Name>), PrepareError> {
    let (mut staged, mut unusable) = (Vec::new(), BTreeSet::new());
    for import in preparation.declared.imports.values() {
        let spec = import_spec(preparation, import)?;
        if preparation.ledger.applied_imports.get(&import.name) == Some(&spec.digest) {
            continue;
        }
        let file = preparation.tree.open(&import.file)?;
        match registry.imports_mut().stage(&spec, &mut { file }) {
            Ok(found) => staged.push(StagedFile { import: import.name.clone(), spec, found }),
            Err(ImportFailure::Registry(error)) => return Err(error.into()),
            Err(ImportFailure::File { line, message, help }) => {
                let span = preparation.loaded.spans.span_of(Kind::DeviceImport, &import.name, "/spec/file");
                let detail = format!("{}, line {line}: {message}.", import.file);
                let mut diagnostic = Diagnostic::new(code::IMPORT_FILE, span, detail);
                diagnostic.help = help;
                diagnostics.push(diagnostic);
                unusable.insert(import.name.clone());
            }
        }
    }
    for owner in registry.imports().owners_to_ask()? {
        if let Some(import) = preparation.declared.imports.get(owner.as_str()) {
            let mut file = preparation.tree.open(&import.file)?;
            registry.imports_mut().ask_owner(&owner, import.format, &mut file)?;
        }
    }
    for StagedFile { spec, found, .. } in &mut staged {
        registry.imports_mut().settle(spec, found)?;
    }
    Ok((staged, unusable))
}

/// The digest covers whatever decides what the rows become: the spec, the organization's place and the file's content.
fn import_spec(preparation: &Preparation<'_>, import: &DeviceImport) -> Result<ImportSpec, PrepareError> {
    let content = preparation.tree.content_id(&import.file)?;
    let spec = import.spec_digest.to_string();
    let organization = import.organization.clone();
    let parts = [spec.as_str(), organization.as_deref().unwrap_or_default(), content.as_str()];
    let declared = preparation.declared.imports.keys();
    let held = preparation.held.of_kind(Kind::DeviceImport.as_str()).map(|(name, _)| name);
    let others = declared.chain(held).filter(|name| **name != import.name).map(Name::to_string).collect();
    Ok(ImportSpec {
        name: import.name.to_string(),
        format: import.format,
        template: import.template.as_ref().map(Name::to_string),
        digest: Digest::of_texts(parts),
        others,
        organization,
        simulated: import.simulated,
        removed: import.removed,
    })
}

/// Returns the devices that a job means: a selection, and the organizations that bound it. `None` when its target cannot be told,
/// which is in the diagnostics then unless what it names is not declared.
pub(super) fn selection_of(
    preparation: &Preparation<'_>,
    registry: &Registry,
    job: &Job,
    diagnostics: &mut Diagnostics,
) -> Result<Option<(Selection, Vec<String>)>, PrepareError> {
    let declared = preparation.declared;
    let mut within = Vec::new();
    if let Some(name) = &job.organization {
        // Only an occurrence that was claimed may have outlived what it names. Without its bounds it would mean others.
        let Some(organization) = declared.organizations.get(name) else { return Ok(None) };
        within.push(organization.path.clone());
    }
    let parse = |text: &str| crate::query::parse(text).expect("queries were checked with the files");
    let selection = match &job.target.selector {
        Selector::Query(text) => Selection::Matching { template: None, conditions: vec![parse(text)] },
        Selector::Group(name) => {
            let Some(group) = declared.groups.get(name) else { return Ok(None) };
            within.extend(group.organization.clone());
            let template = group.template.as_ref().map(Name::to_string);
            Selection::Matching { template, conditions: vec![parse(&group.query)] }
        }
        Selector::Devices(ids) => Selection::Listed(ids.iter().map(ToString::to_string).collect()),
        Selector::FailedOf { job: other, run } => {
            if !matches!(preparation.ledger.standing(other, run), Standing::Ended(..)) {
                if job.after.contains(other) {
                    // It is resolved when the other job has ended.
                    return Ok(None);
                }
                let span = preparation.loaded.spans.span(&job.name, "/spec/target/failedOf");
                let detail = format!(
                    "Job `{}` takes the failed devices of job `{other}` run {run}, which has not ended.",
                    job.name
                );
                let help = format!("Add `after: [{other}]`, or wait until it has ended.");
                diagnostics.push(Diagnostic::new(code::SOURCE_NOT_ENDED, span, detail).with_help(help));
                return Ok(None);
            }
            let key = RunKey { fleet: declared.fleet.name.clone(), job: other.clone(), run: run.clone() };
            Selection::Listed(failed_devices(preparation.branch, registry, &key)?)
        }
    };
    Ok(Some((selection, within)))
}

fn touched(action: &Action, declared: &Declared, templates: &mut Templates<'_>) -> Touched {
    match action {
        Action::Property(_) | Action::CloudProperty(_) | Action::Tags(_) => match action.patch() {
            Some((section, patch)) => Touched::Section { section, assignments: patch.assignments() },
            None => Touched::Nothing,
        },
        Action::Command(_) => Touched::Nothing,
        Action::DeviceTemplate(name) => {
            Touched::Template { wanted: name.to_string(), desired_names: templates.desired_names(name) }
        }
        Action::EdgeManifest(name) => match declared.manifest_digest(action) {
            Some(digest) => Touched::EdgeManifest { wanted: name.to_string(), digest },
            None => Touched::Nothing,
        },
    }
}
