//! A job's group and the job's organization have devices in common.

use super::Set;
use super::organizations::{Paths, is_within};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::lower::Draft;
use crate::model::job::Selector;
use crate::model::kind::Kind;

/// Reports jobs that could never select a device, because their group lies in another part of the tree.
///
/// An error and not a warning: the job would complete at once with no devices, and its run token would be spent.
pub fn check(set: &Set, paths: &Paths) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for doc in &set.docs {
        let Some(work) = doc.draft.as_ref().and_then(Draft::work) else { continue };
        let Some(organization) = work.organization else { continue };
        let Selector::Group(group) = &work.target.selector else { continue };
        let Some(group_doc) = set.find(Kind::DeviceGroup, group.as_str()) else { continue };
        let Some(Draft::DeviceGroup { organization: Some(of_group), .. }) = &group_doc.draft else { continue };
        let (Some(of_job), Some(of_group)) = (paths.resolve(organization), paths.resolve(of_group)) else { continue };
        if is_within(of_job, of_group) || is_within(of_group, of_job) {
            continue;
        }
        let detail = format!(
            "The group `{group}` has devices of `{of_group}` only, and the job may touch devices of `{of_job}` \
             only: there can be none."
        );
        let span = doc.span(&format!("{}/target/group", work.spec));
        let diagnostic = Diagnostic::new(code::OUTSIDE_ORGANIZATION, span, detail);
        let label = doc.span(&format!("{}/organization", work.spec));
        diagnostics.push(diagnostic.with_label(label, "the job's organization"));
    }
    diagnostics
}
