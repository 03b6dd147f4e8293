//! `bitnet run`.

use std::io::{Read, Write};
use std::path::Path;

use bitnet_inference::{Engine, FinishReason, Generation, Step, Timings, TokenStream};
use serde::Serialize;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::{interrupt, print_json};

/// Prints the continuation of a prompt as it comes, then statistics to stderr; or one JSON object.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let prompt = match (&args.prompt, &args.file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(file)) => read_text(file)?,
        (None, None) => return Err(Failure::Usage("give a prompt with -p or -f".to_owned())),
    };
    interrupt::watch();
    let engine = Engine::load(args.model.model.as_deref(), &args.model.options())?;
    interrupt::check()?;
    let stream = engine.stream(prompt.as_str(), &args.options())?;
    let generation = drive(stream, !args.json)?;
    if args.json {
        print_json(&Report::new(&generation))?;
    } else {
        print_statistics(&generation, &engine.backend().description());
    }
    match generation.finish_reason {
        FinishReason::Cancelled => Err(Failure::Interrupted),
        FinishReason::Stop | FinishReason::Length => Ok(()),
    }
}

/// Runs the stream to its end, or to Ctrl-C.
fn drive(mut stream: TokenStream, print: bool) -> Result<Generation, Failure> {
    let mut out = std::io::stdout();
    loop {
        if interrupt::is_pressed() {
            stream.cancel()?;
        }
        match stream.advance()? {
            Step::Chunk(chunk) if print => {
                out.write_all(chunk.text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)?;
            }
            Step::Prefill | Step::Chunk(_) => {}
            Step::Done(_) => break,
        }
    }
    if print {
        writeln!(out).map_err(Failure::Output)?;
    }
    Ok(stream.generation())
}

#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    token_ids: &'a [u32],
    prompt_tokens: usize,
    completion_tokens: usize,
    finish_reason: FinishReason,
    seed: u64,
    timings: Timings,
}

impl<'a> Report<'a> {
    fn new(generation: &'a Generation) -> Self {
        Self {
            text: &generation.text,
            token_ids: &generation.token_ids,
            prompt_tokens: generation.prompt_tokens,
            completion_tokens: generation.token_ids.len(),
            finish_reason: generation.finish_reason,
            seed: generation.seed,
            timings: generation.timings,
        }
    }
}

fn print_statistics(generation: &Generation, description: &str) {
    let Timings { prefill_tokens_per_s, decode_tokens_per_s, .. } = generation.timings;
    let line = format!(
        "prompt {} tokens, {prefill_tokens_per_s:.1} tokens/s; text {} tokens, {decode_tokens_per_s:.1} tokens/s; \
         finished: {}; {description}",
        generation.prompt_tokens,
        generation.token_ids.len(),
        generation.finish_reason,
    );
    drop(writeln!(std::io::stderr(), "\n{line}"));
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    read.map_err(|source| bitnet_inference::Error::io(path, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Other(format!("{}: is not UTF-8 (byte {at})", path.display()))
    })
}
