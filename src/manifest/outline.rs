//! What the documents of a single file are about, without the rest of the tree: for whoever compares two commits.

use super::lower::{DeclaredWork, Doc, Draft};
use super::parsed::{ParsedFile, parse_bytes};
use super::rules::files::resolve;
use super::structure::Validators;
use crate::diag::FileId;
use crate::model::access::Access;
use crate::model::digest::Digest;
use crate::model::id::Name;
use crate::model::job::Action;
use crate::model::kind::Kind;
use std::sync::Arc;

/// The documents of a file.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    pub documents: Vec<Outlined>,
    /// False when part of it could not be read: what it declares is not known.
    pub is_whole: bool,
}

/// A document.
#[derive(Debug, Clone)]
pub struct Outlined {
    pub kind: Kind,
    /// `None` when it has no legal name.
    pub name: Option<Name>,
    /// The digest of all that it says, without comments and layout.
    pub digest: Digest,
    /// The organization whose devices it is about, as written: a name or a path.
    pub organization: Option<String>,
    /// Of an organization: the one above it, as written.
    pub parent: Option<Name>,
    /// The action of a job or a schedule, in the word of the manifest.
    pub action: Option<&'static str>,
    /// The command of such an action, and its component.
    pub command: Option<(String, Option<String>)>,
    /// The files that it names, as paths from the fleet's folder.
    pub files: Vec<String>,
    /// Of an Access document, with its files as paths from the fleet's folder.
    pub access: Option<Access>,
    /// It could be read, without errors of its own.
    pub is_usable: bool,
}

/// Reads the documents of a file at a path, from its bytes.
pub fn outline(path: &str, bytes: Vec<u8>) -> Outline {
    let file = parse_bytes(path, bytes, &mut Validators::default());
    let ParsedFile { parts, is_complete, found, .. } = file;
    let has_error =
        |found: &[crate::diag::Diagnostic]| found.iter().any(|one| one.severity == crate::diag::Severity::Error);
    let mut is_whole = is_complete && !has_error(&found);
    let mut documents = Vec::new();
    for part in parts {
        match part.doc {
            Some(doc) => {
                let is_usable = !has_error(&part.found);
                documents.push(outlined(path, &Doc::new(FileId::UNPLACED, Arc::clone(&doc)), is_usable));
            }
            // A document that is nearly one of ours.
            None if has_error(&part.found) => is_whole = false,
            None => {}
        }
    }
    Outline { documents, is_whole }
}

fn outlined(path: &str, doc: &Doc, is_usable: bool) -> Outlined {
    let resolved = |text: &str| resolve(path, text).unwrap_or_else(|_| text.to_string());
    let mut one = Outlined {
        kind: doc.kind,
        name: doc.name.clone(),
        digest: Digest::of_json(&doc.root.to_json()),
        organization: None,
        parent: None,
        action: None,
        command: None,
        files: doc.files.iter().map(|reference| resolved(&reference.text)).collect(),
        access: None,
        is_usable: is_usable && doc.draft.is_some() && doc.name.is_some(),
    };
    let Some(draft) = &doc.draft else { return one };
    if let Some(DeclaredWork { organization, action, .. }) = draft.work() {
        one.organization = organization.map(str::to_string);
        one.action = Some(action.word());
        if let Action::Command(command) = action {
            one.command = Some((command.name.clone(), command.component.clone()));
        }
    }
    match draft {
        Draft::Organization { parent } => one.parent.clone_from(parent),
        Draft::DeviceGroup { organization, .. } => one.organization.clone_from(organization),
        Draft::DeviceImport(import) => one.organization.clone_from(&import.organization),
        Draft::Access(access) => {
            let mut access = Access::clone(access);
            access.allowed_signers = access.allowed_signers.map(|path| resolved(&path));
            access.openpgp_keys = access.openpgp_keys.map(|path| resolved(&path));
            one.access = Some(access);
        }
        Draft::Fleet(_)
        | Draft::DeviceTemplate { .. }
        | Draft::EdgeManifest
        | Draft::Job { .. }
        | Draft::Schedule { .. }
        | Draft::Policy { .. } => {}
    }
    one
}
