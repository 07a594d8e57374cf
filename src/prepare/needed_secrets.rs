//! The secrets that a job needs: whether they are here, and which devices have them already.

use std::collections::BTreeMap;

use super::PrepareError;
use super::preparation::Preparation;
use super::secrets::{SecretFault, sent_by};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::limits;
use crate::model::observation::Observation;
use crate::model::patch::{Section, violations};
use crate::model::secret::{SecretKey, SecretRef, Secrets, each, places};
use crate::plan::{Class, Classified, Plan, PlannedChange, Subject};
use crate::registry::{Registry, RegistryError, Request, Touched};

/// The secrets of a job.
pub(super) struct NeededSecrets {
    /// Those that can be read here, marked as the registry does.
    secrets: Secrets,
    /// What there is to say of those that cannot, when the job starts or goes on.
    findings: Diagnostics,
}

impl NeededSecrets {
    /// Returns the secrets of the jobs that start or go on and have some.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn of_all(
        classified: &[Classified<'_>],
        preparation: &Preparation<'_>,
        registry: &Registry,
    ) -> Result<BTreeMap<Name, NeededSecrets>, PrepareError> {
        let mut needed = BTreeMap::new();
        for Classified { job, class, .. } in classified {
            let secrets = NeededSecrets::of(job, class, preparation, registry)?;
            needed.extend(secrets.map(|secrets| (job.name.clone(), secrets)));
        }
        Ok(needed)
    }

    /// Reads the secrets of a job that starts or goes on; `None` for a job without any. What cannot be read is an error
    /// when the plan is to be carried out: the job would have nothing to send. To whom a plan is shown, the secrets of
    /// another machine are not missing.
    fn of(
        job: &Job,
        class: &Class<'_>,
        preparation: &Preparation<'_>,
        registry: &Registry,
    ) -> Result<Option<NeededSecrets>, PrepareError> {
        if !matches!(class, Class::Run | Class::Continue) || !has_secrets(&job.action) {
            return Ok(None);
        }
        let sent = sent_by(job);
        let store = preparation.secrets;
        let was_known = |reference: &SecretRef| *class == Class::Continue && store.has(reference);
        let (mut is_complete, mut findings) = (true, Diagnostics::new());
        for (reference, found) in store.read(&sent) {
            let Err(fault) = found else { continue };
            is_complete = false;
            let is_told = match preparation.is_shown {
                true => fault != SecretFault::NotAllowed,
                false => !was_known(&reference),
            };
            if is_told {
                findings.push(missing(job, &reference, fault, preparation));
            }
        }
        if is_complete && let Some(detail) = too_large(job, &store.last(&sent, &SecretKey::default())) {
            let span = preparation.loaded.spans.span(&job.name, &pointer_of(job, &[]));
            findings.push(
                Diagnostic::new(code::SECRET_MISSING, span, detail)
                    .with_help("Shorten the secrets, or send them in several jobs.".to_string()),
            );
        }
        let secrets = match registry.secret_key()? {
            Some(key) if is_complete => store.last(&sent, &key),
            // Without a key no device has a secret.
            Some(_) | None => Secrets::default(),
        };
        Ok(Some(NeededSecrets { secrets, findings }))
    }

    /// Returns what there is to say of the secrets of jobs that a plan starts or goes on with.
    pub fn findings(needed: BTreeMap<Name, NeededSecrets>, plan: &Plan) -> Diagnostics {
        let mut found = Diagnostics::new();
        let goes_on = |name: &Name| {
            let is_of = |change: &&PlannedChange| change.subject == Subject::Job(name.clone());
            plan.changes.iter().find(is_of).is_some_and(|change| change.action().goes_on())
        };
        for (_, secrets) in needed.into_iter().filter(|(name, one)| !one.findings.is_empty() && goes_on(name)) {
            found.extend(secrets.findings);
        }
        found
    }

    /// Replaces references in what a registry is asked for.
    fn mark(&self, touched: &mut Touched) {
        if let Touched::Sections { assignments, .. } = touched {
            assignments.iter_mut().for_each(|(_, one)| one.value = self.secrets.marked(&one.value));
        }
    }

    /// Replaces marks in what was observed of devices, for a planner that knows references only. `wanted` has them.
    fn compare(&self, wanted: &Touched, observation: &mut Observation) {
        let Touched::Sections { assignments, .. } = wanted else { return };
        for entry in &mut observation.table {
            for ((_, wanted), before) in assignments.iter().zip(&mut entry.values) {
                if let Some(before) = before.as_mut().filter(|_| !places(&wanted.value).is_empty()) {
                    *before = self.secrets.compared(&wanted.value, before);
                }
            }
        }
    }
}

/// Observes the devices of a job, of which a registry knows the marks of secrets and the planner the references.
///
/// # Errors
/// The registry cannot be read.
pub(super) fn observe(
    secrets: Option<&NeededSecrets>,
    mut request: Request,
    registry: &Registry,
) -> Result<Observation, RegistryError> {
    let Some(secrets) = secrets else { return registry.devices().observe(&request) };
    let wanted = request.touched.clone();
    secrets.mark(&mut request.touched);
    let mut observation = registry.devices().observe(&request)?;
    secrets.compare(&wanted, &mut observation);
    Ok(observation)
}

/// Returns true for an action with a reference to a secret.
pub(super) fn has_secrets(action: &Action) -> bool {
    match action {
        Action::Command(command) => !places(&command.payload).is_empty(),
        other => other.desired().is_some_and(|patch| patch.members().values().any(|value| !places(value).is_empty())),
    }
}

/// Returns the place of a value that a job sends.
fn pointer_of(job: &Job, keys: &[String]) -> String {
    let sent = match &job.action {
        Action::Command(_) => "/spec/action/command/payload".to_string(),
        action => format!("/spec/action/{}", action.templated_place()),
    };
    let keys = keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")));
    std::iter::once(sent).chain(keys).collect()
}

/// Returns the diagnostic of a secret that cannot be read here, at its first reference: an error when it is needed now.
fn missing(job: &Job, reference: &SecretRef, fault: SecretFault, preparation: &Preparation<'_>) -> Diagnostic {
    let mut place = Vec::new();
    each(&sent_by(job), &mut |keys, found| {
        if place.is_empty() && found == reference {
            place = keys.to_vec();
        }
    });
    let span = preparation.loaded.spans.span(&job.name, &pointer_of(job, &place));
    let (code, so) = match preparation.is_shown {
        true => {
            (code::SECRET_UNKNOWN, "this plan does not know which devices have it, and an apply would hold the job")
        }
        false => (code::SECRET_MISSING, "nothing of the job is started without it"),
    };
    let detail = format!("Job `{}` sends the secret `{reference}`, and it {fault}: {so}.", job.name);
    Diagnostic::new(code, span, detail).with_help(fault.help(reference))
}

/// Returns why what a job sends is too large with its secrets in it, a sentence.
fn too_large(job: &Job, secrets: &Secrets) -> Option<String> {
    let sent = secrets.sent(&sent_by(job));
    let (bytes, most) = match &job.action {
        Action::Command(_) => (sent.to_string().len(), limits::PAYLOAD_BYTES_MAX),
        _ => (sent.to_string().len(), limits::PATCH_BYTES_MAX),
    };
    let name = &job.name;
    if bytes > most {
        return Some(format!(
            "With its secrets job `{name}` sends {bytes} bytes as JSON, and at most {most} are allowed."
        ));
    }
    let members = sent.as_object().filter(|_| job.action.desired().is_some())?;
    let broken = violations(members, Section::Desired).into_iter().next()?;
    Some(format!("With its secrets job `{name}` breaks a rule of twins: {}.", broken.rule))
}
