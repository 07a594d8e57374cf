//! A model: interfaces with their contents, and how they extend one another.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::Schema;

/// The interfaces of a file. Inherited contents are looked up and not copied, so a model is never larger than its file.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) interfaces: Vec<Interface>,
    /// The interface of the device itself.
    pub(super) root: usize,
    pub(super) id: String,
}

/// An interface.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    /// Its own contents, by name.
    pub contents: BTreeMap<String, Content>,
    /// The interfaces that it extends, as places in [`Model::interfaces`].
    pub extends: Vec<usize>,
}

/// One thing that a device has or does.
#[derive(Debug, Clone)]
pub enum Content {
    Telemetry,
    Relationship,
    Property {
        schema: Schema,
        writable: bool,
        /// IoT Central's `Cloud`: kept about the device, never sent to it.
        is_cloud: bool,
    },
    Command {
        request: Option<CommandRequest>,
    },
    /// Another interface under a name of its own, as a place in [`Model::interfaces`].
    Component {
        interface: usize,
    },
}

/// The request of a command.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    pub schema: Schema,
    /// Version 3: null is allowed.
    pub is_nullable: bool,
}

impl Model {
    /// Returns the `@id` of the device's interface, such as `dtmi:contoso:Thermostat;1`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the content of a name in an interface or in one that it extends.
    pub(super) fn find(&self, interface: usize, name: &str) -> Option<&Content> {
        let mut found = None;
        self.walk(interface, |one| {
            if found.is_none() {
                found = one.contents.get(name);
            }
        });
        found
    }

    /// Returns the names of those contents of an interface for which `is_wanted` holds.
    pub(super) fn names(&self, interface: usize, is_wanted: impl Fn(&Content) -> bool) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.walk(interface, |one| {
            names.extend(one.contents.iter().filter(|(_, content)| is_wanted(content)).map(|(name, _)| name.as_str()));
        });
        names
    }

    /// Returns the names of the device's components, its own and inherited ones.
    pub fn components(&self) -> BTreeSet<&str> {
        self.names(self.root, |content| matches!(content, Content::Component { .. }))
    }

    pub(super) fn desired_names(&self) -> BTreeSet<&str> {
        self.names(self.root, |content| match content {
            Content::Property { writable, is_cloud, .. } => *writable && !is_cloud,
            Content::Component { .. } => true,
            Content::Telemetry | Content::Relationship | Content::Command { .. } => false,
        })
    }

    /// Visits an interface and then all that it extends, each once.
    fn walk<'a>(&'a self, interface: usize, mut visit: impl FnMut(&'a Interface)) {
        let mut seen = BTreeSet::new();
        let mut open = vec![interface];
        while let Some(at) = open.pop() {
            if seen.insert(at) {
                visit(&self.interfaces[at]);
                open.extend(self.interfaces[at].extends.iter().rev());
            }
        }
    }
}
