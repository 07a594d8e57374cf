//! The planner's view of the fleet: for each job the sorted ids of its devices and what they have now at the paths that
//! the job touches. No twins: about 25 bytes a device whatever the size of its twin.

use serde_json::Value;

use super::id::Name;

/// Returns the first of so many places for which a monotone condition holds; their number when it holds for none.
pub fn first_place(count: usize, mut holds: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Sorted device ids in one arena of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIds {
    text: String,
    /// The end of each id in `text`; ids are in ascending byte order without duplicates.
    ends: Vec<u32>,
}

impl DeviceIds {
    /// Returns an empty list.
    pub fn new() -> DeviceIds {
        DeviceIds::default()
    }

    /// Adds an id.
    ///
    /// # Panics
    /// When it is not above the last one, or when the ids pass 4 GiB together.
    pub fn push(&mut self, id: &str) {
        assert!(self.last().is_none_or(|last| last < id), "device ids come sorted and without duplicates");
        self.text.push_str(id);
        self.ends.push(u32::try_from(self.text.len()).expect("the ids of one target stay below 4 GiB"));
    }

    /// Returns the number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns how many bytes of memory they take.
    pub fn size(&self) -> usize {
        self.text.len() + size_of_val(self.ends.as_slice())
    }

    /// Returns true when there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the id at a place.
    ///
    /// # Panics
    /// When there are not that many.
    pub fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.text[start..self.ends[at] as usize]
    }

    /// Returns the place of an id, or `None`.
    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(id) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Returns true when some id is in both lists.
    pub fn intersects(&self, other: &DeviceIds) -> bool {
        let (mut left, mut right) = (0, 0);
        while left < self.len() && right < other.len() {
            match self.get(left).cmp(other.get(right)) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => left += 1,
                std::cmp::Ordering::Greater => right += 1,
            }
        }
        false
    }

    /// Iterates in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }

    fn last(&self) -> Option<&str> {
        self.len().checked_sub(1).map(|at| self.get(at))
    }
}

impl<'a> FromIterator<&'a str> for DeviceIds {
    /// Collects ids that come sorted and without duplicates.
    fn from_iter<I: IntoIterator<Item = &'a str>>(ids: I) -> DeviceIds {
        let mut list = DeviceIds::new();
        ids.into_iter().for_each(|id| list.push(id));
        list
    }
}

/// What keeps a job from a device that is there and not blocked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// The job does not fit its device template.
    Template(Name),
    /// The job assigns an edge manifest, and the device is no IoT Edge device (`capabilities.iotEdge`).
    NotEdge,
}

/// The current values of some devices; one entry for all devices with the same values at the paths of the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// Blocked devices fail, and nothing is sent to them.
    pub blocked: bool,
    /// Why the job does not fit: nothing is sent to such devices, and they fail. `None` for all others, whatever their
    /// template.
    pub mismatch: Option<Mismatch>,
    /// The value at each path of the job's assignments, in their order; `None` where it is absent. For a template job
    /// one value: the name that the device has now; for an edge manifest job two: its name and the digest of its
    /// content. Empty for a command.
    pub values: Vec<Option<Value>>,
}

/// The devices of one job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    pub ids: DeviceIds,
    /// For each id the index of its entry in `table`; as long as `ids`.
    pub before: Vec<u32>,
    /// Distinct entries in the order in which they were first met.
    pub table: Vec<Before>,
    /// Ids that the job names and the registry does not have, sorted.
    pub missing: Vec<String>,
    /// For a job that changes the device template.
    pub strays: Strays,
    /// The number of devices for each question about devices that are not selected.
    pub passed_over: Vec<u64>,
}

/// Desired properties of devices that have no place in the device template which they are to get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// The most frequent ones with the number of devices that have them, by falling number, then by name.
    pub names: Vec<(String, u64)>,
    /// How many further names there are.
    pub more: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_place_and_by_text() {
        let ids: DeviceIds = ["a", "b1", "b2", "z"].into_iter().collect();
        assert_eq!(ids.get(1), "b1");
        assert_eq!(ids.find("z"), Some(3));
        assert_eq!(ids.find("b"), None);
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["a", "b1", "b2", "z"]);
        let of = |ids: &[&str]| ids.iter().copied().collect::<DeviceIds>();
        assert!(ids.intersects(&of(&["b", "b2", "c"])) && ids.intersects(&of(&["z"])));
        assert!(!ids.intersects(&of(&["b", "c", "zz"])) && !ids.intersects(&of(&[])));
    }

    #[test]
    #[should_panic(expected = "sorted")]
    fn unsorted_ids_are_a_bug() {
        let _: DeviceIds = ["b", "a"].into_iter().collect();
    }
}
