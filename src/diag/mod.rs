//! Messages to the author of a file: diagnostics as data.
//!
//! Rooms that read what people wrote return `(T, Diagnostics)`; nothing here prints, orders or exits. Views render a
//! [`Diagnostic`] against the [`SourceMap`] that holds the text it points into.

pub mod code;
mod source;

pub use code::{CODES, Code, CodeInfo};
pub use source::{FileId, Position, SourceFile, SourceMap, Span};

/// How bad a diagnostic is: an error refuses the whole change, a warning is shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The declared files cannot be used (exit 65).
    Error,
    /// Allowed, and probably not what was meant.
    Warning,
}

impl Severity {
    /// Returns the lower-case word used in every output format.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One finding about what an author wrote.
///
/// `summary` is fixed text per code, without user names; `detail` is whole sentences that say what is wrong, why and
/// what to do; `help` is the one step to take next, when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: Code,
    pub summary: &'static str,
    pub detail: String,
    /// The one next step, such as a near name or a command; `None` when `detail` says it all.
    pub help: Option<String>,
    /// Where; `None` when the finding is about a file that is missing or about the fleet as a whole.
    pub span: Option<Span>,
    /// Further places with a short label each, such as the first of two equal names.
    pub labels: Vec<(Span, String)>,
}

impl Diagnostic {
    /// Returns a diagnostic with the severity and summary that belong to `code`.
    pub fn new(code: Code, span: impl Into<Option<Span>>, detail: impl Into<String>) -> Diagnostic {
        let info = code.info();
        Diagnostic {
            severity: info.severity,
            code,
            summary: info.summary,
            detail: detail.into(),
            help: None,
            span: span.into(),
            labels: Vec::new(),
        }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Returns the diagnostic with all of its places moved to another file.
    #[must_use]
    pub fn placed(mut self, file: FileId) -> Diagnostic {
        self.span = self.span.map(|span| span.placed(file));
        self.labels.iter_mut().for_each(|(span, _)| *span = span.placed(file));
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn with_label(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.labels.push((span, label.into()));
        self
    }
}

/// All findings of one run, in the order in which they were made; views sort them by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Returns an empty list.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds one finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    /// Adds all findings of another list.
    pub fn extend(&mut self, other: Diagnostics) {
        self.items.extend(other.items);
    }

    /// Takes out the findings with a code.
    pub fn take_out(&mut self, code: Code) {
        self.items.retain(|item| item.code != code);
    }

    /// Returns true when at least one finding is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// Returns true when there are errors, and all of them have one code.
    pub fn errors_are_all(&self, code: Code) -> bool {
        self.has_errors() && self.iter().all(|item| item.severity != Severity::Error || item.code == code)
    }

    /// Returns true when nothing was found.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the findings sorted by file, place and code, without exact duplicates.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.items.iter().collect();
        sorted.sort_by_key(|item| (item.span.map(|span| (span.file, span.start)), item.severity, item.code));
        sorted.dedup();
        sorted
    }

    /// Iterates in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    /// Returns the number of (errors, warnings).
    pub fn counts(&self) -> (usize, usize) {
        let sorted = self.sorted();
        let errors = sorted.iter().filter(|item| item.severity == Severity::Error).count();
        (errors, sorted.len() - errors)
    }
}

/// Returns the candidate nearest to `word` when it is near enough to be a slip of the finger.
///
/// Near enough is an edit distance (Damerau-Levenshtein) of at most a third of the length of `word`, at least 1. Ties
/// go to the first candidate in the given order.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns what an author wrote as it may stand in a sentence: sanitised, on one line, at most 80 characters.
pub fn shown(text: &str) -> String {
    let safe = crate::model::text::sanitize_line(text);
    crate::model::text::shorten(&safe, 80).into_owned()
}
