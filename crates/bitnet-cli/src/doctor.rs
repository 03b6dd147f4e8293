//! `bitnet doctor`.

use std::sync::Arc;

use bitnet_core::bandwidth::ReadProbe;
use bitnet_core::{ByteSize, Isa, ThreadPool};
use bitnet_inference::backend::metal::system_self_test;
use bitnet_metal::DeviceInfo;
use bitnet_quant::kernel::{SelfTest, self_test};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::output::{self, grouped};
use crate::{cpu, interrupt};

/// Bytes summed to measure the bandwidth: several times any last-level cache of a desktop.
const BANDWIDTH_BYTES: usize = 256 << 20;
const BANDWIDTH_REPETITIONS: usize = 5;

#[derive(Serialize)]
struct Report {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    cpu: Option<String>,
    physical_cores: usize,
    logical_cores: usize,
    threads: usize,
    isas: Vec<&'static str>,
    isa: &'static str,
    isa_forced: bool,
    read_bandwidth_gb_s: Bandwidth,
    self_test: Vec<Outcome>,
    metal_devices: Vec<MetalDevice>,
    /// Of the first of them.
    metal_self_test: Option<MetalSelfTest>,
}

#[derive(Serialize)]
struct MetalDevice {
    name: String,
    apple_family: Option<u8>,
    metal3: bool,
    unified_memory: bool,
    recommended_working_set_bytes: u64,
    max_buffer_bytes: u64,
    max_threads_per_threadgroup: usize,
    max_threadgroup_memory_bytes: usize,
}

/// What the kernels compute of the embedded model, beside the CPU.
#[derive(Serialize)]
struct MetalSelfTest {
    positions: usize,
    agreeing: usize,
    largest_difference: f32,
    right: bool,
    /// Why there are no figures.
    error: Option<String>,
}

#[derive(Serialize)]
struct Bandwidth {
    one_thread: f64,
    all_threads: f64,
}

#[derive(Serialize)]
struct Outcome {
    isa: &'static str,
    products: usize,
    wrong: usize,
}

/// Prints what this machine offers, and fails when a kernel computes something wrong.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let threads = args.threads;
    let report = interrupt::or_done(move || examine(threads))?;
    if args.json {
        output::json(&report)?;
    } else {
        output::table(&rows(&report))?;
    }
    if let Some(Outcome { isa, wrong, .. }) = report.self_test.iter().find(|outcome| outcome.wrong > 0) {
        return Err(Failure::Other(format!(
            "{wrong} products of the {isa} kernels are wrong on this machine"
        )));
    }
    match &report.metal_self_test {
        Some(test) if test.is_wrong() => {
            Err(Failure::Other("the Metal kernels are wrong on this machine".to_owned()))
        }
        _ => Ok(()),
    }
}

fn examine(threads: Option<usize>) -> Result<Report, Failure> {
    let isa = Isa::selected()?;
    let pool = ThreadPool::new(threads.unwrap_or_else(ThreadPool::default_threads))?;
    let one = ThreadPool::new(1)?;
    let probe = ReadProbe::new(&pool, BANDWIDTH_BYTES)?;
    let one_thread = probe.gb_per_s(&one, BANDWIDTH_REPETITIONS);
    let all_threads =
        if pool.threads() == 1 { one_thread } else { probe.gb_per_s(&pool, BANDWIDTH_REPETITIONS) };
    let outcomes = self_test(&pool).map_err(bitnet_inference::Error::from)?;
    let metal_devices = metal_devices();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cpu: cpu::name(),
        physical_cores: num_cpus::get_physical(),
        logical_cores: num_cpus::get(),
        threads: pool.threads(),
        isas: Isa::available().into_iter().map(Isa::name).collect(),
        isa: isa.name(),
        isa_forced: std::env::var_os("BITNET_ISA").is_some_and(|name| !name.is_empty()),
        read_bandwidth_gb_s: Bandwidth { one_thread, all_threads },
        self_test: outcomes
            .into_iter()
            .map(|SelfTest { isa, products, wrong }| Outcome { isa: isa.name(), products, wrong })
            .collect(),
        metal_self_test: (!metal_devices.is_empty()).then(|| metal_self_test(&Arc::new(pool))),
        metal_devices,
    })
}

fn metal_devices() -> Vec<MetalDevice> {
    // That there is none is an answer, not a failure.
    let devices = bitnet_metal::devices().unwrap_or_default();
    let report = |device: DeviceInfo| MetalDevice {
        name: device.name,
        apple_family: device.apple_family,
        metal3: device.has_metal3,
        unified_memory: device.has_unified_memory,
        recommended_working_set_bytes: device.recommended_working_set_bytes,
        max_buffer_bytes: device.max_buffer_bytes,
        max_threads_per_threadgroup: device.max_threads_per_threadgroup,
        max_threadgroup_memory_bytes: device.max_threadgroup_memory_bytes,
    };
    devices.into_iter().map(report).collect()
}

fn metal_self_test(pool: &Arc<ThreadPool>) -> MetalSelfTest {
    match system_self_test(pool) {
        Ok(test) => MetalSelfTest {
            positions: test.positions,
            agreeing: test.agreeing,
            largest_difference: test.largest_difference,
            right: test.is_right(),
            error: None,
        },
        Err(error) => MetalSelfTest {
            positions: 0,
            agreeing: 0,
            largest_difference: 0.0,
            right: false,
            error: Some(error.to_string()),
        },
    }
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let (physical, logical, threads) = (report.physical_cores, report.logical_cores, report.threads);
    let Bandwidth { one_thread, all_threads } = report.read_bandwidth_gb_s;
    let all = if threads > 1 { format!(", {all_threads:.1} GB/s with {threads}") } else { String::new() };
    let forced = if report.isa_forced { ", forced by BITNET_ISA" } else { "" };
    let mut rows = vec![("bitnet", format!("{} on {} {}", report.version, report.os, report.arch))];
    rows.extend(report.cpu.clone().map(|cpu| ("cpu", cpu)));
    rows.extend([
        ("cores", format!("{physical} physical, {logical} logical")),
        ("threads", threads.to_string()),
        ("instruction sets", format!("{}; used: {}{forced}", report.isas.join(", "), report.isa)),
        ("read bandwidth", format!("{one_thread:.1} GB/s with 1 thread{all}")),
    ]);
    rows.extend(report.self_test.iter().map(|Outcome { isa, products, wrong }| {
        let products = grouped(*products);
        let verdict = match wrong {
            0 => format!("{products} products, all right"),
            wrong => format!("{products} products, {} WRONG", grouped(*wrong)),
        };
        ("self-test", format!("{isa}: {verdict}"))
    }));
    if report.metal_devices.is_empty() {
        rows.push(("Metal", "no device".to_owned()));
    }
    rows.extend(report.metal_devices.iter().map(|device| ("Metal", device.describe())));
    rows.extend(report.metal_self_test.iter().map(|test| ("Metal self-test", test.describe())));
    rows
}

impl MetalDevice {
    fn describe(&self) -> String {
        let family = self.apple_family.map_or_else(String::new, |family| format!(", family Apple {family}"));
        let memory = if self.unified_memory { "unified memory" } else { "memory of its own" };
        let room = ByteSize(self.recommended_working_set_bytes);
        format!("{}{family}, {memory}, {room} to work on", self.name)
    }
}

impl MetalSelfTest {
    /// Whether it computed something else than the CPU, rather than nothing.
    fn is_wrong(&self) -> bool {
        !self.right && self.error.is_none()
    }

    fn describe(&self) -> String {
        let Self { positions, agreeing, largest_difference, .. } = self;
        let verdict = if self.right { "right" } else { "WRONG" };
        self.error.clone().unwrap_or_else(|| {
            format!("{agreeing} of {positions} tokens are those of the CPU, logits within {largest_difference:.1e}: {verdict}")
        })
    }
}
