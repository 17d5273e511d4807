//! The coordinator under many worker links and many tasks whose compiler takes
//! no time: what it bears a second, what it adds to each, and its memory.

use std::time::{Duration, Instant};

use hg_coord::commands::dial::{self, Bearing};
use hg_proto::secure::token::Token;
use hg_proto::v1::{self, SubmitRequest, submit_request, submit_response};
use hg_proto::wire::digest::Digest;
use hg_tests::grid::Grid;
use hg_tests::hostile::{raise_fds, toolchain};
use hg_tests::programs::Programs;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::fake::{self, Mode};
use super::process::{cpu_s, resident};
use super::{spread, verdict};

/// Workers, of one slot each.
const WORKERS: usize = 500;
/// Workers of which the idle memory is told.
const WORKERS_IDLE: usize = 100;
/// Tasks that wait while the memory of each is measured, and tasks of a burst.
const TASKS: usize = 2_000;
/// Connections of clients; each carries its share of the streams.
const CONNECTIONS: usize = 20;
/// Bursts of which the throughput is the median.
const BURSTS: usize = 10;
/// Tasks of which the latency is told, and how many of them are there at once.
const TIMED: usize = 4_000;
const TIMED_AT_ONCE: usize = 8;
/// What anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the coordinator's status.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Heartbeats go round this long before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

const RATE_MIN: f64 = 2_000.0;
const IDLE_BYTES_MAX: u64 = 15 << 20;

/// Prints all of it, with links as they come and with plaintext.
pub fn run(programs: &Programs) {
    raise_fds();
    println!(
        "\nlinks: {WORKERS} workers, bursts of {TASKS} tasks, {CONNECTIONS} connections of clients"
    );
    run_on(&Grid::start(programs, 0, 1), true);
    println!("the same in plaintext, without tokens:");
    run_on(&Grid::insecure(programs, 0, 1), false);
}

fn run_on(grid: &Grid, secured: bool) {
    let token = |role: &str| {
        let text = grid.token(&["--role", role, "--name", "bench"]);
        Token::parse(&text).expect("a token")
    };
    let (worker, client) = match secured {
        true => (Some(token("worker")), Some(token("client"))),
        false => (None, None),
    };
    let (modes, mode) = watch::channel(Mode::Answer);
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    // Workers in one thread, clients in another.
    let address = grid.address();
    let (more, wanted) = tokio::sync::mpsc::unbounded_channel();
    let workers =
        std::thread::spawn(move || runtime().block_on(workers(address, worker, mode, wanted)));
    runtime().block_on(measure(grid, client.as_ref(), &modes, &more));
    drop((modes, more));
    workers.join().expect("the workers");
}

/// Dials as many as are wanted, and serves until there is nobody to tell how.
async fn workers(
    address: String,
    token: Option<Token>,
    mode: watch::Receiver<Mode>,
    mut wanted: tokio::sync::mpsc::UnboundedReceiver<usize>,
) {
    let mut links = JoinSet::new();
    while let Some(count) = wanted.recv().await {
        for number in links.len()..count {
            let (address, token, mode) = (address.clone(), token.clone(), mode.clone());
            links.spawn(async move {
                let offered = vec![toolchain(v1::Language::C)];
                fake::serve(&address, token.as_ref(), number, 1, offered, mode).await
            });
        }
    }
    while let Some(ended) = links.join_next().await {
        ended.expect("a worker").expect("a link");
    }
}

async fn measure(
    grid: &Grid,
    token: Option<&Token>,
    modes: &watch::Sender<Mode>,
    more: &tokio::sync::mpsc::UnboundedSender<usize>,
) {
    let pid = grid.coordinator.pid();
    let mut watcher = dial(grid, token).await;
    let none = resident(pid);
    more.send(WORKERS_IDLE).expect("the workers' thread");
    wait_until(&mut watcher, "workers", |status| {
        status.workers == WORKERS_IDLE as u32
    })
    .await;
    let idle = resident(pid);
    more.send(WORKERS).expect("the workers' thread");
    wait_until(&mut watcher, "workers", |status| {
        status.workers == WORKERS as u32
    })
    .await;
    let all = resident(pid);
    println!(
        "  memory without workers {:.1} MiB; with {WORKERS_IDLE} idle {:.1} MiB (at most 15: {}); with {WORKERS} {:.1} MiB: {:.1} KiB a worker",
        mib(none),
        mib(idle),
        verdict(idle <= IDLE_BYTES_MAX),
        mib(all),
        (all.saturating_sub(none)) as f64 / 1024.0 / WORKERS as f64,
    );

    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(dial(grid, token).await);
    }
    let mut rates = Vec::new();
    let cpu = cpu_s(pid);
    for _ in 0..BURSTS {
        let began = Instant::now();
        burst(&clients, TASKS).await;
        rates.push(TASKS as f64 / began.elapsed().as_secs_f64());
    }
    let cpu_us = (cpu_s(pid) - cpu) * 1e6 / (BURSTS * TASKS) as f64;
    let median = spread(&mut rates);
    println!(
        "  tasks a second {median} (at least {RATE_MIN}: {}); the coordinator's processor time {cpu_us:.0} us a task",
        verdict(rates[rates.len() / 2] >= RATE_MIN),
    );

    let mut took_ms = timed(&clients).await;
    took_ms.sort_by(f64::total_cmp);
    println!(
        "  from submission to Finished, {TIMED_AT_ONCE} at once: p50 {:.2} ms, p99 {:.2} ms",
        took_ms[took_ms.len() / 2],
        took_ms[took_ms.len() * 99 / 100]
    );

    modes.send_replace(Mode::Hold);
    let before = resident(pid);
    // The workers' slots are taken first, and the place ahead of each if it has one.
    let taken = start(&clients, 2 * WORKERS).await;
    let waiting = wait_until(&mut watcher, "full workers", |status| {
        status.slots_busy == WORKERS as u32
    });
    let before_them = waiting.await.queued;
    let full = resident(pid);
    let queued = start(&clients, TASKS).await;
    wait_until(&mut watcher, "tasks that wait", |status| {
        status.queued == before_them + TASKS as u32
    })
    .await;
    let waiting = resident(pid);
    println!(
        "  memory {:.1} MiB after the bursts, {:.1} MiB with {} tasks (workers are full), {:.1} MiB with {TASKS} more that wait: {:.1} KiB each, its stream included",
        mib(before),
        mib(full),
        2 * WORKERS,
        mib(waiting),
        waiting.saturating_sub(full) as f64 / 1024.0 / TASKS as f64
    );
    modes.send_replace(Mode::Answer);
    for mut tasks in [taken, queued] {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task");
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Waits until the coordinator's status is as wanted, and a little longer.
async fn wait_until(
    client: &mut Bearing,
    what: &str,
    is_so: impl Fn(&v1::GetStatusResponse) -> bool,
) -> v1::GetStatusResponse {
    let deadline = Instant::now() + PATIENCE;
    let mut settled = false;
    loop {
        let status = client.get_status(v1::GetStatusRequest {}).await;
        let status = status.expect("a status").into_inner();
        let so = is_so(&status);
        if so && settled {
            return status;
        }
        assert!(Instant::now() < deadline, "in vain: {what}: {status:?}");
        tokio::time::sleep(if so { SETTLE } else { LOOK_AGAIN }).await;
        settled = so;
    }
}

async fn dial(grid: &Grid, token: Option<&Token>) -> Bearing {
    let client = dial::client(&grid.address(), token).await;
    client.expect("a connection")
}

/// Starts `count` tasks, one stream each.
async fn start(clients: &[Bearing], count: usize) -> JoinSet<f64> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let client = clients[number % clients.len()].clone();
        tasks.spawn(submit(client, number));
    }
    // All of them are on their way.
    tokio::task::yield_now().await;
    tasks
}

async fn burst(clients: &[Bearing], count: usize) {
    let mut tasks = start(clients, count).await;
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task");
    }
}

/// Milliseconds that each took.
async fn timed(clients: &[Bearing]) -> Vec<f64> {
    let mut hands = JoinSet::new();
    for hand in 0..TIMED_AT_ONCE {
        let client = clients[hand % clients.len()].clone();
        hands.spawn(async move {
            let mut took_ms = Vec::new();
            for number in 0..TIMED / TIMED_AT_ONCE {
                took_ms.push(submit(client.clone(), number).await);
            }
            took_ms
        });
    }
    let mut all = Vec::new();
    while let Some(took_ms) = hands.join_next().await {
        all.extend(took_ms.expect("a client"));
    }
    all
}

/// One task to its end; milliseconds.
pub async fn submit(mut client: Bearing, number: usize) -> f64 {
    let began = Instant::now();
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let kind = Some(submit_request::Kind::Task(task(number)));
    requests
        .send(SubmitRequest { kind })
        .await
        .expect("room for one");
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let answers = client.submit_task(stream).await;
    let mut answers = answers.expect("a stream").into_inner();
    while let Some(answer) = answers.next().await {
        match answer.expect("an answer").kind {
            Some(submit_response::Kind::Finished(_)) => break,
            Some(submit_response::Kind::Failure(failure)) => panic!("{failure:?}"),
            _ => {}
        }
    }
    drop(requests);
    began.elapsed().as_secs_f64() * 1e3
}

/// About as much as a task of a real build says.
fn task(number: usize) -> v1::Task {
    let source = format!("src/module{}/file{number}.c", number % 40);
    let object = format!("src/module{}/file{number}.o", number % 40).into_bytes();
    let words = ["-O2", "-Wall", "-Wextra", "-fPIC", "-c", &source, "-o"];
    let mut arguments: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).to_vec();
    arguments.push(object.clone());
    v1::Task {
        toolchain: Some(toolchain(v1::Language::C)),
        arguments,
        inputs: vec![v1::Input {
            path: source.clone().into_bytes(),
            digest: Digest::of(source.as_bytes()).as_bytes().to_vec(),
            size: 100_000,
            encoding: v1::Encoding::Zstd.into(),
            encoded_size: 20_000,
        }],
        outputs: vec![object],
        source,
        client: format!("client-{}", number % CONNECTIONS),
        queue_ms_max: PATIENCE.as_millis() as u32,
        ..v1::Task::default()
    }
}
