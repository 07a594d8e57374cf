//! A write of one twin that somebody asks for at once.

use super::super::TwinWrite;
use super::super::twin_write::{NextTwin, Sections};
use super::connection::Connection;
use super::fault::Fault;
use super::json::{stored, stored_text};
use super::rows::{DEVICE_COLUMNS, device_of_row};

/// Writes sections of a twin, and returns what came of it.
pub(super) fn write(connection: &Connection, device_id: &str, sections: Sections<'_>) -> Result<TwinWrite, Fault> {
    let text = format!("SELECT {DEVICE_COLUMNS} FROM device AS d WHERE d.device_id = $1 FOR UPDATE");
    let id = stored_text(device_id);
    let Some(row) = connection.row(&text, &[&id])? else { return Ok(TwinWrite::Unknown) };
    let NextTwin { tags, desired, desired_changed } = match sections.next(&device_of_row(&row)?) {
        Ok(next) => next,
        Err(refused) => return Ok(refused),
    };
    let text = format!(
        "UPDATE device AS d SET tags = coalesce($2::text::jsonb, tags), desired = coalesce($3::text::jsonb, desired),
             desired_version = desired_version + ($3 IS NOT NULL)::int
         WHERE device_id = $1 RETURNING {DEVICE_COLUMNS}"
    );
    let [tags, desired] = [tags, desired].map(|section| section.as_ref().map(stored));
    let device = device_of_row(&connection.one(&text, &[&id, &tags, &desired])?)?;
    Ok(TwinWrite::Written { device: Box::new(device), desired_changed })
}
