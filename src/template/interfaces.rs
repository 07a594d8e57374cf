//! How interfaces extend each other, and are components of each other.

use std::collections::BTreeSet;

use super::model::{Content, Interface};
use crate::model::limits;

/// Returns an interface that extends itself, or that stands on too many others, and what is wrong with it.
///
/// An interface is taken after all interfaces that it extends (Kahn's algorithm). The remaining ones are part of a
/// cycle, and no recursion depends on the file.
pub fn check_extensions(interfaces: &[Interface]) -> Option<(usize, String)> {
    let mut waits: Vec<usize> = interfaces.iter().map(|interface| interface.extends.len()).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); interfaces.len()];
    for (at, interface) in interfaces.iter().enumerate() {
        interface.extends.iter().for_each(|base| followers[*base].push(at));
    }
    let mut heights = vec![0_usize; interfaces.len()];
    let mut ready: Vec<usize> = (0..interfaces.len()).filter(|at| waits[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        if heights[at] > limits::DTDL_EXTENDS_DEPTH_MAX {
            let most = limits::DTDL_EXTENDS_DEPTH_MAX;
            return Some((at, format!("interfaces may extend one another {most} levels deep")));
        }
        for follower in &followers[at] {
            heights[*follower] = heights[*follower].max(heights[at] + 1);
            waits[*follower] -= 1;
            if waits[*follower] == 0 {
                ready.push(*follower);
            }
        }
    }
    let cycle = waits.iter().position(|count| *count > 0)?;
    Some((cycle, "this interface extends itself, or one that does".to_string()))
}

/// Names that are looked at: models of usual size have some hundreds. Beyond that, names that are twice are not looked
/// for.
const NAMES_MAX: usize = 1_000_000;

/// Returns true when an interface has components, its own or inherited ones.
pub fn has_components(interfaces: &[Interface], at: usize) -> bool {
    let is_component = |content: &Content| matches!(content, Content::Component { .. });
    with_bases(interfaces, at).into_iter().any(|at| interfaces[at].contents.values().any(is_component))
}

/// Returns interfaces with a content of a name that they inherit too, or inherit twice.
pub fn check_inherited(interfaces: &[Interface]) -> Vec<(usize, String)> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    for at in (0..interfaces.len()).filter(|at| !interfaces[*at].extends.is_empty()) {
        let mut names = BTreeSet::new();
        for base in with_bases(interfaces, at) {
            looked_at += interfaces[base].contents.len() + 1;
            if looked_at > NAMES_MAX {
                return found;
            }
            let twice = interfaces[base].contents.keys().find(|name| !names.insert(name.as_str()));
            if let Some(name) = twice {
                found.push((at, name.clone()));
                break;
            }
        }
    }
    found
}

/// Returns an interface and all that it extends, each once.
fn with_bases(interfaces: &[Interface], at: usize) -> BTreeSet<usize> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![at]);
    while let Some(at) = open.pop() {
        if seen.insert(at) {
            open.extend(&interfaces[at].extends);
        }
    }
    seen
}
