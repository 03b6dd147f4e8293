//! Chat templates: messages to the text a chat model was trained on.

use std::path::PathBuf;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{Gguf, Vocabulary};
use crate::{Error, Result};

pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: usually system, user or assistant.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The template of a checkpoint.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: Option<String>,
    bos_token: String,
    eos_token: String,
}

#[derive(Deserialize, Default)]
struct RawTokenizerConfig {
    chat_template: Option<RawTemplate>,
    bos_token: Option<RawToken>,
    eos_token: Option<RawToken>,
}

/// One template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A token as text, or as an object with its flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawToken {
    Text(String),
    Added { content: String },
}

impl RawToken {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

impl ChatTemplate {
    /// Reads the template of a checkpoint: `chat_template.jinja`, else what `tokenizer_config.json` holds; or
    /// that of a GGUF file.
    ///
    /// Errors: [`Error::ChatTemplate`], [`Error::Config`] for files that are damaged.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        if let Some(gguf) = checkpoint.gguf() {
            return Self::of_gguf(gguf);
        }
        let config: RawTokenizerConfig = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        let in_config = config.chat_template.and_then(|template| match template {
            RawTemplate::One(source) => Some(source),
            RawTemplate::Named(all) => {
                all.into_iter().find(|one| one.name == "default").map(|one| one.template)
            }
        });
        let (path, source) = match checkpoint.file(TEMPLATE_FILE)? {
            Some(bytes) => {
                let path = checkpoint.file_path(TEMPLATE_FILE);
                let source = String::from_utf8(bytes.to_vec()).map_err(|_| Error::ChatTemplate {
                    path: path.clone(),
                    reason: "is not UTF-8".to_owned(),
                })?;
                (path, Some(source))
            }
            None => (checkpoint.file_path(TOKENIZER_CONFIG), in_config),
        };
        Ok(Self {
            path,
            source,
            bos_token: config.bos_token.map(RawToken::into_text).unwrap_or_default(),
            eos_token: config.eos_token.map(RawToken::into_text).unwrap_or_default(),
        })
    }

    fn of_gguf(gguf: &Gguf) -> Result<Self> {
        let contents = gguf.contents();
        let vocabulary = gguf.vocabulary()?;
        let text = |id: fn(&Vocabulary<'_>) -> Option<u32>| {
            let text = vocabulary.as_ref().and_then(|vocabulary| vocabulary.text(id(vocabulary)));
            text.unwrap_or_default().to_owned()
        };
        Ok(Self {
            path: contents.path().to_owned(),
            source: contents.metadata().text("tokenizer.chat_template")?.map(str::to_owned),
            bos_token: text(|vocabulary| vocabulary.bos),
            eos_token: text(|vocabulary| vocabulary.eos),
        })
    }

    /// Whether the checkpoint has a template.
    pub fn is_present(&self) -> bool {
        self.source.is_some()
    }

    /// The template itself, if there is one.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The text of the BOS token, empty when the checkpoint names none.
    pub fn bos_token(&self) -> &str {
        &self.bos_token
    }

    /// The text of the EOS token, empty when the checkpoint names none.
    pub fn eos_token(&self) -> &str {
        &self.eos_token
    }

    /// Renders `messages`, as `apply_chat_template(tokenize=False)` of transformers does.
    ///
    /// Errors: [`Error::ChatTemplate`] when there is no template, or with what the template itself raises.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let error = |reason: String| Error::ChatTemplate { path: self.path.clone(), reason };
        let source = self.source.as_deref().ok_or_else(|| error("the checkpoint has none".to_owned()))?;
        let environment = environment().map_err(|cause| error(describe(&cause)))?;
        let template = environment.template_from_str(source).map_err(|cause| error(describe(&cause)))?;
        // Templates ask `tools is not none`: transformers passes both, as None.
        let (tools, documents) = (Value::from(()), Value::from(()));
        let context = minijinja::context! {
            messages => Serde(messages), add_generation_prompt, tools, documents,
            bos_token => &self.bos_token, eos_token => &self.eos_token,
        };
        template.render(context).map_err(|cause| error(describe(&cause)))
    }
}

/// Jinja as transformers sets it up for chat templates.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    Ok(environment)
}

fn describe(error: &minijinja::Error) -> String {
    match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("{detail} (line {line})"),
        (Some(detail), None) => detail.to_owned(),
        (None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate {
            path: "tokenizer_config.json".into(),
            source: Some(source.to_owned()),
            bos_token: "<s>".to_owned(),
            eos_token: "</s>".to_owned(),
        }
    }

    fn say(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn python_methods_and_loop_variables_work() {
        let source = "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}={{ m.content.strip() }}\
                      {% if not loop.last %};{% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}";
        let text = template(source).render(&[say("user", " hi "), say("assistant", "yo")], true).unwrap();
        assert_eq!(text, "<s>USER=hi;ASSISTANT=yo>");
    }

    #[test]
    fn what_the_template_raises_is_the_error() {
        let error = template("{{ raise_exception('roles must alternate') }}").render(&[], false).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer_config.json: chat template: roles must alternate (line 1)");
    }

    #[test]
    fn a_checkpoint_without_a_template_says_so() {
        let none = ChatTemplate { source: None, ..template("") };
        assert!(!none.is_present());
        assert!(none.render(&[], false).unwrap_err().to_string().ends_with("the checkpoint has none"));
    }
}
