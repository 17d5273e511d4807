//! The REST API against real processes, and against what else tells the same.

use hg_tests::command::{run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::live::Live;
use hg_tests::programs::programs;
use serde_json::Value;

use crate::shared::{FILES, api, build, metric, write_sources};

#[test]
fn the_same_numbers_everywhere() {
    let grid = Grid::start(programs(), 2, 2);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    // Once more: the cache has them.
    for number in 0..FILES {
        std::fs::remove_file(folder.path().join(format!("f{number}.o"))).expect("an object");
    }
    build(&grid, folder.path());

    let status = api(&grid, "status");
    let files = FILES as u64;
    assert_eq!(status["cache_hits_reported"], files, "{status}");
    assert!(
        status["cache_misses_reported"].as_u64() >= Some(files),
        "{status}"
    );
    assert_eq!(status["workers"], 2);
    let remote = status["tasks_finished"].as_u64().expect("a number");
    assert!(remote > 0, "{status}");

    let metrics = grid.get("/metrics").expect("metrics");
    for (series, field) in [
        ("hybridgrid_workers ", "workers"),
        ("hybridgrid_queue_length ", "queued"),
        ("hybridgrid_cache_hits_total ", "cache_hits_reported"),
        ("hybridgrid_cache_misses_total ", "cache_misses_reported"),
        ("hybridgrid_input_bytes_total ", "input_bytes"),
        (
            "hybridgrid_bytes_total{direction=\"to_worker\"} ",
            "input_bytes_sent",
        ),
        ("hybridgrid_slots{state=\"busy\"} ", "slots_busy"),
    ] {
        assert_eq!(
            Some(metric(&metrics, series)),
            status[field].as_u64(),
            "{series}"
        );
    }
    assert_eq!(
        metric(&metrics, "hybridgrid_tasks_total{outcome=\"ok\"} "),
        remote
    );
    assert_eq!(metric(&metrics, "hybridgrid_workers_total "), 2);

    let live = Live::open(&grid.http(), &[]).expect("a live page");
    let mut command = scrubbed(&programs().client, folder.path(), folder.path());
    let told = run(grid.lead(command.args(["status", "--json"])));
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    for (name, value) in status.as_object().expect("fields") {
        let changes = ["uptime_ms", "now_unix_ms", "compiles_per_second_milli"];
        if !changes.contains(&name.as_str()) {
            assert_eq!(&live.state["status"][name], value, "live: {name}");
            assert_eq!(&told[name], value, "hgbuild status: {name}");
        }
    }
    lists_agree(&grid, remote);
}

fn lists_agree(grid: &Grid, remote: u64) {
    // Page by page, whatever fits into one.
    let mut after = 0;
    let mut ended = Vec::new();
    loop {
        let page = api(grid, &format!("tasks?state=ended&limit=2&after={after}"));
        let tasks = page["tasks"].as_array().expect("tasks").clone();
        if tasks.is_empty() {
            break;
        }
        after = page["next_after"].as_u64().expect("a cursor");
        ended.extend(tasks);
    }
    assert_eq!(ended.len() as u64, remote);
    for task in &ended {
        let parts = ["queue_ms", "transfer_ms", "compile_ms"];
        let sum: u64 = parts.iter().filter_map(|part| task[*part].as_u64()).sum();
        assert_eq!(task["wall_ms"].as_u64(), Some(sum), "{task}");
        assert_eq!(task["outcome"], "ok", "{task}");
    }
    let holders = api(grid, "tokens");
    assert_eq!(
        holders["holders"][0]["tasks_total"].as_u64(),
        Some(remote),
        "{holders}"
    );
    assert_eq!(
        api(grid, "tasks")["tasks"].as_array().map(Vec::len),
        Some(0)
    );
    assert_eq!(api(grid, "queue")["queued"], 0);

    let builds = api(grid, "builds");
    let builds = builds["builds"].as_array().expect("builds");
    assert_eq!(builds.len(), 2, "{builds:?}");
    // The newest first: nothing of it left its machine.
    let (second, first) = (&builds[0], &builds[1]);
    assert_eq!(second["report"]["cached"], FILES as u64, "{second}");
    assert_eq!(first["report"]["remote"].as_u64(), Some(remote), "{first}");
    assert_eq!(first["finished"].as_u64(), Some(remote), "{first}");
    assert_eq!(first["report"]["exit_code"], 0);
    let reasons = first["reasons"].as_array().expect("reasons");
    let clock = reasons.iter().find(|one| one["reason"] == "time-macro");
    let clock = clock.unwrap_or_else(|| panic!("no clock in {first}"));
    assert_eq!(clock["compiles"], 1);
    let all = api(grid, "reasons");
    let listed = all["reasons"].as_array().expect("reasons");
    let listed = listed.iter().find(|one| one["reason"] == "time-macro");
    assert!(
        listed.is_some_and(|one| one["lost_ms"] == clock["lost_ms"]),
        "{all}"
    );

    let events = api(grid, "events?limit=1");
    assert_eq!(events["events"][0]["kind"], "worker-joined");
    assert_eq!(events["next_after"], 1);
    let cache = api(grid, "cache");
    assert_eq!(cache["hits"], FILES as u64);
    for wrong in ["tasks?after=x", "tasks?state=no", "events?limit=-1"] {
        assert!(grid.get(&format!("/api/v1/{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn a_workers_own_metrics_come_over_its_link() {
    let grid = Grid::start(programs(), 1, 1);
    let targets = api(&grid, "discovery");
    let targets = targets.as_array().expect("targets");
    assert_eq!(targets.len(), 2, "{targets:?}");
    for target in targets {
        assert_eq!(target["targets"][0], grid.http());
        let path = target["labels"]["__metrics_path__"]
            .as_str()
            .expect("a path");
        let text = grid.get(path).expect("metrics");
        assert!(text.contains("hybridgrid_build_info{"), "{path}: {text}");
    }
    let own = grid
        .get("/api/v1/workers/worker-1/metrics")
        .expect("metrics");
    assert!(own.contains("hybridgrid_worker_connected 1"), "{own}");
    assert!(grid.get("/api/v1/workers/nobody/metrics").is_err());
}
