//! `bitnet batch`.

mod format;
mod header;
mod journal;
mod prompts;
mod pump;
mod row;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bitnet_inference::{EngineOptions, InferenceEngine, LoadedModel};

use self::format::Format;
use self::header::Header;
use self::journal::Journal;
use self::prompts::Prompts;
use self::pump::Pump;
use crate::args::BatchArgs;
use crate::failure::Failure;
use crate::output::{self, grouped};

/// Continues every prompt of a file. Rows are gathered beside the results, which get their name when all are there.
pub(crate) fn batch(args: &BatchArgs) -> Result<(), Failure> {
    let mut options = args.generate.options()?;
    options.check()?;
    let format = Format::of(&args.output)?;
    let mut prompts = Prompts::open(&args.input, &args.field)?;
    let partial = partial(&args.output)?;
    // All that can be refused is, before a model is loaded.
    let header = Header::new(args, &options);
    let begun = match begin(args, &partial)? {
        Begin::Anew => None,
        Begin::Resume => Journal::resume(&partial, &header, &mut prompts)?,
        Begin::Done => {
            output::note(&format!("{} is there already: nothing is left to do", args.output.display()));
            return Ok(());
        }
    };
    let (model, speculation) = args.generate.speculation.load(&args.model)?;
    options.speculation = speculation;
    let engine = engine(args, model)?;
    let mut journal = match begun {
        Some(journal) => journal,
        None => Journal::create(&partial, header)?,
    };
    let started = Instant::now();
    let tokens = match Pump::new(&engine, options, journal.header()).run(&mut prompts, &mut journal) {
        Ok(tokens) => tokens,
        Err(failure) => return Err(stopped(failure, &journal, &partial)),
    };
    let per_s = tokens as f64 / started.elapsed().as_secs_f64();
    let rows = grouped(journal.rows());
    let failed = journal.failed().map(|(failed, first)| {
        Failure::Other(format!("{} of {rows} prompts failed, the first in {first}", grouped(failed)))
    });
    journal.finish(&args.output, format)?;
    let guesses = output::guesses(engine.stats().speculation);
    output::note(&format!("{rows} rows; {guesses}{} tokens, {per_s:.1} tokens/s", grouped(tokens)));
    failed.map_or(Ok(()), Err)
}

/// Says how to go on.
fn stopped(failure: Failure, journal: &Journal, partial: &Path) -> Failure {
    let (rows, partial) = (grouped(journal.rows()), partial.display());
    let how = format!("{rows} rows are in {partial}; the same command with --resume goes on there");
    match failure {
        // Which has no words of its own.
        Failure::Interrupted => {
            output::note(&how);
            Failure::Interrupted
        }
        failure => Failure::Other(format!("{failure}; {how}")),
    }
}

/// How a run starts.
enum Begin {
    Anew,
    Resume,
    /// There is nothing to do.
    Done,
}

/// Looks at what is there; refuses to touch what nobody allowed to.
fn begin(args: &BatchArgs, partial: &Path) -> Result<Begin, Failure> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if args.force {
        return Ok(Begin::Anew);
    }
    if args.resume {
        let is_done = is_there(&args.output) && !is_there(partial);
        return Ok(if is_done { Begin::Done } else { Begin::Resume });
    }
    if is_there(partial) {
        let partial = partial.display();
        return Err(Failure::Other(format!(
            "{partial} is there, from a run that did not end; --resume goes on, --force begins anew"
        )));
    }
    if is_there(&args.output) {
        let output = args.output.display();
        return Err(Failure::Other(format!("{output}: is there already; --force replaces it")));
    }
    Ok(Begin::Anew)
}

/// Where rows are gathered.
fn partial(output: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = output.file_name() else {
        return Err(Failure::Usage(format!("--output {}: has no name to write to", output.display())));
    };
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(output.with_file_name(name))
}

fn engine(args: &BatchArgs, model: Arc<LoadedModel>) -> Result<InferenceEngine, Failure> {
    if args.is_chat() && !model.summary().chat_template {
        let model = &model.summary().model;
        return Err(Failure::Other(format!("{model}: has no chat template; leave out --chat and --system")));
    }
    let default = EngineOptions::default();
    let options = EngineOptions {
        max_batch: args.batch_size,
        kv_bytes: args.kv_memory,
        kv_type: args.model.kv_type(),
        step_tokens: default.step_tokens.max(args.batch_size),
        // So that a place in the queue is never waited for.
        queue: pump::IN_FLIGHT,
        ..default
    };
    Ok(InferenceEngine::new(model, options)?)
}
