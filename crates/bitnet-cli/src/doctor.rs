//! `bitnet doctor`.

use bitnet_core::{Isa, ThreadPool, bandwidth};
use bitnet_quant::kernel::{SelfTest, self_test};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::{print_json, print_line};

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
    let report = examine(args.threads)?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&report)?;
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
    let measure = |pool: &ThreadPool| bandwidth::read_gb_per_s(pool, BANDWIDTH_BYTES, BANDWIDTH_REPETITIONS);
    let outcomes = self_test(&pool).map_err(bitnet_inference::Error::from)?;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cpu: cpu_name(),
        physical_cores: num_cpus::get_physical(),
        logical_cores: num_cpus::get(),
        threads: pool.threads(),
        isas: Isa::available().into_iter().map(Isa::name).collect(),
        isa: isa.name(),
        isa_forced: std::env::var_os("BITNET_ISA").is_some_and(|name| !name.is_empty()),
        read_bandwidth_gb_s: Bandwidth { one_thread: measure(&one), all_threads: measure(&pool) },
        self_test: outcomes
            .into_iter()
            .map(|SelfTest { isa, products, wrong }| Outcome { isa: isa.name(), products, wrong })
            .collect(),
    })
}

/// As Linux names it; other systems do not say in a file.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = text.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

fn print(report: &Report) -> Result<(), Failure> {
    let Bandwidth { one_thread, all_threads } = report.read_bandwidth_gb_s;
    print_line(&format!("bitnet          {} on {} {}", report.version, report.os, report.arch))?;
    print_line(&format!("cpu             {}", report.cpu.as_deref().unwrap_or("unnamed")))?;
    let (physical, logical) = (report.physical_cores, report.logical_cores);
    print_line(&format!("cores           {physical} physical, {logical} logical; {} threads used", report.threads))?;
    let forced = if report.isa_forced { " (forced by BITNET_ISA)" } else { "" };
    print_line(&format!("instructions    {}; used: {}{forced}", report.isas.join(", "), report.isa))?;
    print_line(&format!("read bandwidth  {one_thread:.1} GB/s with one thread, {all_threads:.1} with all"))?;
    for Outcome { isa, products, wrong } in &report.self_test {
        let verdict = if *wrong == 0 { "all equal the reference".to_owned() } else { format!("{wrong} are WRONG") };
        print_line(&format!("self-test       {isa}: {products} products, {verdict}"))?;
    }
    Ok(())
}
