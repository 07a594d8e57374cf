//! Checks every declared file and says everything that is wrong.

use super::{Environment, Findings, OpsError, Workspace};
use crate::model::kind::Kind;
use crate::prepare::{Files, OnError, TreeChoice, check_import_files};

/// What a validation found.
#[derive(Debug, Clone)]
pub struct Validated {
    pub findings: Findings,
    /// The fleet's folder from the root of the repository, with `/` at its end: what tools of a CI want before the
    /// paths.
    pub prefix: String,
    /// Documents of each kind, by kind; empty when there are errors.
    pub documents: Vec<(Kind, usize)>,
}

/// Validates the work tree.
///
/// # Errors
/// The files cannot be read. What is wrong in them is in the findings.
pub fn validate(environment: &Environment) -> Result<Validated, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read_all(&workspace, TreeChoice::WorkTree, OnError::Refuse)?;
    let documents = files.declared.as_ref().map_or_else(Vec::new, |declared| {
        vec![
            (Kind::Fleet, 1),
            (Kind::Organization, declared.organizations.len()),
            (Kind::DeviceTemplate, declared.templates.len()),
            (Kind::DeviceGroup, declared.groups.len()),
            (Kind::EdgeManifest, declared.edge_manifests.len()),
            (Kind::DeviceImport, declared.imports.len()),
            (Kind::Job, declared.jobs.len()),
            (Kind::Schedule, declared.schedules.len()),
            (Kind::Policy, declared.policies.len()),
            (Kind::Access, usize::from(declared.access.is_some())),
        ]
    });
    Ok(Validated {
        prefix: workspace.repo.prefix().to_string(),
        findings: files.findings(check_import_files(&files)?),
        documents,
    })
}
