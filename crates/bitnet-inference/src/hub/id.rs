//! Names of models on the hub.

use std::fmt;

/// What the hub allows for each of owner and name.
const MAX_LENGTH: usize = 96;
/// The branch that is meant when no revision is named.
const MAIN: &str = "main";

/// `owner/name` or `owner/name@revision`. Both parts are safe to put into URLs and, for `/` apart, file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubId {
    repo: String,
    revision: Option<String>,
}

impl HubId {
    /// The id that `s` is, if it is one.
    pub(super) fn parse(s: &str) -> Option<Self> {
        let (repo, revision) = match s.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (s, None),
        };
        let (owner, name) = repo.split_once('/')?;
        let is_valid = is_name(owner)
            && is_name(name)
            && name.strip_suffix(".git").is_none()
            && revision.is_none_or(is_revision);
        is_valid.then(|| Self { repo: repo.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// `owner/name`.
    pub(super) fn repo(&self) -> &str {
        &self.repo
    }

    /// Branch, tag or commit.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// The rules of the hub: letters, digits, `-`, `_`, `.`; no `-` or `.` at either end, no `--` and no `..`.
fn is_name(s: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_LENGTH).contains(&s.len())
        && s.chars().all(|c| is_word(c) || c == '-' || c == '.')
        && s.starts_with(is_word)
        && s.ends_with(is_word)
        && !s.contains("--")
        && !s.contains("..")
}

/// Stricter than git: parts between `/` are plain file names.
fn is_revision(s: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
    };
    s.len() <= 255 && s.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_hub_accepts() {
        for id in
            ["microsoft/bitnet-b1.58-2B-4T", "1bitLLM/bitnet_b1_58-large", "a/b", "_a/b_", "a.b/c-d@main"]
        {
            assert!(HubId::parse(id).is_some(), "{id}");
        }
        let id = HubId::parse("owner/name@refs/pr/5").unwrap();
        assert_eq!((id.repo(), id.revision()), ("owner/name", "refs/pr/5"));
        assert_eq!(id.to_string(), "owner/name@refs/pr/5");
        assert_eq!(HubId::parse("owner/name").unwrap().revision(), "main");
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("{}/b", "a".repeat(MAX_LENGTH + 1));
        let ids = [
            "",
            "name",
            "/",
            "owner/",
            "/name",
            "a/b/c",
            "./models",
            "../models",
            "a/..",
            "a/.b",
            "a/b.",
            "-a/b",
            "a/b-",
            "a/b--c",
            "a/b..c",
            "a/b.git",
            "a b/c",
            "a/b\n",
            "a\\b/c",
            "ä/b",
            "~/b",
            "C:/b",
            "a/b?x",
            "a/b#x",
            "a/b@",
            "a/b@../x",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x/",
            "a/b@x//y",
            "a/b@-x",
            "a/b@x y",
            "a/b@c@d",
            "a/b@x?y",
            &long,
        ];
        for id in ids {
            assert!(HubId::parse(id).is_none(), "{id:?}");
        }
    }
}
