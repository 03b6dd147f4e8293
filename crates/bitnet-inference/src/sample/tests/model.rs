//! Constraints on a model that was trained on plain English: what it writes has the form it must have.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::sample::{ConstraintSpec, SamplingOptions};
use crate::{Error, FinishReason, GenerateOptions, Generation, LoadOptions, LoadedModel};

fn model() -> Arc<LoadedModel> {
    LoadedModel::embedded(&LoadOptions::default()).unwrap()
}

/// What 50 seeds write that came to its end.
fn complete(spec: &ConstraintSpec) -> Vec<String> {
    let model = model();
    let generate = |seed| {
        let sampling = SamplingOptions {
            temperature: 1.5,
            constraint: Some(spec.clone()),
            seed: Some(seed),
            ..SamplingOptions::default()
        };
        model.generate("Answer:", &GenerateOptions { max_tokens: 60, sampling, ..GenerateOptions::default() })
    };
    let all: Vec<Generation> = (0..50).map(|seed| generate(seed).unwrap()).collect();
    all.into_iter().filter(|it| it.finish_reason == FinishReason::Stop).map(|it| it.text).collect()
}

#[test]
fn every_complete_text_matches_the_expression() {
    let pattern = r"(yes|no), [a-zé]{3,12}( [0-9]{2}){1,3}\.";
    let texts = complete(&ConstraintSpec::Regex(pattern.to_owned()));
    let oracle = fancy_regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    assert_eq!(texts.len(), 50, "none can be longer than 60 tokens");
    for text in texts {
        assert!(oracle.is_match(&text).unwrap(), "{text:?}");
    }
}

#[test]
fn every_complete_text_fits_the_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 130 },
            "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 },
            "parent": { "$ref": "#/$defs/person" },
        },
        "required": ["name", "age"],
        "additionalProperties": false,
        "$defs": { "person": { "anyOf": [{ "type": "null" }, { "type": "boolean" }] } },
    });
    let texts = complete(&ConstraintSpec::JsonSchema(schema.to_string()));
    assert!(texts.len() >= 25, "{}", texts.len());
    for text in texts {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{text}");
        assert!(value["age"].as_u64().unwrap() <= 130, "{text}");
        for (key, value) in value.as_object().unwrap() {
            let fits = match key.as_str() {
                "name" | "age" => true,
                "tags" => value
                    .as_array()
                    .is_some_and(|tags| tags.len() <= 2 && tags.iter().all(|tag| tag == "a" || tag == "b")),
                "parent" => value.is_null() || value.is_boolean(),
                _ => false,
            };
            assert!(fits, "{text}");
        }
    }
}

#[test]
fn a_constrained_text_that_is_cut_off_says_so() {
    let constraint = Some(ConstraintSpec::Regex("[a-z ]{400}".to_owned()));
    let sampling = SamplingOptions { constraint, ..SamplingOptions::default() };
    let options = GenerateOptions { max_tokens: 5, sampling, ..GenerateOptions::default() };
    let generation = model().generate("Once", &options).unwrap();
    assert_eq!((generation.finish_reason, generation.token_ids.len()), (FinishReason::Length, 5));
}

#[test]
fn a_constraint_that_cannot_be_is_an_error_before_anything_runs() {
    let constraint = Some(ConstraintSpec::Regex("(".to_owned()));
    let sampling = SamplingOptions { constraint, ..SamplingOptions::default() };
    let options = GenerateOptions { sampling, ..GenerateOptions::default() };
    let error = model().stream("Once", &options).unwrap_err();
    assert!(matches!(error, Error::Constraint { name: "regex", .. }), "{error}");
}

#[test]
fn a_large_penalty_leaves_no_sequence_that_comes_twice() {
    let model = model();
    let bytes = model.token_bytes().unwrap();
    let is_breaker = |id: &u32| bytes.get(*id).iter().any(|byte| b"\n:\"*".contains(byte));
    let repeated = |multiplier: f32| {
        let mut sampling = SamplingOptions::default();
        sampling.dry.multiplier = multiplier;
        let options = GenerateOptions { sampling, ..GenerateOptions::default() };
        let ids = model.generate("My fellow citizens, today we", &options).unwrap().token_ids;
        let mut parts: Vec<&[u32]> = ids.windows(3).filter(|part| !part.iter().any(is_breaker)).collect();
        parts.sort_unstable();
        parts.windows(2).filter(|two| two[0] == two[1]).count()
    };
    assert!(repeated(0.0) > 0, "greedy, the model repeats itself");
    assert_eq!(repeated(1000.0), 0);
}
