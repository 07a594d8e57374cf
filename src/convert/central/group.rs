//! IoT Central device groups.

use serde_json::{Map, Value, json};

use super::filter::{self, Properties};
use super::{organization, template};
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, description};
use crate::convert::fields::{Fields, Notes};
use crate::convert::names::name_of_id;
use crate::convert::source::Source;
use crate::diag::shown;

/// Returns the device group.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn group(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let (id, display_name) = (fields.text("id")?, fields.text("displayName")?);
    let text = fields.required_text("filter")?;
    let unreadable = |problem: String| format!("The filter cannot be read: {problem} It is `{}`.", shown(text));
    let filter = filter::parse(text).map_err(unreadable)?;
    let model = filter.template.as_deref().and_then(|id| context.templates.get(id).copied());
    let mut template_notes = Notes::new();
    let mut named = |id: &str| {
        context.reference(DocumentKind::DeviceTemplate, id, &mut template_notes).map(|name| name.to_string())
    };
    let organization_name = |id: &str| {
        let name = context.names.find(DocumentKind::Organization, id).cloned().or_else(|| name_of_id(id));
        name.map_or_else(|| id.to_string(), |name| name.to_string())
    };
    let mut spec = json!({});
    if let Some(id) = &filter.template {
        spec["template"] = Value::from(named(id)?);
    }
    let root = |path: &[String]| model.and_then(|model| template::root_of(model, path));
    let mut properties =
        Properties { root: &root, template: &mut named, organization: &organization_name, guessed: Vec::new() };
    let condition = filter::condition(&filter, &mut properties)?;
    let guessed = properties.guessed;
    if let Err(errors) = crate::query::parse(&condition) {
        let problem = errors.first().map_or(String::new(), ToString::to_string);
        return Err(unreadable(format!("{problem} The condition that was made of it is `{}`.", shown(&condition))));
    }
    spec["query"] = Value::from(condition);
    if !guessed.is_empty() {
        notes.push(format!(
            "{} may be wrong: what is not in the input is taken for a value that the device reports. Write \
                `properties.desired.` \
             for what an operator sets, `cloud.` for a cloud property, or convert the device template in the same \
             call.",
            guessed.iter().map(|path| format!("`{}`", shown(path))).collect::<Vec<_>>().join(", ")
        ));
    }
    if spec["query"].as_str().is_some_and(|query| query.contains("$provisioned")) {
        notes.push(
            "`$provisioned` counts anew: a device is provisioned here when it has been connected since its import."
                .to_string(),
        );
    }
    notes.extend(template_notes);
    if let Some(organization) = organization(&mut fields, context, &mut notes)? {
        spec["organization"] = Value::from(organization.as_str());
    }
    let description = description(display_name, fields.text("description")?, Source::CentralDeviceGroup, id);
    fields.finish(&mut notes);
    let name = context.own_name(DocumentKind::DeviceGroup, id, display_name);
    Ok(vec![Draft {
        kind: DocumentKind::DeviceGroup,
        name,
        description,
        labels: Map::new(),
        spec,
        notes,
        files: Vec::new(),
    }])
}
