//! The link of a fleet as its files declare it, for who speaks to the same broker from the other side.

use super::{Environment, OpsError, Workspace};
use crate::model::fleet::MqttLinkConfig;
use crate::prepare::{Files, OnError, TreeChoice};

/// Returns the settings of the fleet's broker, as they are in the work tree; `None` when it has none.
///
/// # Errors
/// There is no fleet, or its document is not valid.
pub fn broker(environment: &Environment) -> Result<Option<MqttLinkConfig>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    Ok(files.usable()?.fleet.link.mqtt().cloned())
}
