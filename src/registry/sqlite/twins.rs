//! A write of one twin that somebody asks for at once.

use rusqlite::{OptionalExtension, Transaction, params};

use super::super::TwinWrite;
use super::super::twin_write::{NextTwin, Sections};
use super::rows::{DEVICE_COLUMNS, device_of_row};

/// Writes sections: device, tags, desired properties; one that is NULL stays, and its version.
const WRITE: &str = "UPDATE device SET tags = coalesce(?2, tags), desired = coalesce(?3, desired),
        desired_version = desired_version + (?3 IS NOT NULL)
    WHERE device_id = ?1";

/// Writes sections of a twin, and returns what came of it.
pub(super) fn write(
    transaction: &Transaction<'_>,
    device_id: &str,
    sections: Sections<'_>,
) -> rusqlite::Result<TwinWrite> {
    let text = format!("SELECT {DEVICE_COLUMNS} FROM main.device AS d WHERE d.device_id = ?1");
    let mut look = transaction.prepare_cached(&text)?;
    let Some(before) = look.query_row([device_id], device_of_row).optional()? else { return Ok(TwinWrite::Unknown) };
    let NextTwin { tags, desired, desired_changed } = match sections.next(&before) {
        Ok(next) => next,
        Err(refused) => return Ok(refused),
    };
    let texts = [tags, desired].map(|section| section.map(|section| section.to_string()));
    transaction.prepare_cached(WRITE)?.execute(params![device_id, texts[0], texts[1]])?;
    let device = look.query_row([device_id], device_of_row)?;
    Ok(TwinWrite::Written { device: Box::new(device), desired_changed })
}
