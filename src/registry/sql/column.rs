//! The columns of a device that conditions read.

use crate::query;
use crate::query::ast::{Expr, PathRef, Root};

/// A column that queries read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    DeviceId,
    DeviceName,
    Template,
    Organization,
    State,
    ConnectionState,
    LastActivity,
    Blocked,
    Simulated,
    IotEdge,
    DesiredVersion,
    ReportedVersion,
    Tags,
    Cloud,
    Desired,
    Reported,
}

impl Column {
    /// Returns the column that holds a root; `None` for roots that are always undefined.
    fn of(root: Root) -> Option<Column> {
        match root {
            Root::DeviceId => Some(Column::DeviceId),
            Root::DeviceName => Some(Column::DeviceName),
            Root::Template => Some(Column::Template),
            Root::Organization => Some(Column::Organization),
            Root::ConnectionState => Some(Column::ConnectionState),
            Root::LastActivityTime => Some(Column::LastActivity),
            Root::Status | Root::Blocked => Some(Column::Blocked),
            Root::Simulated => Some(Column::Simulated),
            Root::IotEdge => Some(Column::IotEdge),
            Root::Provisioned => Some(Column::State),
            Root::Tags => Some(Column::Tags),
            Root::Cloud => Some(Column::Cloud),
            Root::Desired => Some(Column::Desired),
            Root::Reported => Some(Column::Reported),
            Root::DesiredVersion => Some(Column::DesiredVersion),
            Root::ReportedVersion => Some(Column::ReportedVersion),
            Root::Model | Root::ModuleId | Root::Configurations => None,
        }
    }

    /// Returns the column's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Column::DeviceId => "device_id",
            Column::DeviceName => "device_name",
            Column::Template => "template",
            Column::Organization => "organization",
            Column::State => "state",
            Column::ConnectionState => "connection_state",
            Column::LastActivity => "last_activity",
            Column::Blocked => "blocked",
            Column::Simulated => "simulated",
            Column::IotEdge => "iot_edge",
            Column::DesiredVersion => "desired_version",
            Column::ReportedVersion => "reported_version",
            Column::Tags => "tags",
            Column::Cloud => "cloud",
            Column::Desired => "desired",
            Column::Reported => "reported",
        }
    }
}

/// What a column says about a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property<'a> {
    /// The text of the column; NULL where it is undefined.
    Text(Column),
    /// An integer, never NULL.
    Number(Column),
    /// A truth value, never NULL.
    Bool(Column),
    /// The word of [`query::status`] for whether it is blocked.
    Status(Column),
    /// True in the state `provisioned`.
    Provisioned(Column),
    /// The value below some keys of an object of JSON; without keys the object itself.
    Json(Column, &'a [String]),
}

impl Property<'_> {
    /// Returns what a path reads; `None` for roots that are always undefined.
    pub(super) fn of(path: &PathRef) -> Option<Property<'_>> {
        let column = Column::of(path.root)?;
        Some(match path.root {
            Root::Status => Property::Status(column),
            Root::Provisioned => Property::Provisioned(column),
            Root::Simulated | Root::Blocked | Root::IotEdge => Property::Bool(column),
            Root::DesiredVersion | Root::ReportedVersion => Property::Number(column),
            Root::DeviceId
            | Root::DeviceName
            | Root::Template
            | Root::Organization
            | Root::ConnectionState
            | Root::LastActivityTime => Property::Text(column),
            Root::Tags | Root::Cloud | Root::Desired | Root::Reported => Property::Json(column, &path.keys),
            Root::Model | Root::ModuleId | Root::Configurations => return None,
        })
    }
}

/// Returns true when an expression reads a column: without one it is the same for every device.
pub(super) fn reads_any(expr: &Expr) -> bool {
    query::paths_of(expr).iter().any(|path| Column::of(path.root).is_some())
}
