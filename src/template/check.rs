//! Checks of an action against the template of a device.

use serde_json::{Map, Value};

use super::model::{Content, Model};
use super::value::{Extent, Trail, check, did_you_mean};
use super::{Template, Violation};
use crate::diag::nearest;
use crate::model::job::{Action, Command};
use crate::model::patch::COMPONENT_MARK;

/// Returns everything that keeps an action from devices of a template; empty for actions that do not depend on a
/// template.
///
/// Removing (null in a patch) is always allowed, also for members that the template does not have.
pub fn violations(template: &Template, action: &Action) -> Vec<Violation> {
    let mut found = Vec::new();
    let start = Trail::start();
    match action {
        Action::Property(patch) | Action::Twin { desired: patch, .. } => {
            properties(&template.model, template.model.root, patch.members(), &start, &mut found);
        }
        Action::CloudProperty(patch) => cloud_properties(template, patch.members(), &mut found),
        Action::Command(command) => call(&template.model, command, &mut found),
        Action::Tags(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => {}
    }
    found
}

/// Checks what a patch sets of an interface: the device's own, or that of a component.
fn properties(
    model: &Model,
    interface: usize,
    members: &Map<String, Value>,
    trail: &Trail,
    found: &mut Vec<Violation>,
) {
    for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let trail = trail.with(key);
        match model.find(interface, key) {
            Some(Content::Property { is_cloud: true, .. }) => {
                found.push(trail.key("is a cloud property: set it with `cloudProperty`"));
            }
            Some(Content::Property { writable: false, .. }) => {
                found.push(trail.key("is a property that cannot be written"))
            }
            Some(Content::Property { schema, .. }) => check(schema, value, Extent::Patch, &trail, found),
            Some(Content::Component { interface: inner }) if interface == model.root => {
                component(model, *inner, value, &trail, found);
            }
            Some(Content::Component { .. }) => {
                found.push(trail.key("is a component of a component, which a twin has no place for"));
            }
            Some(content @ (Content::Telemetry | Content::Relationship | Content::Command { .. })) => {
                found.push(trail.key(&format!("is {}, not a property", word(content))));
            }
            None if value.get(COMPONENT_MARK.0).is_some() => {
                let names = model.names(interface, |content| matches!(content, Content::Component { .. }));
                found.push(trail.key(&format!("is not a component of it{}", did_you_mean(nearest(key, names)))));
            }
            None => {
                let near = nearest(key, model.desired_names()).filter(|_| interface == model.root);
                found.push(trail.key(&format!("is not a property of it{}", did_you_mean(near))));
            }
        }
    }
}

fn component(model: &Model, interface: usize, value: &Value, trail: &Trail, found: &mut Vec<Violation>) {
    let Some(members) = value.as_object() else {
        found.push(trail.value("is a component, so it expects an object with its properties"));
        return;
    };
    let (key, mark) = COMPONENT_MARK;
    let mut members = members.clone();
    if members.remove(key).is_some_and(|value| value != mark) {
        found.push(trail.with(key).value(&format!("marks a component and expects \"{mark}\"")));
    }
    properties(model, interface, &members, trail, found);
}

fn cloud_properties(template: &Template, members: &Map<String, Value>, found: &mut Vec<Violation>) {
    let model = &template.model;
    for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let trail = Trail::start().with(key);
        let of_model = match model.find(model.root, key) {
            Some(Content::Property { schema, is_cloud: true, .. }) => Some(schema),
            _ => None,
        };
        match template.cloud.get(key).or(of_model) {
            Some(schema) => check(schema, value, Extent::Patch, &trail, found),
            None => {
                let is_cloud = |content: &Content| matches!(content, Content::Property { is_cloud: true, .. });
                let mut names = model.names(model.root, is_cloud);
                names.extend(template.cloud.keys().map(String::as_str));
                found.push(trail.key(&format!("is not a cloud property of it{}", did_you_mean(nearest(key, names)))));
            }
        }
    }
}

fn call(model: &Model, command: &Command, found: &mut Vec<Violation>) {
    let mut interface = model.root;
    if let Some(name) = &command.component {
        match model.find(model.root, name) {
            Some(Content::Component { interface: inner }) => interface = *inner,
            _ => {
                let names = model.names(model.root, |content| matches!(content, Content::Component { .. }));
                let message = format!("`{name}` is not a component of it{}", did_you_mean(nearest(name, names)));
                found.push(Violation { pointer: "/component".to_string(), is_key: false, message });
                return;
            }
        }
    }
    let name = &command.name;
    let Some(Content::Command { request }) = model.find(interface, name) else {
        let names = model.names(interface, |content| matches!(content, Content::Command { .. }));
        let of =
            command.component.as_ref().map_or("it".to_string(), |component| format!("its component `{component}`"));
        let message = format!("`{name}` is not a command of {of}{}", did_you_mean(nearest(name, names)));
        found.push(Violation { pointer: "/name".to_string(), is_key: false, message });
        return;
    };
    let trail = Trail::start().with("payload");
    match request {
        // Every field of an object may be left out, so no payload is also allowed.
        Some(request) if command.payload.is_null() && (request.is_nullable || request.schema.is_object()) => {}
        Some(request) => check(&request.schema, &command.payload, Extent::Whole, &trail, found),
        None if is_nothing(&command.payload) => {}
        None => found.push(trail.value(&format!("must be left out: `{name}` takes none"))),
    }
}

/// Returns true for an empty payload: null, or the empty object that many tools send in its place.
fn is_nothing(payload: &Value) -> bool {
    payload.is_null() || payload.as_object().is_some_and(Map::is_empty)
}

fn word(content: &Content) -> &'static str {
    match content {
        Content::Telemetry => "telemetry",
        Content::Relationship => "a relationship",
        Content::Command { .. } => "a command",
        Content::Property { .. } => "a property",
        Content::Component { .. } => "a component",
    }
}
