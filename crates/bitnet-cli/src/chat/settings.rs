//! What of a chat can be set while it goes on.

use std::fmt::Display;
use std::str::FromStr;

use bitnet_inference::GenerateOptions;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The settings; `/set` and saved chats use their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    seed: Option<u64>,
    max_tokens: usize,
}

/// How a seed is set to a new one for every answer.
const NO_SEED: &str = "random";

impl Settings {
    /// Those of some options.
    pub(super) fn of(options: &GenerateOptions) -> Self {
        let sampling = &options.sampling;
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            seed: sampling.seed,
            max_tokens: options.max_tokens,
        }
    }

    /// The options with these settings.
    ///
    /// Errors: in one line, for a value out of its range.
    pub(super) fn applied_to(&self, options: &GenerateOptions) -> Result<GenerateOptions, Failure> {
        let mut options = options.clone();
        options.max_tokens = self.max_tokens;
        let sampling = &mut options.sampling;
        sampling.temperature = self.temperature;
        sampling.top_k = self.top_k;
        sampling.top_p = self.top_p;
        sampling.min_p = self.min_p;
        sampling.repetition_penalty = self.repetition_penalty;
        sampling.seed = self.seed;
        // Not in the words of the command line: nobody wrote an option.
        options.check().map_err(|error| Failure::Other(error.to_string()))?;
        Ok(options)
    }

    /// Sets one by its name.
    ///
    /// Errors: there is none of that name, or the value is of another kind.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "temperature" => self.temperature = parse(name, value, "a number")?,
            "top_k" => self.top_k = parse(name, value, "a whole number")?,
            "top_p" => self.top_p = parse(name, value, "a number")?,
            "min_p" => self.min_p = parse(name, value, "a number")?,
            "repetition_penalty" => self.repetition_penalty = parse(name, value, "a number")?,
            "seed" if value == NO_SEED => self.seed = None,
            "seed" => self.seed = Some(parse(name, value, "a whole number or random")?),
            "max_tokens" => self.max_tokens = parse(name, value, "a whole number")?,
            _ => return Err(format!("there is no setting {name}; /set shows all")),
        }
        Ok(())
    }

    /// Names and values.
    pub(super) fn rows(&self) -> [(&'static str, String); 7] {
        fn row(name: &'static str, value: impl Display) -> (&'static str, String) {
            (name, value.to_string())
        }
        [
            row("temperature", self.temperature),
            row("top_k", self.top_k),
            row("top_p", self.top_p),
            row("min_p", self.min_p),
            row("repetition_penalty", self.repetition_penalty),
            row("seed", self.seed.map_or_else(|| NO_SEED.to_owned(), |seed| seed.to_string())),
            row("max_tokens", self.max_tokens),
        ]
    }
}

fn parse<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} must be {expected}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_set_shown_and_applied() {
        let options = GenerateOptions::default();
        let mut settings = Settings::of(&options);
        for (name, value) in [
            ("temperature", "0.7"),
            ("top_k", "40"),
            ("top_p", "0.9"),
            ("min_p", "0.05"),
            ("repetition_penalty", "1.1"),
            ("seed", "7"),
            ("max_tokens", "12"),
        ] {
            let before = settings.clone();
            settings.set(name, value).unwrap();
            assert!(settings != before, "{name}");
            assert!(settings.rows().contains(&(name, value.to_owned())), "{name}");
        }
        let applied = settings.applied_to(&options).unwrap();
        assert_eq!(Settings::of(&applied), settings);
        settings.set("seed", NO_SEED).unwrap();
        assert_eq!(settings.applied_to(&options).unwrap().sampling.seed, None);
    }

    #[test]
    fn bad_values_are_refused() {
        let options = GenerateOptions::default();
        let mut settings = Settings::of(&options);
        for (name, value) in [("temperature", "hot"), ("top_k", "-1"), ("seed", "x"), ("heat", "1")] {
            assert!(settings.set(name, value).unwrap_err().contains(name));
        }
        settings.set("top_p", "2").unwrap();
        let refused = settings.applied_to(&options).unwrap_err().to_string();
        assert_eq!(refused, "top_p must be above 0 and at most 1, not 2");
    }
}
