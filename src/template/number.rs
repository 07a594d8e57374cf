//! Where a template has numbers.

use super::Template;
use super::json::unescaped;
use super::model::Content;
use super::schema::{Form, Schema};
use crate::model::job::Action;

/// Returns whether the value at a pointer below an action, such as `/light/level` of a patch or `/payload/delay` of a
/// command, is a number on devices of a template; `None` where the template has no such place.
pub fn is_number(template: &Template, action: &Action, pointer: &str) -> Option<bool> {
    let keys: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
    let model = &template.model;
    let (first, rest) = keys.split_first()?;
    match action {
        Action::Property(_) | Action::Twin { .. } => match model.find(model.root, first)? {
            Content::Property { schema, is_cloud: false, .. } => at(schema, rest),
            Content::Component { interface } => match model.find(*interface, rest.first()?)? {
                Content::Property { schema, .. } => at(schema, &rest[1..]),
                _ => None,
            },
            _ => None,
        },
        Action::CloudProperty(_) => match (template.cloud.get(first), model.find(model.root, first)) {
            (Some(schema), _) | (None, Some(Content::Property { schema, is_cloud: true, .. })) => at(schema, rest),
            _ => None,
        },
        Action::Command(command) => {
            let interface = match &command.component {
                None => model.root,
                Some(name) => match model.find(model.root, name)? {
                    Content::Component { interface } => *interface,
                    _ => return None,
                },
            };
            match model.find(interface, &command.name)? {
                Content::Command { request: Some(request) } => at(&request.schema, rest),
                _ => None,
            }
        }
        Action::Tags(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => None,
    }
}

fn at(schema: &Schema, keys: &[String]) -> Option<bool> {
    let Some((key, rest)) = keys.split_first() else {
        return Some(match &*schema.form {
            Form::Number { .. } | Form::Integer { .. } => true,
            Form::Enum(values) => values.iter().all(serde_json::Value::is_number),
            Form::Boolean
            | Form::Date
            | Form::DateTime
            | Form::Duration
            | Form::Text
            | Form::Time
            | Form::Geometry(_)
            | Form::Array(_)
            | Form::Map(_)
            | Form::Object(_) => false,
        });
    };
    match &*schema.form {
        Form::Array(element) => at(element, rest),
        Form::Map(values) => at(values, rest),
        Form::Object(fields) => at(fields.get(key)?, rest),
        // Nothing in a geometry but its coordinates is a number.
        Form::Geometry(_) => Some(key == "coordinates"),
        Form::Boolean
        | Form::Date
        | Form::DateTime
        | Form::Number { .. }
        | Form::Duration
        | Form::Integer { .. }
        | Form::Text
        | Form::Time
        | Form::Enum(_) => None,
    }
}
