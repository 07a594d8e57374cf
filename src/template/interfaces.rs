//! How interfaces extend each other.

use super::model::Interface;
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
