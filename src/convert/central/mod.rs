//! IoT Central: jobs, scheduled jobs, device groups, device templates, deployment manifests, organizations and devices.

pub mod device;
pub mod filter;
pub mod group;
pub mod job;
pub mod manifest;
pub mod organization;
pub mod properties;
pub mod template;

use serde_json::{Map, Value};

use super::document::DocumentKind;
use super::fields::{Fields, Notes};
use super::names::{better, name_of_id};
use super::source::Source;
use super::{Context, Item};
use crate::diag::shown;
use crate::model::id::Name;

/// Gives what others refer to its name, so that the order of the input does not matter.
pub fn declare<'a>(item: &Item<'a>, context: &mut Context<'a>) {
    let text = |name: &str| text_of(item.members, name);
    let (kind, id) = match item.source {
        Source::CentralDeviceGroup => (DocumentKind::DeviceGroup, text("id")),
        Source::CentralDeviceTemplate => (DocumentKind::DeviceTemplate, text("@id").or(text("id"))),
        Source::CentralDeploymentManifest => (DocumentKind::EdgeManifest, text("id")),
        Source::CentralOrganization => (DocumentKind::Organization, text("id")),
        Source::CentralDevice => return device::declare(item.members, context),
        Source::CentralDeviceProperties => return properties::declare(item.members, context),
        Source::CentralJob | Source::CentralScheduledJob | Source::HubJob | Source::HubConfiguration => return,
    };
    let Some(id) = id else { return };
    if context.names.find(kind, id).is_none() {
        let name = context.names.claim(kind, better(Some(id), text("displayName")), None);
        context.names.declare(kind, id, &name);
    }
    if kind == DocumentKind::DeviceTemplate {
        context.templates.entry(id).or_insert(item.members);
    }
    if let Some(template) = text("filter").and_then(|text| filter::parse(text).ok()?.template) {
        context.group_templates.entry(id).or_insert(template);
    }
}

impl Context<'_> {
    /// Returns the name of the document that an item of the input becomes: the one that its id was given, or a new one.
    fn own_name(&mut self, kind: DocumentKind, id: Option<&str>, display_name: Option<&str>) -> Name {
        match id.and_then(|id| self.names.find(kind, id)) {
            Some(name) => name.clone(),
            None => self.names.claim(kind, better(id, display_name), None),
        }
    }

    /// Returns the name of a document that another one refers to by the id of IoT Central.
    ///
    /// # Errors
    /// Nothing of the id is legal in a name; a sentence.
    fn reference(&self, kind: DocumentKind, id: &str, notes: &mut Notes) -> Result<Name, String> {
        if let Some(name) = self.names.find(kind, id) {
            return Ok(name.clone());
        }
        let name = name_of_id(id).ok_or_else(|| format!("No name can be made of the id `{}`.", shown(id)))?;
        notes.push(format!(
            "The {} `{}` is not part of the input: declare it (`kind: {}`) as `{name}`, or convert it in the same \
                call.",
            noun(kind),
            shown(id),
            kind.word()
        ));
        Ok(name)
    }
}

fn noun(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Organization => "organization",
        DocumentKind::DeviceImport => "device import",
        DocumentKind::DeviceTemplate => "device template",
        DocumentKind::DeviceGroup => "device group",
        DocumentKind::EdgeManifest => "deployment manifest",
        DocumentKind::Job => "job",
        DocumentKind::Schedule => "scheduled job",
    }
}

/// Returns the organization of an item, which has at most one.
fn organization(fields: &mut Fields<'_>, context: &Context<'_>, notes: &mut Notes) -> Result<Option<Name>, String> {
    let list = fields.list("organizations")?.map_or(&[][..], Vec::as_slice);
    let ids: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let Some(id) = ids.first() else { return Ok(None) };
    if ids.len() > 1 {
        notes.push(format!("It names {} organizations, and one is possible: the others were left out.", ids.len()));
    }
    context.reference(DocumentKind::Organization, id, notes).map(Some)
}

/// Returns a member of an object as text, for looking something up.
fn text_of<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}
