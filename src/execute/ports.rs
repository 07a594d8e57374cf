//! The ports of a process, which simulations can wrap.

use std::fmt;
use std::rc::Rc;

use super::CrashPoints;
use crate::link::DeviceLink;
use crate::registry::{Registry, Store};

/// Wraps a port, for example with faults.
pub type Wrap<Port> = Rc<dyn Fn(Box<Port>) -> Box<Port>>;

/// The ports of a process, as it opens them.
#[derive(Clone, Default)]
pub struct Ports {
    /// The places where the process may die in its work with git.
    pub crash: CrashPoints,
    /// Wraps the store of the registry; `None` for the store itself.
    pub store: Option<Wrap<dyn Store>>,
    /// Wraps the link.
    pub link: Option<Wrap<dyn DeviceLink>>,
}

impl Ports {
    /// The ports themselves, and a process that does not die.
    pub const REAL: Ports = Ports { crash: CrashPoints::NOWHERE, store: None, link: None };

    /// Returns a registry over a store.
    pub fn registry(&self, store: Box<dyn Store>) -> Registry {
        Registry::new(match &self.store {
            Some(wrap) => wrap(store),
            None => store,
        })
    }

    /// Returns a link.
    pub fn link(&self, link: Box<dyn DeviceLink>) -> Box<dyn DeviceLink> {
        match &self.link {
            Some(wrap) => wrap(link),
            None => link,
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("crash", &self.crash).finish_non_exhaustive()
    }
}
