//! Which modules a list like `modules_to_not_convert` names.

use fancy_regex::Regex;

/// Names of modules, as transformers 5.23 reads them (`should_convert_module`).
///
/// An entry names every module whose name ends with it; and, read as a regular expression, every module that it
/// matches from the start up to a dot or the end, with all below it.
#[derive(Debug, Clone)]
pub struct ModulePatterns(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    /// `None` when the entry is no regular expression; it is a name then.
    regex: Option<Regex>,
}

impl ModulePatterns {
    /// The patterns of a list.
    pub fn new(entries: Vec<String>) -> Self {
        let pattern =
            |text: String| Pattern { regex: Regex::new(&format!(r"^(?:{text})(?:\.|$|(?<=\.))")).ok(), text };
        Self(entries.into_iter().map(pattern).collect())
    }

    /// What counts without a list: the head.
    pub fn head_only() -> Self {
        Self::new(vec!["lm_head".to_owned()])
    }

    /// What names every module.
    pub fn everything() -> Self {
        Self::new(vec![".*".to_owned()])
    }

    /// Whether an entry names the module `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| {
            let is_match = |regex: &Regex| regex.is_match(name).unwrap_or(false);
            name.ends_with(&pattern.text) || pattern.regex.as_ref().is_some_and(is_match)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_endings_modules_and_patterns() {
        let is_named = |entry: &str, name: &str| ModulePatterns::new(vec![entry.to_owned()]).matches(name);
        assert!(is_named("proj", "model.layers.0.mlp.up_proj"));
        assert!(is_named("model.layers.1", "model.layers.1.mlp.up_proj"));
        assert!(!is_named("model.layers.1", "model.layers.11.mlp.up_proj"));
        assert!(is_named("model.layers.*.mlp", "model.layers.3.mlp.up_proj"));
        assert!(!is_named("mlp", "model.layers.3.mlp.up_proj"));
        assert!(!is_named("mlp.gate", "model.layers.3.mlp.gate_proj"));
        assert!(ModulePatterns::everything().matches("model.layers.3.mlp.gate_proj"));
    }

    #[test]
    fn an_entry_that_is_no_pattern_is_a_name() {
        let patterns = ModulePatterns::new(vec!["a(b".to_owned()]);
        assert!(patterns.matches("x.a(b") && !patterns.matches("ab"));
    }
}
