//! From wire types to drafts: every value read and checked on its own, every reference noted for the rules.
//!
//! A draft is only used for a plan when no diagnostic of the whole set is an error; until then its default stands in
//! for a value that could not be read.

mod access;
mod alert;
mod beside;
mod fleet;
mod hub;
mod job;
mod link;
mod patch;
mod plain;
mod policy;
mod schedule;

pub use link::{parse_url, prefix_problem};

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diag::{Code, Diagnostic, Diagnostics, FileId, Span, code, shown};
use crate::manifest::node::{Content, Node};
use crate::manifest::structure::{self, Subject, Validators};
use crate::manifest::v1::{self, Document, JobMetadata, Metadata, OpenDocument};
use crate::manifest::values;
use crate::model::access::Access;
use crate::model::delivery::Delivery;
use crate::model::fleet::{DeviceImport, Fleet, Probability};
use crate::model::id::{IdError, Name};
use crate::model::job::{Action, Job, Target};
use crate::model::kind::Kind;
use crate::model::policy::Policy;
use crate::model::schedule::Schedule;

/// A document of a set, on its way into the model.
#[derive(Debug, Clone)]
pub struct Doc {
    /// The id of its file in the set.
    pub file: FileId,
    parsed: Arc<ParsedDoc>,
}

/// A document by itself, independent of all others. Its spans are in [`FileId::UNPLACED`].
#[derive(Debug)]
pub struct ParsedDoc {
    pub kind: Kind,
    /// `metadata.name` as written, legal or not.
    pub written_name: Option<Arc<str>>,
    /// `None` when it has no legal name.
    pub name: Option<Name>,
    /// The path of its file, relative to the folder of the fleet.
    pub path: String,
    pub root: Node,
    /// `None` when its structure is too far from the schema.
    pub draft: Option<Draft>,
    pub references: Vec<Reference>,
    pub files: Vec<FileReference>,
    /// Numbers that are not sent as they are written: a pointer into the document, and the warning of each.
    pub numbers: Vec<(String, Diagnostic)>,
    /// The problems of its condition, once it was checked.
    pub query_problems: OnceLock<Vec<Diagnostic>>,
}

impl Doc {
    /// Returns a document of a file.
    pub fn new(file: FileId, parsed: Arc<ParsedDoc>) -> Doc {
        Doc { file, parsed }
    }

    /// Returns the span of a scalar, or of the key of any other value; that of the nearest parent when the value is
    /// absent.
    pub fn span(&self, pointer: &str) -> Span {
        span(&self.root, pointer).placed(self.file)
    }

    /// Returns the span of the key of a value; otherwise as [`Doc::span`].
    pub fn key_span(&self, pointer: &str) -> Span {
        self.root.locate(pointer).key_span().placed(self.file)
    }
}

impl Deref for Doc {
    type Target = ParsedDoc;

    fn deref(&self) -> &ParsedDoc {
        &self.parsed
    }
}

/// Returns the span of the scalar at a pointer; for a collection or a missing value, that of the nearest key.
pub fn span(root: &Node, pointer: &str) -> Span {
    let place = root.locate(pointer);
    let is_collection = !place.node.entries().is_empty() || matches!(place.node.content, Content::Seq(_));
    if place.is_exact && !is_collection { place.node.span } else { place.key_span() }
}

/// What a document declares, before its references are resolved.
#[derive(Debug)]
pub enum Draft {
    Fleet(Box<Fleet>),
    Organization {
        parent: Option<Name>,
    },
    DeviceTemplate {
        cloud_properties: std::collections::BTreeMap<String, String>,
    },
    DeviceGroup {
        template: Option<Name>,
        organization: Option<String>,
        query: String,
    },
    EdgeManifest,
    /// `organization` is as written, `file` as resolved by the rule over files.
    DeviceImport(DeviceImport),
    Job {
        job: Arc<Job>,
        /// As written: a name or a path.
        organization: Option<String>,
    },
    Schedule {
        schedule: Box<Schedule>,
        /// As written: a name or a path.
        organization: Option<String>,
        /// It names a time zone; otherwise that of the fleet is still to be put in.
        has_time_zone: bool,
    },
    Policy {
        /// Its organizations are as written: names or paths.
        policy: Box<Policy>,
        /// The freezes without a time zone, by index: that of the fleet is still to be put in.
        zoneless: Vec<usize>,
    },
    /// Its paths and organizations are as written.
    Access(Box<Access>),
}

/// The work that a job or a schedule declares.
pub struct DeclaredWork<'a> {
    /// The pointer of its spec.
    pub spec: &'static str,
    /// As written: a name or a path.
    pub organization: Option<&'a str>,
    pub target: &'a Target,
    pub action: &'a Action,
    pub delivery: &'a Delivery,
}

impl Draft {
    /// Returns the work that it declares; `None` for what declares none.
    pub fn work(&self) -> Option<DeclaredWork<'_>> {
        match self {
            Draft::Job { job, organization } => Some(DeclaredWork {
                spec: "/spec",
                organization: organization.as_deref(),
                target: &job.target,
                action: &job.action,
                delivery: &job.delivery,
            }),
            Draft::Schedule { schedule, organization, .. } => Some(DeclaredWork {
                spec: SCHEDULED_SPEC,
                organization: organization.as_deref(),
                target: &schedule.job.target,
                action: &schedule.job.action,
                delivery: &schedule.job.delivery,
            }),
            Draft::Fleet(_)
            | Draft::Organization { .. }
            | Draft::DeviceTemplate { .. }
            | Draft::DeviceGroup { .. }
            | Draft::EdgeManifest
            | Draft::DeviceImport(_)
            | Draft::Policy { .. }
            | Draft::Access(_) => None,
        }
    }
}

impl Draft {
    /// Returns the former names of a job or a schedule.
    pub fn previous_names(&self) -> &[Name] {
        match self {
            Draft::Job { job, .. } => &job.previous_names,
            Draft::Schedule { schedule, .. } => &schedule.previous_names,
            Draft::Fleet(_)
            | Draft::Organization { .. }
            | Draft::DeviceTemplate { .. }
            | Draft::DeviceGroup { .. }
            | Draft::EdgeManifest
            | Draft::DeviceImport(_)
            | Draft::Policy { .. }
            | Draft::Access(_) => &[],
        }
    }
}

/// The pointer of the spec of a schedule's job.
pub const SCHEDULED_SPEC: &str = "/spec/job";

/// Returns where a pointer into a job, such as `/spec/target`, leads in a schedule that has the job.
pub fn scheduled_pointer(pointer: &str) -> Option<String> {
    pointer.strip_prefix("/spec").map(|rest| format!("{SCHEDULED_SPEC}{rest}"))
}

/// A name that must be declared somewhere.
#[derive(Debug)]
pub struct Reference {
    pub pointer: String,
    pub kind: Kind,
    /// A schedule of the name is also allowed: it has runs as a job has.
    pub allows_schedule: bool,
    pub text: String,
}

/// A file that a document names.
#[derive(Debug)]
pub struct FileReference {
    pub pointer: String,
    /// As written.
    pub text: String,
    pub format: FileFormat,
}

/// What a named file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Read and parsed with the manifest.
    Json,
    /// Only its existence is checked: it can be large, and the import reads it.
    Import,
    /// Only its existence is checked: git reads it.
    Keys,
}

/// Lowers one document of the file at `path`, whose text is `text`, and returns it with its problems.
pub fn lower(kind: Kind, root: Node, path: &str, text: &str, validators: &mut Validators) -> (ParsedDoc, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut lowering = Lowering {
        root: &root,
        path,
        text,
        diagnostics: &mut diagnostics,
        references: Vec::new(),
        files: Vec::new(),
        numbers: Vec::new(),
        is_scheduled: false,
    };
    let draft = lowering.document(kind, validators);
    let written_name: Option<Arc<str>> = root.at("/metadata/name").and_then(Node::as_str).map(Arc::from);
    let name = written_name.as_ref().and_then(|text| Name::parse(text).ok());
    let Lowering { references, files, numbers, .. } = lowering;
    let (path, query_problems) = (path.to_string(), OnceLock::new());
    (ParsedDoc { kind, written_name, name, path, draft, references, files, numbers, query_problems, root }, diagnostics)
}

/// Returns the name of what has none that is legal; there is an error then.
fn unresolved() -> Name {
    Name::parse("unresolved").expect("it is a legal name")
}

struct Lowering<'a> {
    root: &'a Node,
    path: &'a str,
    text: &'a str,
    diagnostics: &'a mut Diagnostics,
    references: Vec<Reference>,
    files: Vec<FileReference>,
    numbers: Vec<(String, Diagnostic)>,
    /// It is at the job of a schedule: pointers into a job lead there.
    is_scheduled: bool,
}

impl Lowering<'_> {
    fn document(&mut self, kind: Kind, validators: &mut Validators) -> Option<Draft> {
        match kind {
            Kind::Fleet => {
                let (wire, _): (OpenDocument<Metadata, v1::FleetSpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                Some(self.fleet(name, wire.spec))
            }
            Kind::Organization => {
                let (wire, _): (OpenDocument<Metadata, v1::OrganizationSpec>, Value) = self.read(kind, validators)?;
                self.own_name(&wire.metadata.name);
                Some(self.organization(wire.spec))
            }
            Kind::DeviceTemplate => {
                let (wire, _): (Document<Metadata, v1::DeviceTemplateSpec>, Value) = self.read(kind, validators)?;
                self.own_name(&wire.metadata.name);
                Some(self.device_template(wire.spec))
            }
            Kind::DeviceGroup => {
                let (wire, _): (Document<Metadata, v1::DeviceGroupSpec>, Value) = self.read(kind, validators)?;
                self.own_name(&wire.metadata.name);
                Some(self.device_group(wire.spec))
            }
            Kind::EdgeManifest => {
                let (wire, _): (Document<Metadata, v1::EdgeManifestSpec>, Value) = self.read(kind, validators)?;
                self.own_name(&wire.metadata.name);
                Some(self.edge_manifest(wire.spec))
            }
            Kind::DeviceImport => {
                let (wire, value): (Document<Metadata, v1::DeviceImportSpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                Some(self.device_import(name, wire.spec, &value["spec"]))
            }
            Kind::Job => {
                let (wire, value): (Document<JobMetadata, v1::JobSpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                let previous = self.previous_names(wire.metadata.previous_name.as_ref());
                Some(self.job((name, previous, wire.metadata.labels), wire.spec, value))
            }
            Kind::Schedule => {
                let (wire, value): (Document<JobMetadata, v1::ScheduleSpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                let previous = self.previous_names(wire.metadata.previous_name.as_ref());
                Some(self.schedule((name, previous, wire.metadata.labels), wire.spec, value))
            }
            Kind::Policy => {
                let (wire, _): (Document<Metadata, v1::PolicySpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                Some(self.policy(name, wire.spec))
            }
            Kind::Access => {
                let (wire, _): (Document<Metadata, v1::AccessSpec>, Value) = self.read(kind, validators)?;
                let name = self.own_name(&wire.metadata.name);
                Some(self.access(name, wire.spec))
            }
        }
    }

    fn read<T: DeserializeOwned>(&mut self, kind: Kind, validators: &mut Validators) -> Option<(T, Value)> {
        structure::read(self.root, kind, validators, self.diagnostics)
    }

    fn report(&mut self, code: Code, pointer: &str, detail: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(code, span(self.root, &self.place(pointer)), detail));
    }

    /// Returns where a pointer leads: below the spec of a job, into the job of a schedule while it is at one.
    fn place<'p>(&self, pointer: &'p str) -> Cow<'p, str> {
        match scheduled_pointer(pointer).filter(|_| self.is_scheduled) {
            Some(pointer) => Cow::Owned(pointer),
            None => Cow::Borrowed(pointer),
        }
    }

    /// Returns the former names of the document; those that are not legal are in the diagnostics.
    fn previous_names(&mut self, written: Option<&v1::PreviousNames>) -> Vec<Name> {
        match written {
            None => Vec::new(),
            Some(v1::PreviousNames::One(text)) => self.name(&text.0, "/metadata/previousName").into_iter().collect(),
            Some(v1::PreviousNames::Several(texts)) => {
                let name =
                    |(at, text): (usize, &v1::NameText)| self.name(&text.0, &format!("/metadata/previousName/{at}"));
                texts.iter().enumerate().filter_map(name).collect()
            }
        }
    }

    /// Returns the name of the document; a stand-in, with a diagnostic, when it is not legal: the rest of the document
    /// is checked too.
    fn own_name(&mut self, text: &v1::NameText) -> Name {
        self.name(&text.0, "/metadata/name").unwrap_or_else(unresolved)
    }

    fn name(&mut self, text: &str, pointer: &str) -> Option<Name> {
        match Name::parse(text) {
            Ok(name) => Some(name),
            Err(error) => {
                let mut diagnostic = Diagnostic::new(code::NAME, span(self.root, pointer), id_detail(text, &error));
                let better: String = text.to_lowercase().replace(['_', '.', ' '], "-");
                if better != text && Name::parse(&better).is_ok() {
                    diagnostic = diagnostic.with_help(format!("Write `{better}`."));
                }
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// Notes a reference for the rules and returns its name; a stand-in when it is none, which the rules will report.
    fn reference(&mut self, kind: Kind, text: &str, pointer: impl Into<String>) -> Name {
        let pointer = self.place(&pointer.into()).into_owned();
        self.references.push(Reference { pointer, kind, allows_schedule: false, text: text.to_string() });
        // An organization may be named by its path.
        let last = if kind == Kind::Organization { text.rsplit('/').next().unwrap_or(text) } else { text };
        Name::parse(last).unwrap_or_else(|_| unresolved())
    }

    fn organization_reference(&mut self, text: Option<v1::OrganizationText>, pointer: &str) -> Option<String> {
        let text = text?.0;
        self.reference(Kind::Organization, &text, pointer);
        Some(text)
    }

    /// As [`Lowering::reference`], to a kind that has runs: a job or a schedule.
    fn reference_to_runs(&mut self, text: &str, pointer: &str) -> Name {
        let name = self.reference(Kind::Job, text, pointer);
        if let Some(reference) = self.references.last_mut() {
            reference.allows_schedule = true;
        }
        name
    }

    fn file(&mut self, text: &str, pointer: &str, format: FileFormat) {
        self.files.push(FileReference { pointer: pointer.to_string(), text: text.to_string(), format });
    }

    fn duration(&mut self, text: Option<&v1::DurationText>, pointer: &str, default: Duration) -> Duration {
        self.optional_duration(text, pointer).unwrap_or(default)
    }

    fn optional_duration(&mut self, text: Option<&v1::DurationText>, pointer: &str) -> Option<Duration> {
        match values::duration(&text?.0) {
            Ok(duration) => Some(duration),
            Err(detail) => {
                self.report(code::DURATION, pointer, detail);
                None
            }
        }
    }

    fn probability(&mut self, text: Option<&v1::ProbabilityText>, pointer: &str) -> Probability {
        match text.map(|text| values::probability(&text.0)) {
            None => Probability::default(),
            Some(Ok(probability)) => probability,
            Some(Err(detail)) => {
                self.report(code::PROBABILITY, pointer, detail);
                Probability::default()
            }
        }
    }

    fn range(&mut self, number: u32, min: u32, max: u32, pointer: &str) -> u32 {
        if !(min..=max).contains(&number) {
            let detail = format!("{} must lie between {min} and {max}.", Subject(&self.place(pointer)));
            self.report(code::OUT_OF_RANGE, pointer, detail);
        }
        number.clamp(min, max)
    }
}

/// Returns why a text is not legal, as a sentence.
fn id_detail(text: &str, error: &IdError) -> String {
    match error {
        IdError::Empty => "An empty text is not legal here.".to_string(),
        IdError::TooLong { .. } | IdError::Character { .. } | IdError::Edge { .. } => {
            format!("`{}` {error}.", shown(text))
        }
    }
}
