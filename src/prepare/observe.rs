//! Who is meant, and what they have now: from declared jobs and imports to the input of the planner.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::import_files::{organizations_of_rows, templates_of_rows, unusable_file};
use super::needed_secrets::NeededSecrets;
use super::preparation::{Preparation, StagedFile};
use super::scheduled::counts;
use super::selection::selection_of;
use super::templates::Templates;
use crate::diag::Diagnostics;
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, DeviceImport, Removed};
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::kind::Kind;
use crate::model::observation::{DeviceIds, Observation};
use crate::plan::{
    Class, Classified, Frozen, ImportCounts, ImportObservation, Plan, PlanInput, PlanSource, Subject, classify_all,
    contest, plan,
};
use crate::policy::{self, Judges};
use crate::registry::{ImportFailure, ImportSpec, Noted, Registry, Request, Selection, Touched};
use crate::repo::FleetTree;

/// Observes the fleet and plans. Staged files stay with the registry's connection until they are applied.
///
/// # Errors
/// The registry or the repository cannot be read. What the author did wrong is in the diagnostics.
pub(super) fn prepare(
    preparation: &Preparation<'_>,
    registry: &mut Registry,
) -> Result<(Plan, Vec<StagedFile>, Diagnostics), PrepareError> {
    let mut diagnostics = Diagnostics::new();
    registry.imports_mut().clear()?;
    let classified = classify_all(preparation.declared, preparation.ledger);
    let mut changed = changed_imports(preparation)?;
    let subjects = starting(preparation, &changed, &classified);
    let judges = super::policies::judges(preparation, &subjects)?;
    let frozen = super::policies::frozen(preparation, &judges, &subjects);
    // A plan for a person tells what would start if it were not for a freeze.
    let held = held_by(&frozen, preparation.is_shown);
    changed.retain(|(import, _)| !held.contains_key(&Subject::Import(import.name.clone())));
    let (staged, unusable) = stage_imports((preparation, &judges), changed, registry, &mut diagnostics)?;
    if !staged.is_empty() {
        registry.imports_mut().overlay()?;
    }
    let mut templates = Templates::new(preparation.declared);
    let (mut observations, mut mismatching, mut passed_over) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let needed = NeededSecrets::of_all(&classified, preparation, registry)?;
    let (mut fresh, mut continued) = (Vec::new(), Vec::new());
    for Classified { job, class, .. } in &classified {
        if *class == Class::Continue {
            continued.push(*job);
        } else if *class == Class::Run && !held.contains_key(&Subject::Job(job.name.clone())) {
            fresh.push(*job);
            let found = templates.mismatching(job);
            let selected = selection_of(preparation, registry, job, &mut diagnostics)?;
            if !found.is_empty() {
                mismatching.insert(job.name.clone(), found.clone());
            }
            let observation = match selected {
                Some(selected) => {
                    let request = request_of(job, selected, found, (preparation, &mut templates));
                    super::needed_secrets::observe(needed.get(&job.name), request, registry)?
                }
                None => Observation::default(),
            };
            passed_over.insert(job.name.clone(), observation.passed_over.clone());
            observations.insert(job.name.clone(), observation);
        }
    }
    let (mut scheduled, mut gone) = (BTreeMap::new(), Vec::new());
    if preparation.is_shown {
        scheduled = counts(preparation, registry, (&mut templates, &mut diagnostics), &mut passed_over)?;
        gone = super::gone::gone(preparation, registry)?;
    }
    let imports = staged.iter().map(|file| (file.import.clone(), observation_of(file))).collect();
    let input = PlanInput {
        declared: preparation.declared,
        classified,
        source: source_of(preparation),
        base: preparation.branch.tip()?,
        ledger: preparation.ledger,
        observations,
        mismatching,
        imports,
        scheduled,
        gone,
        at_work: preparation.at_work.clone(),
        unusable,
        frozen: held,
        ages: ages(preparation, registry, &fresh)?,
        pending: pending(registry, &fresh, &continued)?,
        held: preparation.held,
        observed_at: preparation.now,
    };
    let plan = plan(input);
    crate::plan::check(&plan);
    diagnostics.extend(super::diagnose::diagnose(&plan, preparation, &staged));
    diagnostics.extend(super::policies::findings(&plan, preparation, (&judges, &frozen), (&staged, registry))?);
    diagnostics.extend(NeededSecrets::findings(needed, &plan));
    diagnostics.extend(super::targets::warnings(&plan, preparation, &passed_over, registry)?);
    Ok((plan, staged, diagnostics))
}

/// Returns the question about the devices of a job.
fn request_of(
    job: &Job,
    (selection, within): (Selection, Vec<String>),
    mismatching: BTreeSet<Name>,
    (preparation, templates): (&Preparation<'_>, &mut Templates<'_>),
) -> Request {
    let touched = touched(&job.action, preparation.declared, templates);
    let passed_over = super::targets::questions(job, preparation);
    Request { selection, within, touched, mismatching, passed_over }
}

/// Returns the imports that have changed since they were applied, with what they would apply.
fn changed_imports<'a>(preparation: &Preparation<'a>) -> Result<Vec<(&'a DeviceImport, ImportSpec)>, PrepareError> {
    let mut changed = Vec::new();
    for import in preparation.declared.imports.values() {
        let spec = import_spec(preparation, import)?;
        if preparation.ledger.applied_imports.get(&import.name) != Some(&spec.digest) {
            changed.push((import, spec));
        }
    }
    Ok(changed)
}

/// Returns what a plan may start, and for a person the schedules.
fn starting(
    preparation: &Preparation<'_>,
    changed: &[(&DeviceImport, ImportSpec)],
    classified: &[Classified<'_>],
) -> Vec<Subject> {
    let imports = changed.iter().map(|(import, _)| Subject::Import(import.name.clone()));
    let fresh = classified.iter().filter(|one| one.class == Class::Run);
    let jobs = fresh.map(|one| Subject::Job(one.job.name.clone()));
    let schedules = preparation.declared.schedules.keys().filter(|_| preparation.is_shown);
    imports.chain(jobs).chain(schedules.map(|name| Subject::Schedule(name.clone()))).collect()
}

/// Returns what the planner is to hold.
fn held_by(frozen: &BTreeMap<Subject, policy::Frozen>, is_shown: bool) -> BTreeMap<Subject, Frozen> {
    let held = frozen.iter().filter(|_| !is_shown);
    held.map(|(subject, frozen)| (subject.clone(), Frozen { until: frozen.until, why: frozen.phrase() })).collect()
}

/// Returns where the declared files are from. A plan for a person names the commit of a work tree that declares what its
/// commit does.
fn source_of(preparation: &Preparation<'_>) -> PlanSource {
    let FleetTree { commit, tree, .. } = preparation.tree;
    let digest = preparation.loaded.digest.to_string();
    let is_asked = preparation.is_shown && commit.is_none();
    match is_asked.then(|| super::rewind::clean_source(preparation)).flatten() {
        Some((commit, tree)) => PlanSource { commit: Some(commit), tree, digest },
        None => PlanSource { commit: commit.clone(), tree: tree.clone(), digest },
    }
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
            blocked: found.blocked,
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
    (preparation, judges): (&Preparation<'_>, &Judges),
    changed: Vec<(&DeviceImport, ImportSpec)>,
    registry: &mut Registry,
    diagnostics: &mut Diagnostics,
) -> Result<(Vec<StagedFile>, BTreeSet<Name>), PrepareError> {
    let (mut staged, mut unusable) = (Vec::new(), BTreeSet::new());
    let watched = super::policies::watched_tags(judges);
    for (import, mut spec) in changed {
        spec.watched_tags.clone_from(&watched);
        let file = preparation.tree.open(&import.file)?;
        match registry.imports_mut().stage(&spec, &mut { file }) {
            Ok(found) => staged.push(StagedFile { import: import.name.clone(), spec, found }),
            Err(ImportFailure::Registry(error)) => return Err(error.into()),
            Err(ImportFailure::File { line, message, help }) => {
                diagnostics.push(unusable_file(preparation.loaded, import, (line, &message), help));
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
    let declared = preparation.declared;
    let (templates, organizations) = (templates_of_rows(declared, import), organizations_of_rows(declared, import));
    let mut parts = vec![spec, organization.clone().unwrap_or_default(), content];
    parts.extend(templates.iter().flatten().cloned());
    parts.extend(
        organizations.iter().flatten().flat_map(|(name, path): (&String, &String)| [name.clone(), path.clone()]),
    );
    let declared = preparation.declared.imports.keys();
    let held = preparation.held.of_kind(Kind::DeviceImport).map(|(name, _)| name);
    let others = declared.chain(held).filter(|name| **name != import.name).map(Name::to_string).collect();
    Ok(ImportSpec {
        name: import.name.to_string(),
        format: import.format,
        template: import.template.as_ref().map(Name::to_string),
        digest: Digest::of_texts(parts.iter().map(String::as_str)),
        templates,
        organizations,
        others,
        organization,
        simulated: import.simulated,
        removed: import.removed,
        watched_tags: Vec::new(),
        // Who may write the import may not write what is elsewhere.
        is_confined: preparation.declared.access.is_some(),
    })
}

fn touched(action: &Action, declared: &Declared, templates: &mut Templates<'_>) -> Touched {
    match action {
        Action::Property(_) | Action::CloudProperty(_) | Action::Tags(_) | Action::Twin { .. } => {
            let marks = declared.marks(action);
            Touched::Sections { assignments: marks.assignments_of(action), marks }
        }
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
