//! A row of results.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What became of a prompt: a text, or an error.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Rows before it.
    pub(super) index: usize,
    /// The prompt; none where its row could not be read.
    pub(super) prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<String>,
    /// Tokens of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What else the row of the prompt has.
    #[serde(flatten)]
    pub(super) fields: Map<String, Value>,
}

impl Row {
    /// The names of its own, in their order.
    pub(super) const NAMES: [&str; 6] = ["index", "prompt", "text", "finish_reason", "tokens", "error"];

    /// The same in cells; what is absent is empty.
    pub(super) fn cells(self) -> [String; Self::NAMES.len()] {
        let Self { index, prompt, text, finish_reason, tokens, error, .. } = self;
        let tokens = tokens.map(|tokens| tokens.to_string());
        let [prompt, text, finish_reason, tokens, error] =
            [prompt, text, finish_reason, tokens, error].map(Option::unwrap_or_default);
        [index.to_string(), prompt, text, finish_reason, tokens, error]
    }
}
