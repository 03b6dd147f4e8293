//! Which hub, which cache, which token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to reach the hub and where to keep what it gives.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Folder of the cache: holds one folder for each model.
    pub cache_dir: PathBuf,
    /// Token of a user, for models that are gated or private. Sent to the endpoint only.
    pub token: Option<String>,
    /// Makes no request; only models in the cache are found.
    pub offline: bool,
    /// How long a server may be silent.
    pub timeout: Duration,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_delay: Duration,
}

impl HubConfig {
    /// The public hub, no token, and the cache in `cache_dir`.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(30),
            retry_delay: Duration::from_secs(1),
        }
    }

    /// What the environment says, in the words of the hub's own tools: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`. Without them the cache is `~/.cache/huggingface/hub`, and the
    /// token is what `hf auth login` has stored, if anything.
    pub fn from_env() -> Self {
        let home = std::env::home_dir().unwrap_or_else(std::env::temp_dir);
        Self::from_vars(&home, |name| std::env::var_os(name))
    }

    /// [`Self::from_env`] of an environment given as a function. An empty variable counts as absent.
    fn from_vars(home: &Path, var: impl Fn(&str) -> Option<OsString>) -> Self {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| var(name).map(|value| expand(home, value.into()));

        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("huggingface")
        });
        let mut config = Self::new(path("HF_HUB_CACHE").unwrap_or_else(|| hf_home.join("hub")));
        if let Some(endpoint) = text("HF_ENDPOINT") {
            endpoint.trim().trim_end_matches('/').clone_into(&mut config.endpoint);
        }
        config.token = text("HF_TOKEN").and_then(|token| clean(&token)).or_else(|| {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
            std::fs::read_to_string(file).ok().and_then(|token| clean(&token))
        });
        config.offline = text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value));
        config
    }
}

/// The token is a secret.
impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .field("retry_delay", &self.retry_delay)
            .finish()
    }
}

/// `~/x` is below the home folder: not every way to set a variable passes through a shell.
fn expand(home: &Path, path: PathBuf) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path,
    }
}

fn clean(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|word| word.eq_ignore_ascii_case(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> HubConfig {
        let find =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        HubConfig::from_vars(Path::new("/home/ada"), find)
    }

    #[test]
    fn the_cache_is_where_the_hubs_tools_put_it() {
        let cache = |vars: &[(&str, &str)]| config(vars).cache_dir;
        assert_eq!(cache(&[]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "")]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")]), Path::new("/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "~/hf")]), Path::new("/home/ada/hf/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/hf")]), Path::new("/c"));
    }

    #[test]
    fn offline_takes_the_words_of_the_hubs_tools() {
        for word in ["1", "true", "TRUE", "Yes", "on", " 1 "] {
            assert!(config(&[("HF_HUB_OFFLINE", word)]).offline, "{word:?}");
        }
        for word in ["", "0", "false", "no", "off", "2"] {
            assert!(!config(&[("HF_HUB_OFFLINE", word)]).offline, "{word:?}");
        }
    }

    #[test]
    fn the_token_is_the_variable_else_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let other = folder.path().join("other");
        std::fs::write(folder.path().join("token"), "from_home\n").unwrap();
        std::fs::write(&other, "from_path\n").unwrap();

        let token = |vars: &[(&str, &str)]| config(vars).token;
        assert_eq!(token(&[]), None);
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("from_home"));
        let with_path = [("HF_HOME", home), ("HF_TOKEN_PATH", other.to_str().unwrap())];
        assert_eq!(token(&with_path).as_deref(), Some("from_path"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " from_env\n")]).as_deref(), Some("from_env"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " ")]).as_deref(), Some("from_home"));
    }

    #[test]
    fn the_endpoint_has_no_slash_at_its_end() {
        assert_eq!(config(&[]).endpoint, "https://huggingface.co");
        assert_eq!(config(&[("HF_ENDPOINT", "http://mirror/hf/")]).endpoint, "http://mirror/hf");
    }

    #[test]
    fn debug_output_hides_the_token() {
        let shown = format!("{:?}", config(&[("HF_TOKEN", "hf_secret")]));
        assert!(!shown.contains("hf_secret"), "{shown}");
    }
}
