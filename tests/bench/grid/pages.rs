//! What being looked at costs the coordinator: many workers, compiles that go by, and with
//! them live pages and a Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hg_coord::commands::dial;
use hg_proto::v1;
use hg_tests::grid::Grid;
use hg_tests::hostile::{raise_fds, toolchain};
use hg_tests::live;
use hg_tests::programs::Programs;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::fake::{self, Mode};
use super::links;
use super::process::cpu_s;
use super::spread;

const WORKERS: usize = 200;
const SLOTS: u32 = 8;
/// Compiles a second.
const RATE: u64 = 1_000;
const PAGES: usize = 50;
/// Seconds of one measurement.
const SPAN_S: u64 = 10;
/// Milliseconds between two bursts of tasks.
const STEP_MS: u64 = 10;
/// Connections of clients.
const CONNECTIONS: usize = 8;
/// Share of a core that pages may cost.
const COST_MAX: f64 = 0.05;

/// Prints what the coordinator uses of a core without pages, with them, and without again.
pub fn run(programs: &Programs, rounds: usize) {
    raise_fds();
    let grid = Grid::insecure(programs, 0, 1);
    println!(
        "\npages: {WORKERS} workers of {SLOTS} slots, {RATE} compiles a second, {PAGES} live pages; http://{}/",
        grid.http()
    );
    let (modes, mode) = watch::channel(Mode::Compile);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    let address = grid.address();
    let workers = std::thread::spawn(move || runtime().block_on(work(address, mode)));
    grid.wait_for_workers(WORKERS);
    runtime().block_on(measure(&grid, rounds));
    drop(modes);
    workers.join().expect("the workers");
}

async fn work(address: String, mode: watch::Receiver<Mode>) {
    let mut links = JoinSet::new();
    for number in 0..WORKERS {
        let (address, mode) = (address.clone(), mode.clone());
        links.spawn(async move {
            let offered = vec![toolchain(v1::Language::C)];
            fake::serve(&address, None, number, SLOTS, offered, mode).await
        });
    }
    while let Some(ended) = links.join_next().await {
        ended.expect("a worker").expect("a link");
    }
}

async fn measure(grid: &Grid, rounds: usize) {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(
            dial::client(&grid.address(), None)
                .await
                .expect("a connection"),
        );
    }
    let load = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(STEP_MS));
        let mut number = 0;
        loop {
            tick.tick().await;
            for _ in 0..RATE * STEP_MS / 1_000 {
                number += 1;
                let client = clients[number % CONNECTIONS].clone();
                tokio::spawn(links::submit(client, number));
            }
        }
    });
    // Slots are unproven at first.
    tokio::time::sleep(Duration::from_secs(SPAN_S)).await;
    let pid = grid.coordinator.pid();
    let share = async || {
        let (cpu, began) = (cpu_s(pid), Instant::now());
        tokio::time::sleep(Duration::from_secs(SPAN_S)).await;
        (cpu_s(pid) - cpu) / began.elapsed().as_secs_f64()
    };
    let (mut costs, mut bare, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let bytes = Arc::new(AtomicU64::new(0));
    for _ in 0..rounds {
        let before = share().await;
        let mut pages = JoinSet::new();
        for _ in 0..PAGES {
            pages.spawn(look(grid.http(), bytes.clone()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        bytes.store(0, Ordering::Relaxed);
        let with = share().await;
        pages.shutdown().await;
        let after = share().await;
        let without = f64::midpoint(before, after);
        costs.push(with - without);
        bare.push(without);
        seen.push(with);
    }
    load.abort();
    let sent = bytes.load(Ordering::Relaxed) / SPAN_S / PAGES as u64;
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
