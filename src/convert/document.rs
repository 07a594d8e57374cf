//! A document that was made, and its text.

use serde_json::{Map, Value, json};

use super::fields::Notes;
use super::source::Source;
use crate::manifest::{API_VERSION, document_text};
use crate::model::id::Name;
use crate::model::text::sanitize_line;

/// The kinds that a conversion makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    Organization,
    DeviceImport,
    DeviceTemplate,
    DeviceGroup,
    EdgeManifest,
    Job,
    Schedule,
}

impl DocumentKind {
    /// Returns the word of the `kind` field.
    pub fn word(self) -> &'static str {
        match self {
            DocumentKind::Organization => "Organization",
            DocumentKind::DeviceImport => "DeviceImport",
            DocumentKind::DeviceTemplate => "DeviceTemplate",
            DocumentKind::DeviceGroup => "DeviceGroup",
            DocumentKind::EdgeManifest => "EdgeManifest",
            DocumentKind::Job => "Job",
            DocumentKind::Schedule => "Schedule",
        }
    }

    /// Returns the folder in which it is by habit.
    pub fn folder(self) -> &'static str {
        match self {
            DocumentKind::Organization => "organizations",
            DocumentKind::DeviceImport => "imports",
            DocumentKind::DeviceTemplate => "templates",
            DocumentKind::DeviceGroup => "groups",
            DocumentKind::EdgeManifest => "edge-manifests",
            DocumentKind::Job => "jobs",
            DocumentKind::Schedule => "schedules",
        }
    }
}

/// A file beside a document, which the document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the folder of the fleet, with `/`.
    pub path: String,
    pub text: String,
}

/// A document of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub kind: DocumentKind,
    pub name: Name,
    /// From the folder of the fleet, with `/`, such as `jobs/dim-line-3.yaml`.
    pub path: String,
    /// YAML, with the notes as comments before it.
    pub text: String,
    /// What has no equal here or was changed: sentences on one line each, safe to show.
    pub notes: Vec<String>,
    /// It is a job or a schedule that is not suspended.
    pub would_run: bool,
    pub files: Vec<File>,
}

/// A document before its text is written.
#[derive(Debug)]
pub struct Draft {
    pub kind: DocumentKind,
    pub name: Name,
    /// Empty for none.
    pub description: String,
    pub labels: Map<String, Value>,
    pub spec: Value,
    pub notes: Notes,
    pub files: Vec<File>,
}

/// The width at which comments are wrapped, in characters.
const COMMENT_CHARS: usize = 100;

impl Draft {
    /// Returns the path of the document.
    pub fn path(&self) -> String {
        format!("{}/{}.yaml", self.kind.folder(), self.name)
    }

    /// Returns the document; the error is a sentence.
    pub fn document(&self, source: Source, place: &str) -> Result<Document, String> {
        let notes: Vec<String> = self.notes.iter().map(|note| sanitize_line(note).into_owned()).collect();
        let body = self.body().ok_or("It cannot be written as YAML: it is nested too deep.")?;
        let mut text = comment(&format!("Converted from the {} in {}.", source.noun(), sanitize_line(place)));
        for note in &notes {
            text.push_str(&comment(&format!("Note: {note}")));
        }
        text.push_str(&body);
        Ok(Document {
            kind: self.kind,
            name: self.name.clone(),
            path: self.path(),
            text,
            notes,
            would_run: matches!(self.kind, DocumentKind::Job | DocumentKind::Schedule)
                && self.spec.get("suspend") != Some(&Value::Bool(true)),
            files: self.files.clone(),
        })
    }

    /// Returns the YAML of the document, without the comments.
    fn body(&self) -> Option<String> {
        let mut metadata = json!({"name": self.name.as_str()});
        if !self.description.is_empty() {
            metadata["description"] = Value::from(self.description.as_str());
        }
        if !self.labels.is_empty() {
            metadata["labels"] = Value::Object(self.labels.clone());
        }
        document_text(
            &json!({"apiVersion": API_VERSION, "kind": self.kind.word(), "metadata": metadata, "spec": self.spec}),
        )
    }
}

/// Returns what `metadata.description` says: the words that people gave it, and where it is from.
pub fn description(display_name: Option<&str>, description: Option<&str>, source: Source, id: Option<&str>) -> String {
    let one_line = |text: &str| sanitize_line(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned();
    let words = [display_name, description].into_iter().flatten().map(one_line).filter(|text| !text.is_empty());
    let mut text = String::new();
    for words in words {
        if !text.is_empty() {
            text.push_str(if text.ends_with(['.', '!', '?', ':']) { " " } else { ": " });
        }
        text.push_str(&words);
    }
    let origin = id.map_or_else(|| source.noun().to_string(), |id| format!("{} {}", source.noun(), one_line(id)));
    if text.is_empty() { origin } else { format!("{text} ({origin})") }
}

/// Returns a text as comment lines; its line breaks become spaces.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 1 && line + 1 + word.chars().count() > COMMENT_CHARS {
            lines.push(String::from("#  "));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
