//! A document as policies see it.

use crate::model::delivery::Delivery;
use crate::model::fleet::{Declared, DeviceImport, ImportExpect};
use crate::model::id::Name;
use crate::model::job::{Action, Target};
use crate::model::kind::Kind;
use crate::plan::Subject;

/// A job, a schedule or an import.
#[derive(Debug, Clone, Copy)]
pub struct PolicedDocument<'a> {
    pub kind: Kind,
    pub name: &'a Name,
    /// The path of its organization.
    pub organization: Option<&'a str>,
    pub does: Does<'a>,
}

/// What a document does.
#[derive(Debug, Clone, Copy)]
pub enum Does<'a> {
    Work { target: &'a Target, action: &'a Action, delivery: &'a Delivery },
    Import(&'a DeviceImport),
}

impl<'a> PolicedDocument<'a> {
    /// Returns the document of a change; `None` when it is not declared. An occurrence is one of its schedule.
    pub fn of(subject: &Subject, declared: &'a Declared) -> Option<PolicedDocument<'a>> {
        let path = |name: Option<&Name>| Some(declared.organizations.get(name?)?.path.as_str());
        match subject {
            Subject::Import(name) => declared.imports.get_key_value(name).map(|(name, import)| PolicedDocument {
                kind: Kind::DeviceImport,
                name,
                organization: import.organization.as_deref(),
                does: Does::Import(import),
            }),
            Subject::Job(name) | Subject::Schedule(name) => {
                if let Some((name, schedule)) = declared.schedules.get_key_value(name) {
                    let job = &schedule.job;
                    let does = Does::Work { target: &job.target, action: &job.action, delivery: &job.delivery };
                    let organization = path(job.organization.as_ref());
                    return Some(PolicedDocument { kind: Kind::Schedule, name, organization, does });
                }
                declared.jobs.get_key_value(name).map(|(name, job)| PolicedDocument {
                    kind: Kind::Job,
                    name,
                    organization: path(job.organization.as_ref()),
                    does: Does::Work { target: &job.target, action: &job.action, delivery: &job.delivery },
                })
            }
        }
    }

    /// Returns true when its author says how much is expected.
    pub fn has_expect(&self) -> bool {
        match self.does {
            Does::Work { target, .. } => target.expect.is_some(),
            Does::Import(import) => import.expect != ImportExpect::default(),
        }
    }
}
