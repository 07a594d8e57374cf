//! Connections that nobody uses now. To make one takes the server ten milliseconds, and a daemon looks often.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::RegistryError;
use super::connection::Connection;
use super::settings::Settings;

/// The most connections that are kept.
const KEPT_MAX: usize = 2;

/// Connections to one server.
#[derive(Clone, Default)]
pub(super) struct Idle(Rc<RefCell<Vec<Rc<Connection>>>>);

impl Idle {
    /// Returns a connection that was kept, or makes one.
    pub fn connect(&self, settings: &Settings) -> Result<Rc<Connection>, RegistryError> {
        loop {
            let Some(kept) = self.0.borrow_mut().pop() else { return super::connect(settings).map(Rc::new) };
            // It may have been closed since.
            if !kept.is_closed() && kept.batch("").is_ok() {
                return Ok(kept);
            }
        }
    }

    /// Keeps a connection that is in no transaction and has no temporary tables.
    pub fn keep(&self, connection: &Rc<Connection>) {
        let mut kept = self.0.borrow_mut();
        if !connection.is_closed() && kept.len() < KEPT_MAX {
            kept.push(Rc::clone(connection));
        }
    }
}
