//! `bitnet doctor`.

use bitnet_core::bandwidth::ReadProbe;
use bitnet_core::{Isa, ThreadPool};
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
    /// Names; models do not run on them yet.
    metal_devices: Vec<String>,
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
    match report.self_test.iter().find(|outcome| outcome.wrong > 0) {
        Some(Outcome { isa, wrong, .. }) => {
            Err(Failure::Other(format!("{wrong} products of the {isa} kernels are wrong on this machine")))
        }
        None => Ok(()),
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
        metal_devices: metal_devices(),
    })
}

fn metal_devices() -> Vec<String> {
    // That there is none is an answer, not a failure.
    bitnet_metal::devices().unwrap_or_default().into_iter().map(|device| device.name).collect()
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
    let metal = report.metal_devices.join(", ");
    rows.push((
        "Metal",
        if metal.is_empty() { "no device".to_owned() } else { format!("{metal} (not used yet)") },
    ));
    rows
}
