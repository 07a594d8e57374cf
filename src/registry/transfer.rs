//! A whole registry as rows, the same for every store: for copies into another store.

use super::RegistryError;
use super::meta::{COPY_OF, DEVICES, GAVE_UP, IDENTITY};

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Bytes(Vec<u8>),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    /// A JSON object, as a text without white space.
    Json,
    /// 0 or 1.
    Bool,
    Integer,
    Bytes,
}

/// A table that every store has.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, ColumnKind)],
}

impl Table {
    /// Returns the names of the columns, with commas between them.
    pub fn column_list(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// Takes a row of a table: a cell for each column.
pub type RowSink<'a> = dyn FnMut(&'static Table, Vec<Cell>) -> Result<(), RegistryError> + 'a;

/// Gives rows to a sink, the tables in their order.
pub type RowSource<'a> = dyn FnMut(&mut RowSink<'_>) -> Result<(), RegistryError> + 'a;

/// Keys of `meta` that a store sets itself: whose it is, its version, and how many devices it has.
pub const OWN_KEYS: [&str; 3] = ["fleet", "schema_version", DEVICES];

/// Returns true for a row that says which registry it is.
pub(super) fn names_one(table: &Table, cells: &[Cell]) -> bool {
    let names = |key: &str| [IDENTITY, COPY_OF, GAVE_UP].contains(&key);
    table.name == "meta" && matches!(cells.first(), Some(Cell::Text(key)) if names(key))
}

use ColumnKind::{Bool, Bytes, Integer, Json, Text};

/// The tables, in the order in which they are copied. `meta` is the last one, because writing the others changes it.
pub const TABLES: &[Table] = &[
    Table {
        name: "device",
        columns: &[
            ("device_id", Text),
            ("device_name", Text),
            ("template", Text),
            ("organization", Text),
            ("state", Text),
            ("blocked", Bool),
            ("simulated", Bool),
            ("iot_edge", Bool),
            ("connection_state", Text),
            ("last_activity", Text),
            ("edge_manifest", Text),
            ("edge_manifest_digest", Text),
            ("tags", Json),
            ("cloud", Json),
            ("desired", Json),
            ("desired_version", Integer),
            ("reported", Json),
            ("reported_version", Integer),
            ("import", Text),
        ],
    },
    Table {
        name: "device_key",
        columns: &[
            ("device_id", Text),
            ("primary_key", Bytes),
            ("secondary_key", Bytes),
            ("primary_thumbprint", Text),
            ("secondary_thumbprint", Text),
            ("authentication", Text),
        ],
    },
    Table {
        name: "device_status",
        columns: &[("device_id", Text), ("generation", Text), ("reason", Text), ("updated_at", Integer)],
    },
    Table { name: "import", columns: &[("name", Text), ("digest", Text), ("applied_at", Text)] },
    Table {
        name: "run",
        columns: &[
            ("run_id", Integer),
            ("job", Text),
            ("run", Text),
            ("is_claimed", Bool),
            ("status", Text),
            ("reason", Text),
            ("total", Integer),
            ("batch_size", Integer),
            ("claim", Text),
            ("started_at", Text),
            ("finished_at", Text),
            ("is_closed", Bool),
            ("record", Text),
            ("is_failures", Bool),
            ("spec", Text),
            ("edge_manifest_digest", Text),
            ("batch", Integer),
            ("batch_opened_at", Integer),
            ("first_batch", Integer),
            ("keeps_answers", Bool),
        ],
    },
    Table { name: "run_target", columns: &[("run_id", Integer), ("first", Integer), ("ids", Text)] },
    Table {
        name: "outcome",
        columns: &[
            ("run_id", Integer),
            ("ordinal", Integer),
            ("reason", Integer),
            ("code", Integer),
            ("message", Text),
            ("attempts", Integer),
            ("started_at", Integer),
            ("finished_at", Integer),
        ],
    },
    Table {
        name: "sent",
        columns: &[
            ("run_id", Integer),
            ("ordinal", Integer),
            ("attempt", Integer),
            ("sent_at", Integer),
            ("waits", Integer),
            ("version", Integer),
        ],
    },
    Table {
        name: "late",
        columns: &[("run_id", Integer), ("ordinal", Integer), ("code", Integer), ("message", Text), ("at", Integer)],
    },
    Table {
        name: "answer",
        columns: &[("run_id", Integer), ("ordinal", Integer), ("code", Integer), ("at", Integer), ("payload", Bytes)],
    },
    Table { name: "kept_file", columns: &[("path", Text), ("content", Bytes), ("blob_id", Text)] },
    Table {
        name: "message",
        columns: &[
            ("sequence", Integer),
            ("device_id", Text),
            ("message_id", Text),
            ("properties", Json),
            ("expires_at", Integer),
            ("deliveries", Integer),
            ("body", Bytes),
        ],
    },
    Table { name: "device_connection", columns: &[("device_id", Text), ("at", Integer), ("is_online", Bool)] },
    Table { name: "device_session", columns: &[("device_id", Text), ("subscriptions", Integer)] },
    Table { name: "deleted_device", columns: &[("device_id", Text), ("device_name", Text)] },
    Table { name: "left_device", columns: &[("device_id", Text)] },
    Table { name: "meta", columns: &[("key", Text), ("value", Text)] },
];
