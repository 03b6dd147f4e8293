//! Requests among others, with what can go wrong.

mod faults;
mod scheduling;

use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::backend::KvType;
use crate::backend::cpu::CpuOptions;
use crate::generate::GenerateOptions;
use crate::monitor::Recovery;
use crate::{LoadOptions, SamplingOptions};

/// bitnet-tiny, with keys and values in the type of the engine.
static MODEL: LazyLock<Arc<LoadedModel>> = LazyLock::new(|| {
    let cpu = CpuOptions { kv_cache: KvType::F16, ..CpuOptions::default() };
    LoadedModel::embedded(&LoadOptions { cpu, ..LoadOptions::default() }).unwrap()
});

fn options(pages: usize) -> EngineOptions {
    let kv_bytes = pages * MODEL.backend().page_bytes(KvType::F16);
    EngineOptions { max_batch: 8, kv_bytes, prefill_chunk: 24, step_tokens: 96, ..EngineOptions::default() }
}

fn request(max_tokens: usize) -> Request {
    let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
    Request { options, ..Request::default() }
}

/// Ids that are no text, different for every `kind`.
fn ids(kind: usize, len: usize) -> Vec<u32> {
    (0..len).map(|i| ((i * 7919 + kind * 104_729) % 2000) as u32).collect()
}

/// What the model gives without an engine.
fn alone(ids: &[u32], request: &Request) -> Vec<u32> {
    MODEL.generate(Prompt::Ids(ids), &request.options).unwrap().token_ids
}

/// A scheduler that a test drives step by step.
struct Bench {
    scheduler: Scheduler,
    monitor: Arc<PerformanceMonitor>,
    positions: usize,
}

/// What a request was told.
struct Answer {
    events: Receiver<Event>,
    cancellation: Cancellation,
}

impl Bench {
    fn new(options: EngineOptions) -> Self {
        Self::on(vec![MODEL.shared_backend()], options)
    }

    fn on(backends: Vec<Arc<dyn Backend>>, options: EngineOptions) -> Self {
        let limits = limits(&MODEL, &backends, &options).unwrap();
        let monitor = Arc::new(PerformanceMonitor::new("bitnet-tiny", MODEL.config().layers));
        let device =
            Device::new(backends, limits, options.kv_type, Arc::clone(monitor.layer_times())).unwrap();
        let scheduler = Scheduler::new(options, device, Arc::clone(&monitor));
        Self { scheduler, monitor, positions: limits.positions }
    }

    fn submit(&mut self, ids: &[u32], request: &Request) -> Answer {
        let (sender, events) = channel();
        let sink = Box::new(move |event| drop(sender.send(event)));
        let task = Task::new(Arc::clone(&MODEL), Prompt::Ids(ids), request, self.positions, sink).unwrap();
        let cancellation = Cancellation(task.cancellation());
        self.scheduler.add(task);
        Answer { events, cancellation }
    }

    fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.scheduler.step());
    }

    /// Runs until nothing is left to do.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.scheduler.is_idle() {
                return;
            }
            self.scheduler.step();
        }
        panic!("there is no end");
    }
}

impl Answer {
    /// Chunks so far, which are then forgotten.
    fn chunks(&self) -> usize {
        self.events.try_iter().filter(|event| matches!(event, Event::Chunk(_))).count()
    }

    /// The last thing that was said.
    fn end(&self) -> Result<Generation> {
        match self.events.try_iter().last().expect("an answer") {
            Event::Done(generation) => Ok(*generation),
            Event::Failed(error) => Err(error),
            Event::Chunk(chunk) => panic!("no end behind {chunk:?}"),
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.end().unwrap().token_ids
    }
}
