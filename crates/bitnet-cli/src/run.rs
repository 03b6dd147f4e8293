//! `bitnet run`.

use bitnet_inference::speculation::Guesses;
use bitnet_inference::{Error, FinishReason, Generation, LoadedModel, Logprobs, Step, Timings, TokenStream};
use serde::Serialize;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::{interrupt, output, text};

/// Prints the continuation of a prompt as it comes, then statistics to stderr; or one JSON object.
pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let mut options = args.options()?;
    // Before a model is loaded, or even downloaded.
    options.check()?;
    let prompt = match (args.prompt.prompt, args.prompt.file) {
        (Some(prompt), _) => prompt,
        (None, Some(file)) => text::read(file)?,
        (None, None) => String::new(),
    };
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt.into());
    }
    let (model, speculation) = args.generate.speculation.load(&args.model)?;
    options.speculation = speculation;
    for guess in model.summary().decisions.iter().filter(|decision| decision.is_guess) {
        output::note(&format!("note: {guess}"));
    }
    let stream = model.stream(prompt.as_str(), &options)?;
    let generation = if args.json { collect(stream) } else { print(stream) }?;
    if args.json {
        output::json(&Report::new(&generation))?;
    } else {
        output::note(&statistics(&generation));
        output::note(&settings(&model, &generation, !options.sampling.is_greedy()));
    }
    match generation.finish_reason {
        FinishReason::Cancelled => Err(Failure::Interrupted),
        FinishReason::Stop | FinishReason::Length | FinishReason::Deadline => Ok(()),
    }
}

/// Runs the stream to its end, or to Ctrl-C.
fn collect(stream: TokenStream) -> Result<Generation, Failure> {
    drive(stream, |_| Ok(()))
}

/// As [`collect`], printing the text and a newline behind it.
fn print(stream: TokenStream) -> Result<Generation, Failure> {
    let generation = drive(stream, output::text);
    // Whatever ended the text, what comes next starts on a line of its own.
    let ended = output::text("\n");
    let generation = generation?;
    ended.map(|()| generation)
}

fn drive(
    mut stream: TokenStream,
    mut take: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Generation, Failure> {
    loop {
        if interrupt::is_pressed() {
            stream.cancel()?;
        }
        match stream.advance()? {
            Step::Chunk(chunk) if !chunk.text.is_empty() => take(&chunk.text)?,
            Step::Chunk(_) | Step::Prefill => {}
            Step::Done(_) => return Ok(stream.generation()),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    token_ids: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [Logprobs]>,
    prompt_tokens: usize,
    completion_tokens: usize,
    finish_reason: FinishReason,
    seed: u64,
    timings: Timings,
    guesses: Guesses,
}

impl<'a> Report<'a> {
    fn new(generation: &'a Generation) -> Self {
        Self {
            text: &generation.text,
            token_ids: &generation.token_ids,
            logprobs: generation.logprobs.as_deref(),
            prompt_tokens: generation.prompt_tokens,
            completion_tokens: generation.token_ids.len(),
            finish_reason: generation.finish_reason,
            seed: generation.seed,
            timings: generation.timings,
            guesses: generation.guesses,
        }
    }
}

fn statistics(generation: &Generation) -> String {
    let Timings { prefill_tokens_per_s, decode_tokens_per_s, .. } = generation.timings;
    let guesses = output::guesses(generation.guesses);
    format!(
        "prompt: {} tokens, {prefill_tokens_per_s:.1} tokens/s; text: {} tokens, {decode_tokens_per_s:.1} tokens/s; \
         {guesses}finish: {}",
        generation.prompt_tokens,
        generation.token_ids.len(),
        generation.finish_reason,
    )
}

fn settings(model: &LoadedModel, generation: &Generation, is_random: bool) -> String {
    let device = model.backend().description();
    if is_random { format!("{device}; seed {}", generation.seed) } else { device }
}
