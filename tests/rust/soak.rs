//! An engine under load for a minute (ten in the nightly run): requests of all lengths, cancelled, late, refused, from several
//! threads at once. None is lost, none gets another's tokens, and memory stays as it is. Alone in its file: memory is the
//! process's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bitnet_inference::backend::KvType;
use bitnet_inference::backend::cpu::CpuOptions;
use bitnet_inference::{
    EngineOptions, Error, FinishReason, GenerateOptions, InferenceEngine, LoadOptions, LoadedModel, Prompt,
    Request,
};

const THREADS: usize = 4;
/// Requests of a thread that are open at once.
const OPEN: usize = 12;
const PROMPTS: usize = 24;
const LONGEST: usize = 24;
const REQUESTS: usize = 2000;

/// Numbers that look random, each thread its own.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX generator; its upper bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A prompt, and what the model says behind it when it is alone.
struct Expected {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn expected(model: &Arc<LoadedModel>, index: usize) -> Expected {
    // Half of them begin alike.
    let begin: Vec<u32> = (0..if index.is_multiple_of(2) { 70 } else { 0 }).map(|i| i * 31 % 2000).collect();
    let own = (0..3 + 3 * index as u32).map(|i| (i * 7919 + index as u32 * 104_729) % 2000);
    let prompt: Vec<u32> = begin.into_iter().chain(own).collect();
    let options = GenerateOptions { max_tokens: LONGEST, ..GenerateOptions::default() };
    let tokens = model.generate(Prompt::Ids(&prompt), &options).unwrap().token_ids;
    Expected { prompt, tokens }
}

/// What became of the requests of a thread.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    finished: usize,
    cancelled: usize,
    late: usize,
    refused: usize,
    failed: usize,
}

/// Asks until `end`, and until there were enough; checks every answer.
fn ask(
    engine: &InferenceEngine,
    expected: &[Expected],
    seed: u64,
    end: Instant,
    asked: &AtomicUsize,
) -> Outcome {
    let mut random = Random(seed);
    let mut outcome = Outcome::default();
    let mut open = Vec::new();
    let is_on = || Instant::now() < end || asked.load(Ordering::Relaxed) < REQUESTS;
    while is_on() || !open.is_empty() {
        while is_on() && open.len() < OPEN {
            let which = random.below(expected.len());
            let max_tokens = 1 + random.below(LONGEST);
            let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
            let deadline = (random.below(8) == 0).then(|| Duration::from_millis(random.below(30) as u64));
            let priority = random.below(3) as i32;
            match engine
                .submit(Prompt::Ids(&expected[which].prompt), &Request { options, priority, deadline })
            {
                Ok(handle) => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    open.push((handle, which, max_tokens, random.below(6) == 0));
                }
                Err(Error::QueueFull { .. }) => {
                    outcome.refused += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            if random.below(50) == 0 {
                let error = engine.submit(Prompt::Ids(&[9999]), &Request::default()).unwrap_err();
                assert!(matches!(error, Error::TokenOutOfRange { id: 9999, .. }));
                outcome.failed += 1;
            }
        }
        if open.is_empty() {
            continue;
        }
        let (mut handle, which, max_tokens, is_cancelled) = open.swap_remove(random.below(open.len()));
        if is_cancelled {
            let _ = handle.next_chunk().unwrap();
            handle.cancel();
        }
        let generation = handle.wait().unwrap();
        let alone = &expected[which].tokens[..max_tokens.min(expected[which].tokens.len())];
        assert!(alone.starts_with(&generation.token_ids), "the tokens of another");
        match generation.finish_reason {
            FinishReason::Cancelled => outcome.cancelled += 1,
            FinishReason::Deadline => outcome.late += 1,
            FinishReason::Length | FinishReason::Stop => {
                assert_eq!(generation.token_ids, alone);
                outcome.finished += 1;
            }
        }
    }
    outcome
}

/// Memory of the process, in bytes, where the system tells.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    pages.split(' ').nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
}

#[test]
fn no_request_is_lost_and_memory_stays_as_it_is() {
    if std::env::var_os("BITNET_ISA").is_some() {
        eprintln!("skipped: it runs with the best instruction set");
        return;
    }
    let seconds = if std::env::var_os("BITNET_NIGHTLY").is_some() { 600 } else { 60 };
    let cpu = CpuOptions { kv_cache: KvType::F16, ..CpuOptions::default() };
    let model = LoadedModel::embedded(&LoadOptions { cpu, ..LoadOptions::default() }).unwrap();
    let expected: Vec<Expected> = (0..PROMPTS).map(|index| expected(&model, index)).collect();
    let kv_bytes = 40 * model.backend().page_bytes(KvType::F16);
    let options = EngineOptions { max_batch: 16, kv_bytes, queue: 24, ..EngineOptions::default() };
    let engine = InferenceEngine::new(model, options).unwrap();

    let start = Instant::now();
    let asked = AtomicUsize::new(0);
    let mut warm = None;
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let end = start + Duration::from_secs(seconds);
        let (engine, expected, asked) = (&engine, &expected, &asked);
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|seed| scope.spawn(move || ask(engine, expected, seed + 1, end, asked)))
            .collect();
        // All buffers have their sizes after a sixth of the time.
        std::thread::sleep(Duration::from_secs(seconds / 6));
        warm = resident();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let (finished, cancelled, late) = (sum(|o| o.finished), sum(|o| o.cancelled), sum(|o| o.late));
    let (refused, failed) = (sum(|o| o.refused), sum(|o| o.failed));
    let asked = asked.into_inner();
    let stats = engine.stats();
    eprintln!(
        "{asked} requests: {finished} finished, {cancelled} cancelled, {late} late, {refused} refused, {failed} bad"
    );
    assert_eq!(asked, finished + cancelled + late);
    assert!(asked >= REQUESTS);
    assert!(finished > 0 && cancelled > 0 && late > 0 && refused > 0 && failed > 0);
    assert_eq!((stats.requests.submitted as usize, stats.requests.rejected as usize), (asked, refused));
    assert_eq!(stats.requests.finished.total() as usize, finished + cancelled + late);
    assert_eq!((stats.requests.failed, stats.requests.active), (0, 0));
    assert!(stats.prefix_cache.reused_tokens > 0);
    if let (Some(warm), Some(now)) = (warm, resident()) {
        eprintln!("{} MB at first, {} MB in the end", warm >> 20, now >> 20);
        assert!(now <= warm + (8 << 20), "{warm} bytes became {now}");
    }
}
