//! From drafts without errors to what the fleet declares.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::lower::{Doc, Draft};
use super::rules::files::Named;
use super::rules::organizations::Paths;
use crate::model::access::Access;
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, DeviceGroup, DeviceTemplate, EdgeManifest, Fleet, Organization};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::policy::Policy;
use crate::model::schedule::Schedule;

/// Returns what the documents declare.
///
/// # Panics
/// When a reference or file is missing that the rules have found: they report every other case as an error, and this is
/// only called without errors.
pub fn assemble(docs: &[Doc], paths: &Paths, named: &Named) -> Declared {
    let fleet = docs.iter().find_map(fleet_of).expect("the rule over fleets requires one");
    let mut declared = Declared::empty(fleet);
    // Nearly sorted, and many: a map is made of them at once.
    let mut jobs = Vec::new();
    for (at, doc) in docs.iter().enumerate().filter(|(_, doc)| doc.kind != Kind::Fleet) {
        let name = doc.name.clone().expect("a document without a legal name is an error");
        let draft = doc.draft.as_ref().expect("a document without a draft is an error");
        match draft {
            Draft::Job { job, .. } => jobs.push((name, Arc::clone(job))),
            other => add(&mut declared, name, other, &At { at, paths, named }),
        }
    }
    declared.jobs = jobs.into_iter().collect();
    declared
}

fn fleet_of(doc: &Doc) -> Option<Fleet> {
    match doc.draft.as_ref()? {
        Draft::Fleet(fleet) => Some((**fleet).clone()),
        Draft::Organization { .. }
        | Draft::DeviceTemplate { .. }
        | Draft::DeviceGroup { .. }
        | Draft::EdgeManifest
        | Draft::DeviceImport(_)
        | Draft::Job { .. }
        | Draft::Schedule { .. }
        | Draft::Policy { .. }
        | Draft::Access(_) => None,
    }
}

/// What the rules worked out about a document.
struct At<'a> {
    at: usize,
    paths: &'a Paths,
    named: &'a Named,
}

impl At<'_> {
    fn path(&self, organization: Option<&String>) -> Option<String> {
        organization.map(|text| self.paths.resolve(text).expect("references are checked").to_string())
    }

    fn content(&self) -> &Value {
        self.named.json(self.at)
    }
}

fn add(declared: &mut Declared, name: Name, draft: &Draft, at: &At<'_>) {
    match draft {
        Draft::Fleet(_) | Draft::Job { .. } => {}
        Draft::Organization { parent } => {
            let path = at.paths.resolve(name.as_str()).expect("every organization has a path").to_string();
            let organization = Organization { name: name.clone(), parent: parent.clone(), path };
            declared.organizations.insert(name, organization);
        }
        Draft::DeviceTemplate { cloud_properties } => {
            let model = at.content().clone();
            let read = crate::template::read(&model).expect("the model is checked");
            let components = read.components().into_iter().map(str::to_string).collect();
            let template = DeviceTemplate {
                name: name.clone(),
                model_id: read.id().to_string(),
                components,
                cloud_properties: cloud_properties.clone(),
                model,
            };
            declared.templates.insert(name, template);
        }
        Draft::DeviceGroup { template, organization, query } => {
            let (template, organization) = (template.clone(), at.path(organization.as_ref()));
            let group = DeviceGroup { name: name.clone(), template, organization, query: query.clone() };
            declared.groups.insert(name, group);
        }
        Draft::EdgeManifest => {
            let content = at.content();
            let members: Map<String, Value> = content.as_object().expect("the manifest is checked").clone();
            let digest = Digest::of_json(&content["modulesContent"]);
            let manifest = EdgeManifest { name: name.clone(), content: members, digest };
            declared.edge_manifests.insert(name, manifest);
        }
        Draft::DeviceImport(import) => {
            let mut import = import.clone();
            import.organization = at.path(import.organization.as_ref());
            import.file = at.named.paths[&at.at].clone();
            declared.imports.insert(name, import);
        }
        Draft::Schedule { schedule, organization, has_time_zone } => {
            let mut schedule = Schedule::clone(schedule);
            let last = organization.as_ref().and_then(|text| text.rsplit('/').next());
            schedule.job.organization = last.map(|name| Name::parse(name).expect("references are checked"));
            if !has_time_zone {
                let zone = declared.fleet.time_zone.clone().expect("a schedule without a time zone is an error then");
                schedule.time_zone = TimeZone::get(&zone).expect("the fleet's time zone is checked");
                schedule.time_zone_name = zone;
            }
            declared.schedules.insert(name, schedule);
        }
        Draft::Policy { policy, zoneless } => {
            let mut policy = Policy::clone(policy);
            let paths = policy.scope.organizations.iter().filter_map(|text| at.path(Some(text)));
            policy.scope.organizations = paths.collect();
            for at in zoneless {
                let zone = declared.fleet.time_zone.as_ref().expect("a freeze without a time zone is an error then");
                policy.freezes[*at].time_zone = TimeZone::get(zone).expect("the fleet's time zone is checked");
            }
            declared.policies.insert(name, policy);
        }
        Draft::Access(access) => {
            let mut access = Access::clone(access);
            for grant in &mut access.grants {
                grant.organization = at.path(grant.organization.as_ref());
            }
            declared.access = Some(access);
        }
    }
}
