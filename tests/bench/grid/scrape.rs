//! What a Prometheus that scrapes it costs the coordinator while it is busy.

use std::time::{Duration, Instant};

use hg_tests::grid::{Grid, http_get};
use hg_tests::programs::Programs;
use serde_json::Value;

use super::load::{Load, share};
use super::{spread, verdict};

const WORKERS: usize = 200;
const SLOTS: u32 = 8;
/// Tasks a second.
const RATE: u64 = 2_000;
/// Of one measurement.
const SPAN: Duration = Duration::from_secs(10);
/// Scrapes a second that are measured: one alone costs less than a busy machine's noise.
const SCRAPES: u32 = 20;
/// Share of what the coordinator uses that one scrape a second may cost.
const SHARE_MAX: f64 = 0.02;

/// Prints what the coordinator uses of a core without scrapes, with them, and without again.
pub fn run(programs: &Programs, rounds: usize) {
    let load = Load {
        workers: WORKERS,
        slots: SLOTS,
        rate: RATE,
    };
    load.run(programs, async |grid| measure(grid, rounds).await);
}

async fn measure(grid: &Grid, rounds: usize) {
    println!(
        "\nscrape: {WORKERS} workers of {SLOTS} slots, {SCRAPES} scrapes of /metrics a second"
    );
    let (began, before) = (Instant::now(), finished(grid));
    let (mut bare, mut seen, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..rounds {
        let before = share(grid, SPAN).await;
        let scrapes = tokio::spawn(scrape(grid.http()));
        let with = share(grid, SPAN).await;
        scrapes.abort();
        let after = share(grid, SPAN).await;
        let without = f64::midpoint(before, after);
        shares.push((with - without) / f64::from(SCRAPES) / without);
        bare.push(without);
        seen.push(with);
        bytes = grid.get("/metrics").map_or(0, |text| text.len());
    }
    let rate = (finished(grid) - before) as f64 / began.elapsed().as_secs_f64();
    println!(
        "  tasks a second         {rate:.0} (wanted {RATE}), {} KiB of metrics",
        bytes >> 10
    );
    println!("  cores without scrapes  {}", spread(&mut bare));
    println!("  cores with scrapes     {}", spread(&mut seen));
    let median = spread(&mut shares);
    let is_good = shares[shares.len() / 2] <= SHARE_MAX;
    println!(
        "  one a second costs     {median} of what it uses without (at most {SHARE_MAX}: {})",
        verdict(is_good)
    );
}

/// One after another, as often as [`SCRAPES`] says.
async fn scrape(address: String) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / SCRAPES);
    loop {
        tick.tick().await;
        let address = address.clone();
        let scraped = tokio::task::spawn_blocking(move || http_get(&address, "/metrics"));
        scraped.await.expect("a thread").expect("metrics");
    }
}

fn finished(grid: &Grid) -> u64 {
    let status = grid.get("/api/v1/status").expect("a status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status["tasks_finished"].as_u64().expect("a number")
}
