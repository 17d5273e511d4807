//! Live pages: what changes comes in its order, to whom it may come.

use hg_tests::grid::Grid;
use hg_tests::live::Live;
use hg_tests::programs::programs;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shared::{FILES, api, build, write_sources};

/// Messages of two seconds.
const SOON: u64 = 4;

#[test]
fn a_build_goes_by_and_a_killed_worker_is_gone_at_once() {
    let mut grid = Grid::start(programs(), 2, 2);
    let mut live = Live::open(&grid.http(), &[]).expect("a live page");
    assert_eq!(
        live.state["workers"].as_object().map(|all| all.len()),
        Some(2)
    );
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    let mut ended = 0;
    let finished = api(&grid, "status")["tasks_finished"].as_u64();
    live.until(|change, state| {
        for row in change["ended"].as_array().expect("rows") {
            let outcome = &row[4];
            assert_eq!(outcome, "ok", "{row}");
            assert!(state["workers"].get(row[1].as_str()?).is_some(), "{row}");
            ended += 1;
        }
        (Some(ended) == finished).then_some(())
    });
    assert!((1..=FILES as u64).contains(&ended), "{ended}");
    live.until(|_, state| state["builds"]["1"]["report"].is_object().then_some(()));

    grid.workers[0].end(Signal::SIGKILL);
    let left = |change: &Value, state: &Value| {
        let events = change["events"].as_array().expect("events");
        let left = events.iter().find(|event| event["kind"] == "worker-left")?;
        assert_eq!(left["worker"], "worker-1");
        // In one message with it, or in the next one.
        Some(state["workers"].get("worker-1").is_none())
    };
    let (is_gone, count) = live.until(left);
    assert!(count <= SOON, "{count} messages later");
    if !is_gone {
        live.change();
        assert!(live.state["workers"].get("worker-1").is_none());
    }
    assert_eq!(live.state["status"]["workers"], 1);
}

#[test]
fn pages_of_elsewhere_are_refused() {
    let grid = Grid::start(programs(), 0, 1);
    let address = grid.http();
    let own = format!("http://{address}");
    for (more, status) in [
        (vec![("Origin", own.as_str())], None),
        (vec![], None),
        (vec![("Origin", "http://evil.example")], Some(403)),
        (vec![("Origin", "null")], Some(403)),
        (vec![("Origin", "http://127.0.0.1:1")], Some(403)),
    ] {
        let opened = Live::open(&address, &more);
        assert_eq!(opened.err(), status, "{more:?}");
    }
}
