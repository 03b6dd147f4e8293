//! Constraints with as many tokens as large models have: that they hold, and what they cost.

use std::collections::HashSet;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::sample::constraint::{Constraint, ConstraintSpec, Grammars};
use crate::tokenizer::TokenBytes;

const VOCABULARY: usize = 128_000;

/// The token that ends a text.
const EOS: u32 = VOCABULARY as u32;

/// What ends sentences, strings, lists and objects, and a text; single bytes are the first tokens.
const ENDS: [u32; 7] = [b'.' as u32, b' ' as u32, b'"' as u32, b',' as u32, b']' as u32, b'}' as u32, EOS];

const TEXTS: u64 = 20;

/// The most tokens of a text.
const TOKENS: usize = 200;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["reader", "writer", "editor"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1}
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": false
}"#;

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }

    fn characters(&mut self, count: usize, of: &[char]) -> String {
        (0..count).map(|_| of[self.below(of.len())]).collect()
    }

    /// One of the characters from `first` on.
    fn beyond_ascii(&mut self, first: u32, count: usize) -> char {
        char::from_u32(first + self.below(count) as u32).unwrap()
    }

    /// A word with or without a space in front, characters beyond ASCII, or marks.
    fn token(&mut self) -> String {
        // As often as in English, about.
        let letters: Vec<char> = "eeeeeetttttaaaaoooiiinnnsssrrrhhddlluucmfpgwybvkxjqz".chars().collect();
        let marks: Vec<char> = "()[]{}<>=+-*/\\\"'.,:;!?#$%&|_\n".chars().collect();
        let space = ["", " "][self.below(2)];
        let kind = self.below(20);
        if kind == 0 {
            let count = 1 + self.below(4);
            return space.to_owned() + &self.characters(count, &marks);
        }
        if kind < 5 {
            let (first, count) =
                [(0x400, 256), (0x5d0, 27), (0x4e00, 20_000), (0xac00, 11_000)][self.below(4)];
            return (0..=self.below(3)).map(|_| self.beyond_ascii(first, count)).collect();
        }
        let count = 2 + self.below(4) + self.below(6);
        let word = self.characters(count, &letters);
        let (first, rest) = word.split_at(1);
        let first = if kind < 8 { first.to_uppercase() } else { first.to_owned() };
        format!("{space}{first}{rest}")
    }
}

/// Every byte, numbers of up to three digits, runs of spaces, and what [`Random::token`] gives; nothing twice.
fn vocabulary() -> Vec<Vec<u8>> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(0));
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let numbers = (10..1000).map(|number: u32| number.to_string().into_bytes());
    let spaces = (2..80).map(|count| vec![b' '; count]);
    let others = std::iter::repeat_with(|| random.token().into_bytes());
    let mut seen = HashSet::new();
    let all = bytes.chain(numbers).chain(spaces).chain(others);
    all.filter(|token| seen.insert(token.clone())).take(VOCABULARY).collect()
}

/// A random text under a constraint, whether it is complete, and the microseconds that its tokens took.
fn text(mut constraint: Constraint, tokens: &[Vec<u8>], random: &mut Random) -> (Vec<u8>, bool, Vec<f64>) {
    let (mut text, mut times) = (Vec::new(), Vec::new());
    for _ in 0..TOKENS {
        let is_allowed = |id: &u32| constraint.allowed().contains(*id as usize);
        // One of so many is seldom what ends something.
        let ends: Vec<u32> = ENDS.into_iter().filter(is_allowed).collect();
        let is_end = random.below(8) == 0 && !ends.is_empty();
        let ids = if is_end { ends } else { (0..=EOS).filter(is_allowed).collect() };
        let id = ids[random.below(ids.len())];
        if id == EOS {
            return (text, true, times);
        }
        text.extend_from_slice(&tokens[id as usize]);
        let started = Instant::now();
        constraint.take(id).unwrap();
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    (text, false, times)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

#[test]
#[ignore = "measures what docs/sampling.md says: --release -- --ignored --nocapture"]
fn constraints_hold_and_what_they_cost() {
    let tokens = vocabulary();
    let bytes: TokenBytes = tokens.iter().cloned().chain([Vec::new()]).collect();
    let started = Instant::now();
    let grammars = Grammars::new(&bytes, VOCABULARY + 1, &[EOS]).unwrap();
    println!("the tree of {VOCABULARY} tokens: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let regex = |text: &str| ConstraintSpec::Regex(text.to_owned());
    let schema = |text: &str| ConstraintSpec::JsonSchema(text.to_owned());
    let cases = [
        ("a date", regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")),
        ("sentences", regex(r"([A-Z][a-z]*( [a-z]+)*\. )+")),
        ("any text", regex(r"(?s:.*)")),
        ("a JSON string", schema(r#"{"type": "string"}"#)),
        ("a JSON object", schema(SCHEMA)),
    ];
    for (name, spec) in cases {
        let (mut begins, mut times, mut complete) = (Vec::new(), Vec::new(), 0);
        for seed in 0..TEXTS {
            let started = Instant::now();
            let constraint = grammars.constraint(&spec).unwrap();
            begins.push(started.elapsed().as_secs_f64() * 1e3);
            let (text, is_complete, of_text) =
                text(constraint, &tokens, &mut Random(ChaCha8Rng::seed_from_u64(seed)));
            times.extend(of_text);
            if is_complete {
                complete += 1;
                assert!(matches(&spec, &text), "{name}: {:?}", String::from_utf8_lossy(&text));
            }
        }
        assert!(complete > 0, "{name}: no text has ended");
        let (count, slowest) = (times.len(), begins.iter().copied().fold(0.0, f64::max));
        let (median, slow) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let begin = quantile(&mut begins, 0.5);
        println!(
            "{name}: begins in {begin:.2} ms (at most {slowest:.2}); a token {median:.0} us, one of a hundred {slow:.0} \
             us; {count} tokens, {complete} texts ended"
        );
    }
}

/// Whether a text is what the constraint asks for, by another implementation.
fn matches(spec: &ConstraintSpec, text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap();
    match spec {
        ConstraintSpec::Regex(regex) => {
            fancy_regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(text).unwrap()
        }
        ConstraintSpec::JsonSchema(schema) if schema == SCHEMA => {
            let value: Value = serde_json::from_str(text).unwrap();
            value["name"].is_string()
                && value["age"].as_u64().is_some_and(|age| age <= 150)
                && ["reader", "writer", "editor"].contains(&value["kind"].as_str().unwrap())
                && value["tags"]
                    .as_array()
                    .is_some_and(|tags| tags.iter().all(Value::is_string) && !tags.is_empty())
        }
        ConstraintSpec::JsonSchema(_) => serde_json::from_str::<String>(text).is_ok(),
    }
}
