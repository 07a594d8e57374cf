//! The entry at a path of a tree of files.

/// What git calls the content of a file, as bytes: equal for equal content only.
pub type ContentId = [u8; 20];

/// One path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A regular file, executable or not.
    File {
        /// In bytes.
        size: u64,
        /// `None` where it is not known without reading the file.
        id: Option<ContentId>,
    },
    Symlink,
    Submodule,
}

impl Entry {
    /// Returns a file of which only the size, in bytes, is known.
    pub fn file(size: u64) -> Entry {
        Entry::File { size, id: None }
    }

    /// Returns git's id of the content of a file; `None` when it is not a file or the id is not known.
    pub fn id(self) -> Option<ContentId> {
        match self {
            Entry::File { id, .. } => id,
            Entry::Symlink | Entry::Submodule => None,
        }
    }
}
