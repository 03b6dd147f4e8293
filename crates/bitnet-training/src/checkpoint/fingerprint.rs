//! What a run must have in common with the one it continues.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Named facts that the rest of a run depends on: hashes of its data, options of its recipe, sizes of its model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Adds a fact.
    pub fn set(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        self.0.insert(name.into(), value.to_string());
    }

    /// In what a run that is to go on differs from the one that was saved, by name.
    pub fn differences(&self, saved: &Self) -> Vec<Difference> {
        let names = self.0.keys().chain(saved.0.keys().filter(|name| !self.0.contains_key(*name)));
        let difference = |name: &String| Difference {
            name: name.clone(),
            saved: saved.0.get(name).cloned(),
            now: self.0.get(name).cloned(),
        };
        let mut differences: Vec<Difference> =
            names.map(difference).filter(|difference| difference.saved != difference.now).collect();
        differences.sort_by(|a, b| a.name.cmp(&b.name));
        differences
    }
}

/// A fact that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// What it was.
    pub saved: Option<String>,
    /// What it is.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.saved, &self.now) {
            (Some(saved), Some(now)) => write!(f, "{name} was {saved} and is {now}"),
            (Some(saved), None) => write!(f, "{name} was {saved} and is not there"),
            (None, now) => write!(f, "{name} was not there and is {}", now.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(facts: &[(&str, i32)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for (name, value) in facts {
            fingerprint.set(*name, value);
        }
        fingerprint
    }

    #[test]
    fn every_difference_is_named() {
        let now = facts(&[("a", 1), ("b", 2), ("c", 3)]);
        let saved = facts(&[("b", 2), ("c", 4), ("d", 5)]);
        let lines: Vec<String> = now.differences(&saved).iter().map(Difference::to_string).collect();
        assert_eq!(lines, ["a was not there and is 1", "c was 4 and is 3", "d was 5 and is not there"]);
        assert_eq!(now.differences(&now), []);
    }
}
