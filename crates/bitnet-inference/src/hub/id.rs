//! Names of models on the hub.

use std::fmt;

/// What the hub allows for each of owner and name.
const MAX_LENGTH: usize = 96;
/// The branch that is meant when no revision is named.
const MAIN: &str = "main";

/// `owner/name`, with `@revision` and `:file` behind it where these are named, or `owner/name/file.gguf`. All parts are
/// safe to put into URLs and, for `/` apart, file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubId {
    repo: String,
    revision: Option<String>,
    file: Option<String>,
}

impl HubId {
    /// The id that `s` is, if it is one.
    pub(super) fn parse(s: &str) -> Option<Self> {
        let split = |s: &'_ str, at: char| match s.split_once(at) {
            Some((front, back)) => (front.to_owned(), Some(back.to_owned())),
            None => (s.to_owned(), None),
        };
        let (front, mut file) = split(s, ':');
        let (mut repo, revision) = split(&front, '@');
        // As it stands in the address of a file.
        if file.is_none() && revision.is_none() && repo.strip_suffix(".gguf").is_some() {
            let (at, _) = repo.match_indices('/').nth(1)?;
            file = Some(repo.split_off(at)[1..].to_owned());
        }
        let (owner, name) = repo.split_once('/')?;
        let is_valid = is_name(owner)
            && is_name(name)
            && name.strip_suffix(".git").is_none()
            && [&revision, &file].into_iter().flatten().all(|path| is_path(path));
        is_valid.then_some(Self { repo, revision, file })
    }

    /// `owner/name`.
    pub(super) fn repo(&self) -> &str {
        &self.repo
    }

    /// Branch, tag or commit.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The GGUF file that is meant, or a part of its name.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
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
pub(super) fn is_path(s: &str) -> bool {
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
        for (id, file) in [
            ("owner/name:i2_s", "i2_s"),
            ("owner/name:a.gguf", "a.gguf"),
            ("owner/name/a.gguf", "a.gguf"),
            ("owner/name/b/a.gguf", "b/a.gguf"),
        ] {
            let id = HubId::parse(id).unwrap();
            assert_eq!((id.repo(), id.revision(), id.file()), ("owner/name", "main", Some(file)));
            assert_eq!(id.to_string(), format!("owner/name:{file}"));
        }
        let id = HubId::parse("owner/name@v2:i2_s").unwrap();
        assert_eq!((id.revision(), id.file(), &*id.to_string()), ("v2", Some("i2_s"), "owner/name@v2:i2_s"));
        // A name may end so, too.
        assert_eq!(HubId::parse("owner/name-gguf").unwrap().file(), None);
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
            "a/b:",
            "a/b:../x.gguf",
            "a/b/../x.gguf",
            "a/b:/x",
            "a/b:x:y",
            "a/b:x y",
            "a/b//x.gguf",
            "a/b/.gguf",
            "/a/b.gguf",
            "a.gguf",
            &long,
        ];
        for id in ids {
            assert!(HubId::parse(id).is_none(), "{id:?}");
        }
    }
}
