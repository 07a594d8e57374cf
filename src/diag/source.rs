//! The texts that diagnostics point into, and the arithmetic from bytes to lines and columns.

use std::sync::Arc;

/// The index of a file in a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// The id of a file that is in no [`SourceMap`] yet.
    pub const UNPLACED: FileId = FileId(u32::MAX);
}

/// A half-open byte range `[start, end)` of one file; an empty range is a place between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub file: FileId,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Returns the same place in another file.
    #[must_use]
    pub fn placed(self, file: FileId) -> Span {
        Span { file, ..self }
    }
}

/// A text with its path.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    path: String,
    text: String,
}

impl SourceFile {
    /// Returns a file. `path` is relative to the fleet's folder, with `/` between its parts.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    /// Returns the path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A place as people count it: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// The files that were read, by [`FileId`] in the order in which they were added. A copy shares their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceMap {
    files: Vec<Arc<SourceFile>>,
}

impl SourceMap {
    /// Returns an empty map.
    pub fn new() -> SourceMap {
        SourceMap::default()
    }

    /// Adds a file and returns its id. `path` is relative to the fleet's folder, with `/` between its parts.
    ///
    /// # Panics
    /// When more than `u32::MAX` files are added, which `model::limits::DOCUMENTS_MAX` forbids.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> FileId {
        self.share(Arc::new(SourceFile::new(path, text)))
    }

    /// Adds a file that other maps share; otherwise as [`SourceMap::add`].
    ///
    /// # Panics
    /// As [`SourceMap::add`].
    pub fn share(&mut self, file: Arc<SourceFile>) -> FileId {
        let id = u32::try_from(self.files.len()).expect("the number of files is bounded by limits::DOCUMENTS_MAX");
        self.files.push(file);
        FileId(id)
    }

    /// Returns the same texts with something put before each path.
    #[must_use]
    pub fn below(&self, prefix: &str) -> SourceMap {
        let below = |file: &Arc<SourceFile>| Arc::new(SourceFile::new(format!("{prefix}{}", file.path), &*file.text));
        SourceMap { files: self.files.iter().map(below).collect() }
    }

    /// Returns the path of a file.
    pub fn path(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].path
    }

    /// Returns the text of a file.
    pub fn text(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].text
    }

    /// Returns the line and column of the start of a span.
    pub fn position(&self, span: Span) -> Position {
        let text = self.text(span.file);
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: text[line_start..start].trim_start_matches('\u{feff}').chars().count() + 1,
        }
    }
}
