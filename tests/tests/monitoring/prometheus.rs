//! Metrics as Prometheus reads them: its own tools look at them, and a real server scrapes
//! a real grid by the files that are shipped.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::grid::{Grid, http_get};
use hg_tests::programs::{checkout, programs};
use hg_tests::{in_path, skip};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shared::{build, write_sources};

/// What anything here may take.
const TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn monitoring(name: &str) -> PathBuf {
    checkout().join("packaging/monitoring").join(name)
}

/// Whether the program is there; if not, that is said.
fn has(program: &str) -> bool {
    let found = in_path(program).is_some();
    if !found {
        skip(
            "what Prometheus makes of the metrics",
            &format!("no {program} here"),
        );
    }
    found
}

/// Runs a tool with `input`, and wants it to find nothing.
fn check(words: &[&str], input: &str) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(monitoring(""));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a tool");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().expect("its end");
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(done.status.success(), "{words:?}: {said:?}");
    if words.contains(&"metrics") {
        assert_eq!(said, ["", ""], "{input}");
    }
}

#[test]
fn its_tools_find_no_fault() {
    if !has("promtool") {
        return;
    }
    let grid = Grid::start(programs(), 1, 1);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    let of_coordinator = grid.get("/metrics").expect("metrics");
    check(&["promtool", "check", "metrics"], &of_coordinator);
    let of_worker = http_get(&grid.workers[0].address("http"), "/metrics").expect("metrics");
    check(&["promtool", "check", "metrics"], &of_worker);
    for name in [
        "hybridgrid_tasks_total{",
        "hybridgrid_task_duration_seconds_bucket{",
        "hybridgrid_cache_hits_total ",
        "hybridgrid_cache_misses_total ",
        "hybridgrid_build_info{",
    ] {
        assert!(of_coordinator.contains(name), "{name}");
        assert!(of_worker.contains(name), "{name} of the worker");
    }
    for name in ["hybridgrid_workers_total ", "hybridgrid_circuit_state{"] {
        assert!(of_coordinator.contains(name), "{name}");
    }
    check(&["promtool", "check", "rules", "alerts.yml"], "");
    check(&["promtool", "test", "rules", "alerts_test.yml"], "");
    check(&["promtool", "check", "config", "prometheus.yml"], "");
    if in_path("amtool").is_some() {
        check(&["amtool", "check-config", "alertmanager.yml"], "");
    }
}

/// A Prometheus; ends when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// With the shipped files, scraping `grid` each second; alerts that wait do not.
    fn start(grid: &Grid) -> Server {
        let folder = grid.folder().join("prometheus");
        fs::create_dir(&folder).expect("a folder");
        let read = |name| fs::read_to_string(monitoring(name)).expect("a shipped file");
        let config = read("prometheus.yml")
            .replace(
                "http://127.0.0.1:8080/",
                &format!("http://{}/", grid.http()),
            )
            .replace("15s", "1s");
        let mut rules = read("alerts.yml");
        for waits in ["1m", "2m", "5m", "10m"] {
            rules = rules.replace(&format!("for: {waits}\n"), "for: 0s\n");
        }
        for (name, text) in [("prometheus.yml", &config), ("alerts.yml", &rules)] {
            fs::write(folder.join(name), text).expect("a file");
        }
        let log = folder.join("log");
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"));
        let mut server = Server {
            child: command.spawn().expect("prometheus"),
            address: String::new(),
        };
        let deadline = Instant::now() + TIME_MAX;
        while server.address.is_empty() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "{text}");
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{text}");
            let line = text.lines().find(|line| line.contains("\"Listening on\""));
            let address = line.and_then(|line| line.split_once("address=127.0.0.1:"));
            if let Some((_, port)) = address {
                server.address = format!("127.0.0.1:{port}");
            }
            thread::sleep(LOOK_AGAIN);
        }
        server
    }

    /// What a query gives.
    fn query(&self, text: &str) -> Vec<Value> {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = http_get(&self.address, &path).unwrap_or_else(|why| panic!("{text}: {why}"));
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        match answer["data"]["result"].take() {
            Value::Array(series) => series,
            other => panic!("{text}: {other}"),
        }
    }

    /// Asks until it gives something.
    fn until(&self, text: &str) -> Vec<Value> {
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let series = self.query(text);
            if !series.is_empty() {
                return series;
            }
            assert!(Instant::now() < deadline, "no series: {text}");
            thread::sleep(LOOK_AGAIN);
        }
    }
}

#[test]
fn a_real_one_scrapes_a_grid_and_warns_of_a_killed_worker() {
    if !has("prometheus") {
        return;
    }
    let mut grid = Grid::start(programs(), 2, 2);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    let server = Server::start(&grid);
    let up = server.until("count(up == 1) == 3");
    assert_eq!(up[0]["value"][1], "3");
    // A rate takes two scrapes.
    server.until("count_over_time(hybridgrid_workers[1m]) >= 3");
    let text = fs::read_to_string(monitoring("grafana.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array());
    let queries: Vec<&str> = targets
        .flatten()
        .filter_map(|one| one["expr"].as_str())
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    for query in queries {
        server.until(&query.replace("$__rate_interval", "1m"));
    }
    grid.workers[0].end(Signal::SIGKILL);
    let alert = server.until("ALERTS{alertname=\"HybridGridWorkerLost\", alertstate=\"firing\"}");
    assert_eq!(alert[0]["metric"]["severity"], "warning");
}
