//! Coordinators that share a Redis get each other's results from it, nothing that is not one
//! of theirs, and go on without it.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::project::small;
use hg_tests::redis::Redis;
use hg_tests::skip;
use nix::sys::signal::Signal;

use super::{build, metric, project};

/// How long a metric may take to say what it is to say.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn grid(redis: &Redis, workers: usize, words: &[&str]) -> Grid {
    let url = redis.url();
    let words = [&["--cache-backend", &url], words].concat();
    Grid::keeping_with(programs(), workers, 2, &words)
}

/// Comes back when the metric `name` has one of the values `wanted`.
fn wait_for(grid: &Grid, name: &str, wanted: impl RangeBounds<u64> + Debug) {
    let name = format!("hybridgrid_cache_backend_{name}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = grid.get("/metrics").expect("metrics");
        if metrics.contains(&name) && wanted.contains(&metric(&metrics, &name)) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name} is not {wanted:?}: {}",
            of_backend(&metrics)
        );
        thread::sleep(LOOK_AGAIN);
    }
}

/// What `metrics` say of it.
fn of_backend(metrics: &str) -> String {
    let is_of_it = |line: &&str| line.starts_with("hybridgrid_cache_backend");
    metrics
        .lines()
        .filter(is_of_it)
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_up(grid: &Grid, redis: &Redis, wanted: bool) {
    let name = format!("up{{backend=\"{}\"}}", redis.url());
    let wanted = u64::from(wanted);
    wait_for(grid, &name, wanted..=wanted);
}

#[test]
fn coordinators_share_results_and_go_on_without_the_backend() {
    let Some(redis) = Redis::start() else {
        return skip("results in a Redis", "no redis-server");
    };
    let project = project();
    let first = grid(&redis, 1, &[]);
    assert_eq!(build(&project, &first), [0, 5]);
    wait_for(&first, "writes_total{outcome=\"ok\"}", 5..);
    let key = first.state().join("cache-backend.key");
    let key = key.to_str().expect("UTF-8");

    // Nobody compiles anything for the second one.
    let second = grid(&redis, 0, &["--cache-backend-key", key]);
    assert_eq!(build(&project, &second), [5, 0]);
    wait_for(&second, "requests_total{outcome=\"hit\"}", 5..);
    // What came once is here.
    assert_eq!(build(&project, &second), [5, 0]);
    wait_for(&second, "requests_total{outcome=\"hit\"}", 5..=5);
    drop(second);

    // Another's, cut short, damaged at its end and in its tag, and too large.
    let names = redis.names();
    assert_eq!(names.len(), 5, "{names:?}");
    redis.set(&names[0], &redis.get(&names[1]));
    let mut values: Vec<Vec<u8>> = names.iter().map(|name| redis.get(name)).collect();
    values[1].truncate(20);
    *values[2].last_mut().expect("a byte") ^= 1;
    values[3][20] ^= 0x80;
    values[4].resize((16 << 20) + 100, 0);
    for (name, value) in names.iter().zip(&values).skip(1) {
        redis.set(name, value);
    }
    let third = grid(&redis, 1, &["--cache-backend-key", key]);
    assert_eq!(build(&project, &third), [0, 5]);
    for (reason, count) in [("not-authentic", 3), ("not-an-entry", 1), ("too-large", 1)] {
        wait_for(
            &third,
            &format!("rejected_total{{reason=\"{reason}\"}}"),
            count..,
        );
    }
    assert!(
        third
            .coordinator
            .stderr()
            .contains("counts as none; it is damaged")
    );

    // One that does not answer is left alone, and the build goes on.
    redis.signal(Signal::SIGSTOP);
    for number in 10..14 {
        project.add(&format!("f{number}.c"), &small(number));
    }
    assert_eq!(build(&project, &third), [5, 4]);
    is_up(&third, &redis, false);
    redis.signal(Signal::SIGCONT);
    is_up(&third, &redis, true);
    // What was made meanwhile was kept for it.
    wait_for(&third, "writes_total{outcome=\"ok\"}", 9..);
    assert_eq!(build(&project, &first), [9, 0]);

    // A full one takes nothing more, and gives what it has.
    redis.ask(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    project.add("f20.c", &small(20));
    assert_eq!(build(&project, &first), [9, 1]);
    wait_for(&first, "writes_total{outcome=\"failed\"}", 1..);
    is_up(&first, &redis, true);
}
