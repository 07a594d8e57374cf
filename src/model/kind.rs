//! The kinds of documents.

use std::fmt;

/// What a document declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Fleet,
    Organization,
    DeviceTemplate,
    DeviceGroup,
    EdgeManifest,
    DeviceImport,
    Job,
    Schedule,
    Policy,
    Access,
}

impl Kind {
    /// Every kind, in the order in which they refer to each other.
    pub const ALL: [Kind; 10] = [
        Kind::Fleet,
        Kind::Organization,
        Kind::DeviceTemplate,
        Kind::DeviceGroup,
        Kind::EdgeManifest,
        Kind::DeviceImport,
        Kind::Job,
        Kind::Schedule,
        Kind::Policy,
        Kind::Access,
    ];

    /// Returns the word of the `kind` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Fleet => "Fleet",
            Kind::Organization => "Organization",
            Kind::DeviceTemplate => "DeviceTemplate",
            Kind::DeviceGroup => "DeviceGroup",
            Kind::EdgeManifest => "EdgeManifest",
            Kind::DeviceImport => "DeviceImport",
            Kind::Job => "Job",
            Kind::Schedule => "Schedule",
            Kind::Policy => "Policy",
            Kind::Access => "Access",
        }
    }

    /// Returns what a sentence calls it, such as `device group`.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Fleet => "fleet",
            Kind::Organization => "organization",
            Kind::DeviceTemplate => "device template",
            Kind::DeviceGroup => "device group",
            Kind::EdgeManifest => "edge manifest",
            Kind::DeviceImport => "device import",
            Kind::Job => "job",
            Kind::Schedule => "schedule",
            Kind::Policy => "policy",
            Kind::Access => "access",
        }
    }

    /// Returns the kind of a word, or `None`.
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
