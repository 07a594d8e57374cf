//! Edge deployment manifests: those of IoT Central, and the content of IoT Hub's edge configurations.

use serde_json::{Map, Value, json};

use super::organization;
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, File, description};
use crate::convert::fields::{Fields, Notes};
use crate::convert::source::Source;
use crate::diag::shown;
use crate::model::id::Name;

/// Returns the edge manifest of an IoT Central deployment manifest.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn manifest(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let (id, display_name) = (fields.text("id")?, fields.text("displayName")?);
    let data = fields.object("data")?.ok_or("`data` is missing.")?;
    let mut data = Fields::new("data", data);
    let modules = data.object("modulesContent")?.ok_or("`data.modulesContent` is missing.")?;
    data.finish(&mut notes);
    if organization(&mut fields, context, &mut Notes::new())?.is_some() {
        notes.push("Its organization was left out: an edge manifest has none here.".to_string());
    }
    let description = description(display_name, fields.text("description")?, Source::CentralDeploymentManifest, id);
    fields.finish(&mut notes);
    let name = context.own_name(DocumentKind::EdgeManifest, id, display_name);
    edge_manifest(name, description, modules, notes).map(|draft| vec![draft])
}

/// Returns an edge manifest with its modules in a file beside it.
///
/// # Errors
/// The modules are not a whole deployment; whole sentences.
pub fn edge_manifest(
    name: Name,
    description: String,
    modules: &Map<String, Value>,
    mut notes: Notes,
) -> Result<Draft, String> {
    let is_whole = |module: &str| modules.get(module).is_some_and(|module| module.get("properties.desired").is_some());
    if !is_whole("$edgeAgent") || !is_whole("$edgeHub") {
        return Err(
            "Its `modulesContent` lacks `$edgeAgent` or `$edgeHub` with `properties.desired`: a layered deployment, \
                    which has no equal. Merge it with its base into one deployment."
                .to_string(),
        );
    }
    let registries = modules["$edgeAgent"].pointer("/properties.desired/runtime/settings/registryCredentials");
    if let Some(registries) = registries.and_then(Value::as_object).filter(|registries| !registries.is_empty()) {
        let names: Vec<String> = registries.keys().map(|name| format!("`{}`", shown(name))).collect();
        notes.push(format!(
            "Its file holds the credentials of {}: look at them before you commit it.",
            names.join(", ")
        ));
    }
    let file = format!("{name}.deployment.json");
    let path = format!("{}/{file}", DocumentKind::EdgeManifest.folder());
    Ok(Draft {
        kind: DocumentKind::EdgeManifest,
        name,
        description,
        labels: Map::new(),
        spec: json!({ "file": file }),
        notes,
        files: vec![File { path, text: format!("{:#}\n", json!({ "modulesContent": modules })) }],
    })
}
