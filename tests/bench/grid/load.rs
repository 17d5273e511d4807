//! A coordinator under a steady load: workers without compilers, and clients that submit so
//! many tasks a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hg_coord::commands::dial;
use hg_proto::v1;
use hg_tests::grid::Grid;
use hg_tests::hostile::{raise_fds, toolchain};
use hg_tests::programs::Programs;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::fake::{self, Mode};
use super::links;
use super::process::cpu_s;

/// Milliseconds between two bursts of tasks.
const STEP_MS: u64 = 10;
/// Connections of clients.
const CONNECTIONS: usize = 8;
/// Slots are unproven at first.
const SETTLE: Duration = Duration::from_secs(10);

/// How much of it.
pub struct Load {
    pub workers: usize,
    /// Of each worker.
    pub slots: u32,
    /// Tasks a second.
    pub rate: u64,
}

impl Load {
    /// Calls `observe` when it is under way.
    pub fn run(self, programs: &Programs, observe: impl AsyncFnOnce(&Grid)) {
        raise_fds();
        let grid = Grid::insecure(programs, 0, 1);
        let (modes, mode) = watch::channel(Mode::Compile);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime")
        };
        let (address, workers, slots) = (grid.address(), self.workers, self.slots);
        let links =
            std::thread::spawn(move || runtime().block_on(work(address, workers, slots, mode)));
        grid.wait_for_workers(workers);
        runtime().block_on(async {
            let at_once = workers * slots as usize;
            let load = tokio::spawn(submit_all(grid.address(), self.rate, at_once));
            tokio::time::sleep(SETTLE).await;
            observe(&grid).await;
            load.abort();
        });
        drop(modes);
        links.join().expect("the workers");
    }
}

/// What the coordinator uses of a core, over `span`.
pub async fn share(grid: &Grid, span: Duration) -> f64 {
    let pid = grid.coordinator.pid();
    let (cpu, began) = (cpu_s(pid), Instant::now());
    tokio::time::sleep(span).await;
    (cpu_s(pid) - cpu) / began.elapsed().as_secs_f64()
}

async fn work(address: String, workers: usize, slots: u32, mode: watch::Receiver<Mode>) {
    let mut links = JoinSet::new();
    for number in 0..workers {
        let (address, mode) = (address.clone(), mode.clone());
        links.spawn(async move {
            let offered = vec![toolchain(v1::Language::C)];
            fake::serve(&address, None, number, slots, offered, mode).await
        });
    }
    while let Some(ended) = links.join_next().await {
        ended.expect("a worker").expect("a link");
    }
}

/// A machine that is too slow for `rate` has `at_once` tasks under way, and no more.
async fn submit_all(address: String, rate: u64, at_once: usize) {
    let room = Arc::new(Semaphore::new(at_once));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(dial::client(&address, None).await.expect("a connection"));
    }
    let mut tick = tokio::time::interval(Duration::from_millis(STEP_MS));
    let mut number = 0;
    loop {
        tick.tick().await;
        for _ in 0..rate * STEP_MS / 1_000 {
            let place = room.clone().acquire_owned().await.expect("it stays open");
            number += 1;
            let client = clients[number % CONNECTIONS].clone();
            tokio::spawn(async move {
                links::submit(client, number).await;
                drop(place);
            });
        }
    }
}
