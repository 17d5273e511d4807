//! What being looked at costs the coordinator: many workers, compiles that go by, and with
//! them live pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hg_tests::grid::Grid;
use hg_tests::live;
use hg_tests::programs::Programs;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::load::{Load, share};
use super::spread;

const WORKERS: usize = 200;
const SLOTS: u32 = 8;
/// Compiles a second.
const RATE: u64 = 1_000;
const PAGES: usize = 50;
/// Of one measurement.
const SPAN: Duration = Duration::from_secs(10);
/// Share of a core that pages may cost.
const COST_MAX: f64 = 0.05;

/// Prints what the coordinator uses of a core without pages, with them, and without again.
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
        "\npages: {WORKERS} workers of {SLOTS} slots, {RATE} compiles a second, {PAGES} live pages; http://{}/",
        grid.http()
    );
    let (mut costs, mut bare, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let bytes = Arc::new(AtomicU64::new(0));
    for _ in 0..rounds {
        let before = share(grid, SPAN).await;
        let mut pages = JoinSet::new();
        for _ in 0..PAGES {
            pages.spawn(look(grid.http(), bytes.clone()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        bytes.store(0, Ordering::Relaxed);
        let with = share(grid, SPAN).await;
        pages.shutdown().await;
        let after = share(grid, SPAN).await;
        let without = f64::midpoint(before, after);
        costs.push(with - without);
        bare.push(without);
        seen.push(with);
    }
    let sent = bytes.load(Ordering::Relaxed) / SPAN.as_secs() / PAGES as u64;
    println!("  cores without pages {}", spread(&mut bare));
    println!(
        "  cores with pages    {}, {} KiB a second to each",
        spread(&mut seen),
        sent >> 10
    );
    let median = spread(&mut costs);
    let is_good = costs[costs.len() / 2] <= COST_MAX;
    println!(
        "  they cost           {median} (at most {COST_MAX}: {})",
        super::verdict(is_good)
    );
}

/// One page that reads what comes.
async fn look(address: String, bytes: Arc<AtomicU64>) {
    let stream = TcpStream::connect(&address).await.expect("the pages' port");
    let asked = live::request(&address, &[]);
    let (mut socket, _) = tokio_tungstenite::client_async(asked, stream)
        .await
        .expect("a live page");
    while let Some(Ok(message)) = socket.next().await {
        bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
    }
}
