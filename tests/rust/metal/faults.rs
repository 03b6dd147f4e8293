//! Devices that run out of memory, are lost, or compute something wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bitnet_core::Buffer;
use bitnet_inference::backend::metal::{MetalBackend, self_test};
use bitnet_inference::backend::{Backend, Cut, FallbackBackend, KvType, Sequence};
use bitnet_inference::monitor::Recovery;
use bitnet_inference::{
    EngineOptions, Error, GenerateOptions, InferenceEngine, LoadOptions, LoadedModel, Prompt, Request,
};
use bitnet_metal::{Constant, DeviceInfo, Dispatch, Error as MetalError, Gpu};

use crate::device::{Device, Gpus, gpus};
use crate::{pool, tiny};

/// A device that fails when it is told to, and counts its steps.
#[derive(Debug)]
struct Faulty {
    inner: Arc<Device>,
    fault: Fault,
    allocations: AtomicUsize,
    runs: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// No memory from this allocation on.
    OutOfMemory(usize),
    /// No memory for this step and later ones.
    OutOfMemoryRunning(usize),
    /// Lost in this step.
    Lost(usize),
    /// The last dispatch but one of every step is left out.
    Forgets,
}

impl Faulty {
    fn new(inner: Arc<Device>, fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner, fault, allocations: AtomicUsize::new(0), runs: AtomicUsize::new(0) })
    }
}

impl Gpu for Faulty {
    type Memory = <Device as Gpu>::Memory;
    type Pipeline = <Device as Gpu>::Pipeline;

    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, bytes: usize) -> bitnet_metal::Result<Self::Memory> {
        let number = self.allocations.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::OutOfMemory(from) if number >= from => {
                Err(MetalError::OutOfMemory { what: format!("{bytes} bytes") })
            }
            _ => self.inner.allocate(bytes),
        }
    }

    fn share(&self, bytes: &Buffer, align: usize) -> bitnet_metal::Result<Self::Memory> {
        self.inner.share(bytes, align)
    }

    fn pipeline(
        &self,
        kernel: &str,
        constants: &[Constant],
        threads: usize,
    ) -> bitnet_metal::Result<Self::Pipeline> {
        self.inner.pipeline(kernel, constants, threads)
    }

    fn run(&self, dispatches: &[Dispatch<'_, Self>]) -> bitnet_metal::Result<Duration> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::Lost(from) if number >= from => {
                return Err(MetalError::DeviceLost { reason: "unplugged".to_owned() });
            }
            Fault::OutOfMemoryRunning(from) if number >= from => {
                return Err(MetalError::OutOfMemory { what: "a step".to_owned() });
            }
            _ => {}
        }
        let left_out = matches!(self.fault, Fault::Forgets).then(|| dispatches.len().saturating_sub(2));
        let kept = dispatches.iter().enumerate().filter(|(index, _)| Some(*index) != left_out);
        let dispatches: Vec<Dispatch<'_, Device>> = kept.map(|(_, dispatch)| dispatch.on()).collect();
        self.inner.run(&dispatches)
    }
}

fn backend(gpu: &Arc<Faulty>) -> MetalBackend<Faulty> {
    MetalBackend::new(Arc::clone(gpu), tiny(), &pool(), KvType::F32).unwrap()
}

/// The model on the CPU.
fn cpu() -> Arc<LoadedModel> {
    LoadedModel::embedded(&LoadOptions { threads: Some(1), ..LoadOptions::default() }).unwrap()
}

fn ids(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i * 29 % 2000).collect()
}

fn greedy(sequence: &mut Sequence, tokens: usize) -> Vec<u32> {
    let (mut text, mut next) = (Vec::new(), ids(70));
    while text.len() < tokens {
        sequence.feed(&next, 1).unwrap();
        next = vec![sequence.candidates(&Cut::GREEDY).unwrap()[0].id];
        text.extend_from_slice(&next);
    }
    text
}

#[test]
fn a_token_is_one_step_of_the_device() {
    for device in gpus(Gpus::One) {
        let gpu = Faulty::new(device, Fault::None);
        let backend = backend(&gpu);
        assert_eq!(gpu.runs.load(Ordering::Relaxed), 0);
        greedy(&mut backend.start(100).unwrap(), 6);
        assert_eq!(gpu.runs.load(Ordering::Relaxed), 6, "the prompt, and each token behind it but the last");
    }
}

#[test]
fn a_session_allocates_when_it_starts_and_not_for_each_token() {
    for device in gpus(Gpus::One) {
        let gpu = Faulty::new(device, Fault::None);
        let mut sequence = backend(&gpu).start(200).unwrap();
        greedy(&mut sequence, 1);
        let allocations = gpu.allocations.load(Ordering::Relaxed);
        greedy(&mut sequence, 1);
        assert_eq!(gpu.allocations.load(Ordering::Relaxed), allocations);
    }
}

#[test]
fn a_want_of_memory_is_an_error_of_its_type() {
    for device in gpus(Gpus::One) {
        let gpu = Faulty::new(Arc::clone(&device), Fault::OutOfMemory(5));
        let loaded = MetalBackend::new(Arc::clone(&gpu), tiny(), &pool(), KvType::F32).map(drop);
        assert!(matches!(loaded, Err(Error::Metal(MetalError::OutOfMemory { .. }))), "{loaded:?}");

        let weights = Faulty::new(Arc::clone(&device), Fault::None);
        drop(backend(&weights));
        let allocations = weights.allocations.load(Ordering::Relaxed);
        for more in [0, 3, 12] {
            let gpu = Faulty::new(Arc::clone(&device), Fault::OutOfMemory(allocations + more));
            let opened = backend(&gpu).start(100).map(drop);
            assert!(matches!(opened, Err(Error::OutOfMemory { .. })), "{opened:?}");
        }
        // More positions than there is memory, on any device.
        let opened = backend(&weights).start(1 << 50).map(drop);
        assert!(matches!(opened, Err(Error::OutOfMemory { .. })), "{opened:?}");
    }
}

#[test]
fn a_text_goes_on_on_the_cpu() {
    let cpu = cpu();
    let expected = greedy(&mut cpu.backend().start(100).unwrap(), 8);
    for device in gpus(Gpus::One) {
        for fault in [Fault::Lost(0), Fault::Lost(3), Fault::OutOfMemoryRunning(2)] {
            let gpu = Faulty::new(Arc::clone(&device), fault);
            let both = FallbackBackend::new(Arc::new(backend(&gpu)), cpu.shared_backend());
            assert_eq!(greedy(&mut both.start(100).unwrap(), 8), expected, "{fault:?}");
        }
    }
}

#[test]
fn an_engine_goes_on_on_the_cpu() {
    let cpu = cpu();
    let prompts: Vec<Vec<u32>> = (0..3).map(|index| ids(20 + index)).collect();
    let options = GenerateOptions { max_tokens: 6, ..GenerateOptions::default() };
    let request = Request { options, ..Request::default() };
    // New memory of the stand-in is written from end to end.
    let options = EngineOptions { kv_bytes: 16 << 20, ..EngineOptions::default() };
    let run = |backends: Vec<Arc<dyn Backend>>| {
        let engine = InferenceEngine::with_backends(Arc::clone(&cpu), backends, options.clone());
        let engine = engine.unwrap();
        let handles: Vec<_> =
            prompts.iter().map(|ids| engine.submit(Prompt::Ids(ids), &request).unwrap()).collect();
        let texts: Vec<_> = handles.into_iter().map(|handle| handle.wait().unwrap().token_ids).collect();
        (texts, engine.stats().recoveries.of(Recovery::Fallback))
    };
    let (expected, _) = run(vec![cpu.shared_backend()]);
    for device in gpus(Gpus::One) {
        let gpu = Faulty::new(device, Fault::Lost(2));
        let (texts, fallbacks) = run(vec![Arc::new(backend(&gpu)), cpu.shared_backend()]);
        assert_eq!((texts, fallbacks), (expected.clone(), 1));
    }
}

#[test]
fn the_self_test_finds_a_device_that_forgets_a_dispatch() {
    for device in gpus(Gpus::One) {
        let test = self_test(&Faulty::new(device, Fault::Forgets), &pool()).unwrap();
        assert!(!test.is_right(), "{test:?}");
    }
}
