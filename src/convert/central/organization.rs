//! IoT Central organizations.

use serde_json::{Map, Value, json};

use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, description};
use crate::convert::fields::{Fields, Notes};
use crate::convert::source::Source;

/// Returns the organization. One without a parent is below the application there, and a root here.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn organization(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let (id, display_name) = (fields.required_text("id")?, fields.text("displayName")?);
    let mut spec = json!({});
    if let Some(parent) = fields.text("parent")? {
        spec["parent"] = Value::from(context.reference(DocumentKind::Organization, parent, &mut notes)?.as_str());
    }
    fields.finish(&mut notes);
    Ok(vec![Draft {
        kind: DocumentKind::Organization,
        name: context.own_name(DocumentKind::Organization, Some(id), display_name),
        description: description(display_name, None, Source::CentralOrganization, Some(id)),
        labels: Map::new(),
        spec,
        notes,
        files: Vec::new(),
    }])
}
