//! Why a back end does not get what it asks for.

use crate::ops::OpsError;
use crate::prepare::PrepareError;
use crate::registry::RegistryError;
use crate::repo::RepoError;

/// Why a back end does not get what it asks for; the text is one sentence for its author.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Something in the request is wrong.
    #[error("{0}")]
    Argument(String),
    /// The body, or a section of a twin, is too large.
    #[error("{0}")]
    TooLarge(String),
    #[error("there is no device `{0}`")]
    NoDevice(String),
    #[error("there is no job `{0}`")]
    NoJob(String),
    #[error("there is a job `{0}` already, and it says something else: choose another id")]
    JobExists(String),
    #[error("there is a device `{0}` already: give If-Match to update it")]
    DeviceExists(String),
    #[error("as many messages wait for the device `{0}` already as may: it is to take some, or purge them")]
    QueueFull(String),
    #[error("it was changed meanwhile, so the ETag of If-Match is an old one: read it again")]
    Stale,
    /// Another job that has not ended writes something else to the same devices.
    #[error("{0}")]
    Conflict(String),
    /// The fleet or a policy of it does not allow this.
    #[error("{0}")]
    Refused(String),
    /// The job cannot be canceled any more.
    #[error("{0}")]
    State(String),
    /// What it takes is not there now; nothing was done.
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Ops(#[from] OpsError),
}

impl HubError {
    /// Returns what each of so many back ends is told when what all have asked for fails for one reason.
    pub fn of_all<T>(self, count: usize) -> Vec<Result<T, HubError>> {
        let text = self.to_string();
        let others = (1..count).map(|_| Err(HubError::Unavailable(text.clone())));
        std::iter::once(Err(self)).chain(others).take(count).collect()
    }
}

impl From<PrepareError> for HubError {
    fn from(error: PrepareError) -> HubError {
        HubError::Ops(error.into())
    }
}

impl From<RegistryError> for HubError {
    fn from(error: RegistryError) -> HubError {
        HubError::Ops(error.into())
    }
}

impl From<RepoError> for HubError {
    fn from(error: RepoError) -> HubError {
        HubError::Ops(error.into())
    }
}
