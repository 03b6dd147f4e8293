//! Who runs when, and that it changes nothing.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::speculation::{Guesses, Source, Speculation};

fn sampled(max_tokens: usize, seed: u64) -> Request {
    let mut request = request(max_tokens);
    request.options.sampling = SamplingOptions {
        temperature: 0.9,
        top_k: 50,
        repetition_penalty: 1.2,
        seed: Some(seed),
        ..Default::default()
    };
    request
}

/// None, from the text itself, or from the same model; more than there is always room for.
fn speculation(kind: usize) -> Option<Speculation> {
    let source = [Source::Lookup, Source::Draft(Arc::clone(&MODEL))].into_iter().nth(kind.checked_sub(1)?)?;
    Some(Speculation { source, guesses: Some(6) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_text_is_the_same_alone_and_among_others(
        requests in prop::collection::vec(
            (0_usize..4, 1_usize..150, 1_usize..20, any::<bool>(), 0_usize..3, 0_usize..6), 1..16,
        ),
        pages in 6_usize..30,
    ) {
        let mut bench = Bench::new(options(pages));
        let mut answers = Vec::new();
        for (index, (kind, len, max_tokens, is_greedy, guesses, steps)) in requests.into_iter().enumerate() {
            let mut request = if is_greedy { request(max_tokens) } else { sampled(max_tokens, index as u64) };
            let ids = ids(kind, len);
            request.options.speculation = speculation(guesses);
            let answer = bench.submit(&ids, &request);
            request.options.speculation = None;
            answers.push((answer, ids, request));
            bench.steps(steps);
        }
        bench.finish();
        for (answer, ids, request) in answers {
            prop_assert_eq!(answer.ids(), alone(&ids, &request));
        }
        prop_assert_eq!(bench.scheduler.pages_in_use(), 0);
    }
}

#[test]
fn pages_that_run_out_are_taken_from_the_last_and_given_back() {
    let mut bench = Bench::new(options(5));
    let request = request(100);
    // Each needs two pages at first, and three in the end.
    let answers = [0, 1].map(|kind| (bench.submit(&ids(kind, 100), &request), ids(kind, 100)));
    bench.finish();
    for (answer, ids) in answers {
        assert_eq!(answer.ids(), alone(&ids, &request));
    }
    assert!(bench.monitor.snapshot().recoveries.of(Recovery::Preempt) > 0);
}

#[test]
fn a_shared_beginning_is_computed_once() {
    let mut bench = Bench::new(options(60));
    let begin = ids(0, 150);
    let prompts: Vec<Vec<u32>> = (1..=6).map(|kind| [begin.clone(), ids(kind, 10)].concat()).collect();
    let request = request(4);
    let answers: Vec<Answer> = prompts.iter().map(|ids| bench.submit(ids, &request)).collect();
    bench.finish();
    for (answer, ids) in answers.iter().zip(&prompts) {
        assert_eq!(answer.ids(), alone(ids, &request));
    }
    let stats = bench.monitor.snapshot();
    // The first computes all of its 160 tokens, the others what is their own.
    assert_eq!(stats.prefix_cache.reused_tokens, 5 * 150);
}

#[test]
fn guesses_save_steps_and_are_counted() {
    let steps = |speculation| {
        let mut bench = Bench::new(options(60));
        let mut request = request(41);
        request.options.speculation = speculation;
        let answer = bench.submit(&ids(0, 20), &request);
        bench.finish();
        let generation = answer.end().unwrap();
        let stats = bench.monitor.snapshot();
        assert_eq!(stats.speculation, generation.guesses);
        (generation.token_ids, stats.decode.steps, stats.speculation)
    };
    let (plain, plain_steps, none) = steps(None);
    let (text, few, guesses) = steps(speculation(2));
    assert_eq!((plain_steps, none), (40, Guesses::default()));
    // The model knows what it says: each step but the last has its six guesses right, and gives seven tokens.
    assert_eq!((text, few), (plain, 6));
    assert_eq!(guesses, Guesses { proposed: 34, accepted: 34 });
}

#[test]
fn guesses_take_no_page_from_another() {
    let mut bench = Bench::new(options(3));
    let mut request = request(60);
    request.options.speculation = speculation(2);
    // Each needs two pages in the end. The second does without guesses until the first is done.
    let answers = [0, 1].map(|kind| (bench.submit(&ids(kind, 30), &request), ids(kind, 30)));
    bench.finish();
    request.options.speculation = None;
    for (answer, ids) in answers {
        assert_eq!(answer.ids(), alone(&ids, &request));
    }
    assert_eq!(bench.monitor.snapshot().recoveries.of(Recovery::Preempt), 0);
}

#[test]
fn samples_of_one_prompt_share_it_and_differ() {
    let engine = InferenceEngine::new(Arc::clone(&MODEL), options(60)).unwrap();
    let prompt = ids(3, 90);
    let handles = engine.submit_many(Prompt::Ids(&prompt), &sampled(12, 100), 4).unwrap();
    let texts: Vec<Vec<u32>> = handles.into_iter().map(|handle| handle.wait().unwrap().token_ids).collect();
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(*text, alone(&prompt, &sampled(12, 100 + index as u64)));
    }
    assert!(texts.iter().any(|text| *text != texts[0]));
    assert_eq!(engine.stats().prefix_cache.reused_tokens, 3 * 89);
}

#[test]
fn decoding_goes_on_while_a_long_prompt_is_read() {
    let mut bench = Bench::new(options(60));
    let short = bench.submit(&ids(0, 5), &request(60));
    bench.steps(2);
    let long = bench.submit(&ids(1, 240), &request(1));
    assert_eq!(short.chunks(), 2);
    // Ten pieces of 24 tokens.
    for _ in 0..9 {
        bench.steps(1);
        assert_eq!((short.chunks(), long.chunks()), (1, 0));
    }
    bench.steps(1);
    assert_eq!((short.chunks(), long.chunks()), (1, 1));
}

#[test]
fn the_more_important_one_goes_first() {
    let mut bench = Bench::new(EngineOptions { max_batch: 1, ..options(60) });
    let usual = bench.submit(&ids(0, 5), &request(2));
    let important = bench.submit(&ids(1, 5), &Request { priority: 1, ..request(2) });
    bench.steps(2);
    assert_eq!((usual.chunks(), important.chunks()), (0, 2));
    bench.steps(2);
    assert_eq!(usual.chunks(), 2);
}

#[test]
fn a_request_ends_when_it_is_cancelled_or_late() {
    let mut bench = Bench::new(options(60));
    let cancelled = bench.submit(&ids(0, 5), &request(50));
    let late = bench.submit(&ids(1, 5), &Request { deadline: Some(Duration::from_millis(1)), ..request(50) });
    let waiting = bench.submit(&ids(2, 5), &request(50));
    waiting.cancellation.cancel();
    bench.steps(1);
    cancelled.cancellation.cancel();
    std::thread::sleep(Duration::from_millis(2));
    bench.steps(1);
    let ends = [cancelled, late, waiting].map(|answer| answer.end().unwrap());
    let reasons = ends.each_ref().map(|generation| generation.finish_reason);
    assert_eq!(reasons, [FinishReason::Cancelled, FinishReason::Deadline, FinishReason::Cancelled]);
    assert_eq!((ends[0].token_ids.len(), ends[2].token_ids.len()), (1, 0));
    assert!(bench.scheduler.is_idle());
    assert_eq!(bench.scheduler.pages_in_use(), 0);
}

#[test]
fn a_queue_that_a_step_emptied_has_a_place() {
    let options = EngineOptions { max_batch: 1, queue: 1, ..options(60) };
    let engine = InferenceEngine::new(Arc::clone(&MODEL), options).unwrap();
    // It joins and ends in the same step.
    engine.submit(Prompt::Ids(&ids(0, 5)), &request(1)).unwrap().wait().unwrap();
    assert!(engine.wait_for_place(Duration::from_secs(60)));
}

#[test]
fn a_queue_that_is_full_says_so() {
    let options = EngineOptions { max_batch: 1, queue: 3, ..options(60) };
    let engine = InferenceEngine::new(Arc::clone(&MODEL), options).unwrap();
    let prompt = ids(0, 5);
    let submit = || engine.submit(Prompt::Ids(&prompt), &request(500));
    let mut handles = Vec::new();
    let error = loop {
        match submit() {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::QueueFull { capacity: 3 }), "{error}");
    assert!((3..=4).contains(&handles.len()), "{}", handles.len());
    assert_eq!(engine.stats().requests.rejected, 1);
    // Dropping them makes room.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| engine.submit_waiting(Prompt::Ids(&prompt), &request(1)));
        drop(handles);
        waiting.join().unwrap()
    });
    assert_eq!(waiting.unwrap().wait().unwrap().token_ids.len(), 1);
}

#[test]
fn many_prompts_are_answered_in_their_order() {
    let engine = InferenceEngine::new(Arc::clone(&MODEL), EngineOptions { queue: 4, ..options(60) }).unwrap();
    let texts: Vec<Vec<u32>> = (0..30).map(|kind| ids(kind, 3 + kind % 7)).collect();
    let mut prompts: Vec<Prompt<'_>> = texts.iter().map(|ids| Prompt::Ids(ids)).collect();
    prompts.insert(7, Prompt::Text(""));
    let mut results = engine.generate(&prompts, &request(3));
    assert!(matches!(results.remove(7), Err(Error::EmptyPrompt)));
    for (result, ids) in results.into_iter().zip(&texts) {
        assert_eq!(result.unwrap().token_ids, alone(ids, &request(3)));
    }
}

#[test]
fn an_engine_that_ends_finishes_or_cancels() {
    let engine = || InferenceEngine::new(Arc::clone(&MODEL), options(60)).unwrap();
    let prompt = ids(0, 5);
    let finished = engine();
    let handle = finished.submit(Prompt::Ids(&prompt), &request(20)).unwrap();
    finished.finish();
    assert_eq!(handle.wait().unwrap().token_ids, alone(&prompt, &request(20)));
    let dropped = engine();
    let handle = dropped.submit(Prompt::Ids(&prompt), &request(5000)).unwrap();
    drop(dropped);
    assert_eq!(handle.wait().unwrap().finish_reason, FinishReason::Cancelled);
}

#[test]
fn prompts_that_cannot_be_are_refused_one_by_one() {
    let engine = InferenceEngine::new(Arc::clone(&MODEL), options(2)).unwrap();
    assert_eq!(engine.positions(), 128);
    let submit = |ids: &[u32]| engine.submit(Prompt::Ids(ids), &request(5)).map(drop);
    assert!(matches!(submit(&[]), Err(Error::EmptyPrompt)));
    assert!(matches!(submit(&[4000]), Err(Error::TokenOutOfRange { id: 4000, .. })));
    assert!(matches!(submit(&ids(0, 128)), Err(Error::ContextLength { context_length: 128, .. })));
    let longest = engine.submit(Prompt::Ids(&ids(0, 127)), &request(5)).unwrap().wait().unwrap();
    assert_eq!((longest.token_ids.len(), longest.finish_reason), (1, FinishReason::Length));
}

#[test]
fn more_memory_than_there_is_is_refused() {
    let options = EngineOptions { kv_bytes: usize::MAX, ..options(1) };
    let error = InferenceEngine::new(Arc::clone(&MODEL), options).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { name: "kv_memory", .. }), "{error}");
}
