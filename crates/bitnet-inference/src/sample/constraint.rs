//! Texts of a given form: after each token, which ones may follow.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::backend::TokenMask;
use crate::tokenizer::TokenBytes;
use crate::{Error, Result};

/// White space between the parts of a JSON text: a space, or a new line with its indentation. JSON allows any amount,
/// with which a model can go on for ever.
const JSON_SPACE: &str = " |\\n[ \\t]{0,20}";

/// The option that asked for a constraint, whichever it was.
const ANY: &str = "regex or json_schema";

/// The longest token, in bytes, that the trie takes; longer ones are not written.
const LONGEST: usize = 512;

/// What the trie holds at most, in bytes of all tokens.
const LARGEST: usize = 1 << 22;

/// What a text must match as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintSpec {
    /// A regular expression in the syntax of the regex crate, without look-around and back references.
    Regex(String),
    /// A JSON schema, as JSON text. A keyword that cannot be held is an error.
    JsonSchema(String),
}

impl ConstraintSpec {
    /// The option that it comes from.
    fn name(&self) -> &'static str {
        match self {
            Self::Regex(_) => "regex",
            Self::JsonSchema(_) => "json_schema",
        }
    }

    fn error(&self, reason: &str) -> Error {
        // A regular expression is printed over several lines, with the fact in the last; behind other errors comes the
        // state of the parser.
        let fact = reason.lines().find_map(|line| line.strip_prefix("error: "));
        let reason = fact.or(reason.lines().next()).unwrap_or_default().trim().to_owned();
        Error::Constraint { name: self.name(), reason }
    }

    fn grammar(&self) -> Result<TopLevelGrammar> {
        match self {
            Self::Regex(regex) => Ok(TopLevelGrammar::from_regex(whole(regex))),
            Self::JsonSchema(text) => {
                let mut schema: Value =
                    serde_json::from_str(text).map_err(|error| self.error(&error.to_string()))?;
                if let Some(schema) = schema.as_object_mut() {
                    let space = json!({ "whitespace_pattern": JSON_SPACE });
                    schema.entry("x-guidance").or_insert(space);
                }
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
        }
    }
}

/// A regular expression without the anchors that say what is the case anyway.
fn whole(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let Some(body) = regex.strip_suffix('$') else { return regex };
    let backslashes = body.len() - body.trim_end_matches('\\').len();
    if backslashes.is_multiple_of(2) { body } else { regex }
}

/// Makes constraints for a vocabulary.
pub(crate) struct Grammars {
    factory: ParserFactory,
    vocab_size: usize,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grammars({} tokens)", self.vocab_size)
    }
}

impl Grammars {
    /// For the tokens of a model, of which `eos` end a text.
    pub(crate) fn new(bytes: &TokenBytes, vocab_size: usize, eos: &[u32]) -> Result<Self> {
        let refuse = |reason: &str| Error::Constraint { name: ANY, reason: reason.to_owned() };
        let eos: Vec<u32> = eos.iter().copied().filter(|&id| (id as usize) < vocab_size).collect();
        let first = *eos.first().ok_or_else(|| refuse("the model has no token that ends a text"))?;
        let is_text = |id: u32| !eos.contains(&id) && bytes.get(id).len() <= LONGEST;
        let word = |id: u32| if is_text(id) { bytes.get(id).to_vec() } else { Vec::new() };
        let words: Vec<Vec<u8>> = (0..vocab_size as u32).map(word).collect();
        if words.iter().map(Vec::len).sum::<usize>() >= LARGEST {
            return Err(refuse("the vocabulary is too large"));
        }
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, first), &words).with_eos_tokens(&eos);
        Self::of(&(Arc::new(ApproximateTokEnv::new(trie)) as TokEnv))
    }

    fn of(tokens: &TokEnv) -> Result<Self> {
        let slices = SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(tokens, InferenceCapabilities::default(), &slices);
        let mut factory =
            factory.map_err(|error| Error::Constraint { name: ANY, reason: error.to_string() })?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self { factory, vocab_size: tokens.tok_trie().vocab_size() })
    }

    /// Errors: [`Error::Constraint`] for what cannot be read, or cannot be held.
    pub(crate) fn constraint(&self, spec: &ConstraintSpec) -> Result<Constraint> {
        let parser = self.factory.create_parser(spec.grammar()?);
        let matcher = Matcher::new(Ok(parser.map_err(|error| spec.error(&error.to_string()))?));
        let mut constraint = Constraint {
            matcher,
            spec: spec.clone(),
            vocab_size: self.vocab_size,
            allowed: TokenMask::default(),
        };
        constraint.update()?;
        Ok(constraint)
    }
}

/// A text of a given form in the making.
///
/// Source: llguidance, <https://github.com/guidance-ai/llguidance>.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    spec: ConstraintSpec,
    vocab_size: usize,
    allowed: TokenMask,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Constraint {
    /// Whether a constraint can be made of `spec` at all, whatever the vocabulary.
    pub(super) fn check(spec: &ConstraintSpec) -> Result<()> {
        Grammars::of(&ApproximateTokEnv::single_byte_env())?.constraint(spec).map(drop)
    }

    /// The tokens that may follow; behind a text that is complete, the ones that end it.
    pub(super) fn allowed(&self) -> &TokenMask {
        &self.allowed
    }

    /// Takes the next token of the text.
    ///
    /// Errors: [`Error::Constraint`] for a token that is not allowed, and when the form has become too complex.
    pub(super) fn take(&mut self, id: u32) -> Result<()> {
        self.matcher.consume_token(id).map_err(|error| self.spec.error(&error.to_string()))?;
        self.update()
    }

    fn update(&mut self) -> Result<()> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.spec.error(&error.to_string()))?;
        self.allowed.set(mask.as_slice(), self.vocab_size);
        if self.allowed.count() > 0 {
            return Ok(());
        }
        Err(self.spec.error("the model has no token that may follow"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(text: &str) -> ConstraintSpec {
        ConstraintSpec::Regex(text.to_owned())
    }

    /// The texts of up to `longest` bytes over `alphabet` that a constraint lets end.
    fn language(spec: &ConstraintSpec, alphabet: &[u8], longest: usize) -> Vec<String> {
        let bytes: TokenBytes = (0..=255_u8).map(|byte| [byte]).chain([[0]]).collect();
        let grammars = Grammars::new(&bytes, 257, &[256]).unwrap();
        let mut texts = vec![(String::new(), grammars.constraint(spec).unwrap())];
        let mut complete = Vec::new();
        while let Some((text, constraint)) = texts.pop() {
            if constraint.allowed().contains(256) {
                complete.push(text.clone());
            }
            for &byte in alphabet.iter().filter(|&&byte| constraint.allowed().contains(usize::from(byte))) {
                if text.len() < longest {
                    let mut constraint = constraint.clone();
                    constraint.take(u32::from(byte)).unwrap();
                    texts.push((format!("{text}{}", char::from(byte)), constraint));
                }
            }
        }
        complete.sort();
        complete
    }

    #[test]
    fn exactly_the_texts_that_match_as_a_whole_can_end() {
        for pattern in ["a|bc*", "^(ab){1,2}$", "[^c]c?", r"a\$", "(?i)AB?", ""] {
            let oracle = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
            let mut all = vec![String::new()];
            for length in 0..4 {
                let longer: Vec<String> = all
                    .iter()
                    .filter(|text| text.len() == length)
                    .flat_map(|text| "abc$".chars().map(move |c| format!("{text}{c}")))
                    .collect();
                all.extend(longer);
            }
            all.retain(|text| oracle.is_match(text).unwrap());
            all.sort();
            assert_eq!(language(&regex(pattern), b"abc$", 4), all, "{pattern}");
        }
    }

    #[test]
    fn json_has_bounded_white_space() {
        let schema =
            ConstraintSpec::JsonSchema(r#"{"type": "array", "items": {"const": 1}, "maxItems": 2}"#.into());
        let texts = language(&schema, b"[]1, ", 7);
        assert!(texts.iter().all(|text| serde_json::from_str::<Value>(text).is_ok() && !text.contains("  ")));
        for text in ["[]", "[1]", "[1,1]", "[ 1, 1]"] {
            assert!(texts.contains(&text.to_owned()), "{text}: {texts:?}");
        }
    }

    #[test]
    fn what_cannot_be_held_is_one_line() {
        let schema = |text: &str| ConstraintSpec::JsonSchema(text.to_owned());
        let bad = [
            regex("("),
            regex("a(?=b)"),
            regex(r"(a)\1"),
            schema("{"),
            schema("3"),
            schema(r#"{"type": "whole"}"#),
            schema(r#"{"$ref": "https://example.com/schema.json"}"#),
            schema(r#"{"type": "string", "enum": [1]}"#),
        ];
        for spec in bad {
            let Err(Error::Constraint { name, reason }) = Constraint::check(&spec) else {
                panic!("{spec:?}")
            };
            assert_eq!(name, spec.name());
            assert!(!reason.is_empty() && reason.lines().count() == 1, "{reason}");
            let expected = match &spec {
                ConstraintSpec::Regex(regex) if regex == "(" => "unclosed group",
                ConstraintSpec::JsonSchema(schema) if schema.contains("whole") => "whole",
                _ => "",
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
