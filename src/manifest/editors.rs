//! What editors need of a fleet: one schema for the documents of all kinds, and the line that names it in a file.
//!
//! An editor with the YAML language server (VS Code, Neovim, Helix, Emacs and others) reads the line
//! `# yaml-language-server: $schema=PATH` of each document, with a path from the folder of the file
//! (<https://github.com/redhat-developer/yaml-language-server#using-inlined-schema>). The schema lies in the fleet's
//! repository: there it needs no network, and everybody has the same. It is JSON in a hidden folder, so no document of
//! ours. One schema for all kinds, because a document that is begun has no kind yet.

use serde_json::{Map, Value, json};

use super::schema::schema;
use super::v1::API_VERSION;
use crate::model::kind::Kind;

/// Where the schema of all kinds is, from the fleet's folder.
pub const SCHEMA_PATH: &str = ".schemas/fleetform.schema.json";
/// What the line of a document begins with.
const LINE_START: &str = "# yaml-language-server: $schema=";

/// Returns the schema of the documents of all kinds, which stands alone.
pub fn schema_of_all() -> Value {
    let mut definitions = Map::new();
    let mut branches = Vec::new();
    for kind in Kind::ALL {
        let mut one = schema(kind);
        let members = one.as_object_mut().expect("a root schema is an object");
        members.remove("$schema");
        if let Some(Value::Object(inner)) = members.remove("$defs") {
            for (name, definition) in inner {
                let before = definitions.insert(name, definition.clone());
                // A wire type is the same in every kind that has it.
                assert!(before.is_none_or(|before| before == definition), "two definitions have one name");
            }
        }
        let name = format!("{}Document", kind.as_str());
        let is_it = json!({"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]});
        branches.push(json!({"if": is_it, "then": {"$ref": format!("#/$defs/{name}")}}));
        definitions.insert(name, one);
    }
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleetform documents",
        "description": "A document of a fleetform fleet, of any kind.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"title": "API version", "description": "The version of the format.", "const": API_VERSION},
            "kind": {"title": "Kind", "description": "What the document declares.", "enum": kinds},
            "metadata": {"title": "Metadata", "description": "Who the document is.", "type": "object"},
        },
        "allOf": branches,
        "$defs": definitions,
    })
}

/// Returns the schema of all kinds as the text of its file: the same bytes every time.
pub fn schema_of_all_text() -> String {
    format!("{:#}\n", schema_of_all())
}

/// Returns the line, with its line feed, that names the schema in a document of a file. `path` is relative to the
/// fleet's folder, with `/` between its parts.
pub fn schema_line(path: &str) -> String {
    let up = "../".repeat(path.matches('/').count());
    format!("{LINE_START}{up}{SCHEMA_PATH}\n")
}

/// Returns a new file with the line in front of its document, unless the document has one.
pub fn with_schema_line(path: &str, text: String) -> String {
    let has_one = text.lines().any(|line| line.starts_with(LINE_START));
    if has_one { text } else { format!("{}{text}", schema_line(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_leads_to_the_schema_from_each_folder() {
        let check = |path: &str, expect: &str| assert_eq!(schema_line(path), format!("{LINE_START}{expect}\n"));
        check("fleetform.yaml", ".schemas/fleetform.schema.json");
        check("jobs/a.yaml", "../.schemas/fleetform.schema.json");
        check("a/b/c.yaml", "../../.schemas/fleetform.schema.json");
        let once = with_schema_line("jobs/a.yaml", "kind: Job\n".to_string());
        assert_eq!(with_schema_line("jobs/a.yaml", once.clone()), once);
    }
}
