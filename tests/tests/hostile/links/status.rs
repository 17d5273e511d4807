//! What the coordinator says of the grid: numbers that add up, under one name each, and
//! none that a client can make up.

use hg_proto::v1::{self, ReportCacheHitRequest, SubmitRequest, from_worker, submit_response};
use hg_tests::command::{run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::hostile::{hello, task, toolchain};
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::tls_peer::TlsPeer;
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::Code;

use super::{client, fingerprint, runtime};

/// What `hgbuild WORDS` prints.
fn hgbuild(grid: &Grid, words: &[&str]) -> String {
    let mut command = scrubbed(&programs().client, grid.folder(), grid.folder());
    let outcome = run(grid.lead(command.args(words)));
    assert!(outcome.ok(), "{}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

/// The words behind `name` in the status.
fn row(grid: &Grid, name: &str) -> String {
    let status = hgbuild(grid, &["status"]);
    let row = status.lines().find_map(|line| line.strip_prefix(name));
    row.unwrap_or_default().trim().to_owned()
}

fn listed(grid: &Grid) -> Vec<Value> {
    let list = grid.get("/api/v1/workers").expect("a list");
    serde_json::from_str(&list).expect("JSON")
}

/// A worker of `slots` slots, of which its machine bears `now`.
fn worker(grid: &Grid, instance: u8, slots: u32, now: u32) -> TlsPeer {
    let mut peer = TlsPeer::worker(&grid.address(), fingerprint(grid));
    peer.say(from_worker::Kind::Hello(v1::Hello {
        token: grid.token(&["--role", "worker"]),
        slots,
        toolchains: vec![toolchain(v1::Language::Cxx)],
        ..hello(instance)
    }));
    peer.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
        sequence: 1,
        slots: Some(now),
        slots_why: "heat".into(),
        ..v1::Heartbeat::default()
    }));
    until(&grid.coordinator, "its heartbeat", || {
        let seen = |worker: &Value| worker["slots_now"] == now && worker["slots"] == slots;
        listed(grid).iter().any(seen).then_some(())
    });
    peer
}

#[test]
fn slots_and_tasks_of_the_status_are_those_of_the_table() {
    let grid = Grid::start(programs(), 0, 1);
    let _cut = worker(&grid, 1, 4, 2);
    let _whole = worker(&grid, 2, 3, 3);
    let token = grid.token(&["--role", "client"]);
    let runtime = runtime();
    let submitted = runtime.block_on(async {
        let kind = v1::submit_request::Kind::Task(task(v1::Language::Cxx));
        let first = SubmitRequest { kind: Some(kind) };
        let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut client = client(&grid, fingerprint(&grid), &token).await;
        let replies = client.submit_task(requests).await.expect("a stream");
        let mut replies = replies.into_inner();
        loop {
            let reply = replies.message().await.expect("an answer");
            match reply.expect("no end").kind {
                Some(submit_response::Kind::Started(_)) => break,
                Some(submit_response::Kind::Accepted(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        (client, replies)
    });
    let table: Vec<Value> =
        serde_json::from_str(&hgbuild(&grid, &["workers", "--json"])).expect("JSON");
    let sum = |name: &str| {
        let numbers = table.iter().map(|worker| worker[name].as_u64());
        numbers.map(|number| number.expect("a number")).sum::<u64>()
    };
    assert_eq!((sum("running"), sum("slots_now"), sum("slots")), (1, 5, 7));
    assert_eq!(row(&grid, "slots"), "1 of 5 busy, 2 fewer than there are");
    let text = hgbuild(&grid, &["workers"]);
    assert!(text.contains("/2 ") && text.contains("/3 "), "{text}");
    assert_eq!(row(&grid, "tasks"), "0 finished, 0 failed");

    // The client goes, as after an interrupt: nothing has failed.
    drop(submitted);
    drop(runtime);
    until(&grid.coordinator, "the end of the task", || {
        let metrics = grid.get("/metrics").ok()?;
        metrics
            .contains("hybridgrid_tasks_total{outcome=\"cancelled\"} 1")
            .then_some(())
    });
    assert_eq!(row(&grid, "tasks"), "0 finished, 0 failed, 1 cancelled");
}

#[test]
fn both_lists_of_workers_name_languages_alike() {
    let grid = Grid::start(programs(), 0, 1);
    let _worker = worker(&grid, 1, 1, 1);
    let table: Vec<Value> =
        serde_json::from_str(&hgbuild(&grid, &["workers", "--json"])).expect("JSON");
    for list in [&table, &listed(&grid)] {
        assert_eq!(list[0]["toolchains"][0]["language"], "cxx", "{list:?}");
    }
    assert_eq!(table[0]["toolchains"], listed(&grid)[0]["toolchains"]);
}

#[test]
fn hits_that_no_cache_could_have_had_are_not_counted() {
    let grid = Grid::start(programs(), 0, 1);
    let token = grid.token(&["--role", "client"]);
    let hits = || row(&grid, "cache hits");
    let report = |hits, saved_ms| {
        runtime().block_on(async {
            let mut client = client(&grid, fingerprint(&grid), &token).await;
            let request = ReportCacheHitRequest {
                client: "me".into(),
                hits,
                saved_ms,
                misses: 0,
            };
            let answer = client.report_cache_hit(request).await;
            answer.map_or_else(|status| status.code(), |_| Code::Ok)
        })
    };
    assert_eq!(report(1 << 63, 0), Code::InvalidArgument);
    assert_eq!(report(1 << 63, u64::MAX), Code::InvalidArgument);
    assert_eq!(hits(), "0");
    // All that one report of hgbuild can have; what it says of time is cut to size.
    assert_eq!(report(1 << 18, u64::MAX), Code::Ok);
    assert_eq!(report(1, 20), Code::Ok);
    assert_eq!(hits(), "262145");
}
