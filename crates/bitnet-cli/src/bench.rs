//! `bitnet bench`.

mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitnet_benchmarks::{DECODE_PROMPT, PeakMeter, Peaks, Row, Subject, Synthetic, Test, peak_memory};
use bitnet_core::{Isa, ThreadPool};
use bitnet_inference::Checkpoint;

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::{interrupt, output};

/// Prints the speed of a model beside the peaks of this machine, a line per test as it is done or one JSON list; or
/// writes a synthetic model.
pub(crate) fn bench(mut args: BenchArgs) -> Result<(), Failure> {
    if let (Some(synthetic), Some(folder)) = (args.synthetic, args.save.take()) {
        return interrupt::or_done(move || Ok(synthetic.save(&folder, ThreadPool::default_threads())?));
    }
    let tests = tests(&args)?;
    if let Some(synthetic) = args.synthetic {
        check_context(&tests, synthetic.context_length)?;
    }
    if args.threads.is_empty() {
        args.threads.push(ThreadPool::default_threads());
    }
    let isa = Isa::selected()?;
    let meter = Arc::new(meter(&args, isa)?);
    let mut rows = Vec::new();
    for &threads in &args.threads {
        peak_memory::reset();
        let subject = load(&args, threads)?;
        check_context(&tests, subject.context_length)?;
        // Not before there is a model: where it is refused, that is all there is to say.
        if rows.is_empty() && !args.json {
            output::text(&table::header(isa, args.device))?;
        }
        for test in &tests {
            let mut row = measure(*test, &subject, &meter, args.repetitions)?;
            row.batch_speedup = batch_speedup(*test, &row, &rows);
            if !args.json {
                output::text(&table::line(&row))?;
            }
            rows.push(row);
        }
    }
    if args.json { output::json(&rows) } else { Ok(()) }
}

/// The tests asked for, prompts first.
fn tests(args: &BenchArgs) -> Result<Vec<Test>, Failure> {
    let asked = |counts: &[usize]| counts.iter().copied().filter(|count| *count > 0).collect::<Vec<_>>();
    // The smallest first: the others are compared with it.
    let batches: BTreeSet<usize> = args.batch.iter().copied().collect();
    let decode = |tokens| batches.iter().map(move |&batch| Test::Decode { tokens, batch });
    let mut tests: Vec<Test> = asked(&args.n_prompt).into_iter().map(Test::Prefill).collect();
    tests.extend(asked(&args.n_gen).into_iter().flat_map(decode));
    if tests.is_empty() {
        return Err(Failure::Usage("nothing to measure: --n-prompt and --n-gen are 0".to_owned()));
    }
    Ok(tests)
}

/// How much faster the sequences are together than one of them alone, which was measured before them.
fn batch_speedup(test: Test, row: &Row, before: &[Row]) -> Option<f64> {
    let Test::Decode { tokens, batch: 2.. } = test else { return None };
    let alone = Test::Decode { tokens, batch: 1 }.to_string();
    let alone = before.iter().find(|other| other.threads == row.threads && other.test == alone)?;
    Some(row.tokens_per_s.median / alone.tokens_per_s.median)
}

fn check_context(tests: &[Test], context: usize) -> Result<(), Failure> {
    let Some(test) = tests.iter().find(|test| test.positions() > context) else { return Ok(()) };
    let (option, prompt) = match test {
        Test::Prefill(_) => ("--n-prompt", String::new()),
        Test::Decode { .. } => ("--n-gen", format!(", {DECODE_PROMPT} of them for the prompt")),
    };
    let tokens = test.tokens() / test.batch();
    Err(Failure::Usage(format!(
        "{option} is {tokens}; the context of this model holds {context} tokens{prompt}"
    )))
}

fn meter(args: &BenchArgs, isa: Isa) -> Result<PeakMeter, Failure> {
    let threads = args.threads.iter().copied().max().unwrap_or(1);
    let bytes = args.bandwidth_mib.saturating_mul(1 << 20);
    interrupt::or_done(move || Ok(PeakMeter::new(&ThreadPool::new(threads)?, isa, bytes)?))
}

/// The model, loaded or made anew: it is prepared for its threads.
fn load(args: &BenchArgs, threads: usize) -> Result<Subject, Failure> {
    let (model, synthetic): (Option<String>, Option<Synthetic>) = (args.model.clone(), args.synthetic);
    let (device, options, gguf) = (args.device, args.cpu.options(), args.gguf.options.clone());
    let adapter = args.adapter.path.clone();
    interrupt::or_done(move || {
        let pool = Arc::new(ThreadPool::new(threads)?);
        let checkpoint = match synthetic {
            Some(synthetic) => synthetic.checkpoint(&pool)?,
            None => Checkpoint::find(model.as_deref(), &gguf)?,
        };
        Ok(Subject::new(device, checkpoint, adapter.as_deref(), pool, &options)?)
    })
}

fn measure(test: Test, subject: &Subject, meter: &PeakMeter, repetitions: usize) -> Result<Row, Failure> {
    let mut peaks = Vec::new();
    let measured = test.run(subject, repetitions, interrupt::check, || {
        peaks.push(meter.sample(&subject.pool)?);
        interrupt::check()
    })?;
    let memory = peak_memory::bytes().map(|bytes| bytes.saturating_sub(meter.resident_bytes()));
    Ok(Row::new(&measured, &Peaks::median(&peaks), subject.macs_per_token, memory))
}
