//! The dashboard in a real browser, while a build runs.

use std::fs;
use std::path::PathBuf;

use hg_tests::browser::Browser;
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::skip;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::shared::{api, build, metric, write_sources};

/// The page has all that it shows.
const IS_LIVE: &str = "document.getElementById('link')?.dataset.state === 'live'";

/// The text of a tile.
fn tile(name: &str) -> String {
    format!("document.querySelector('[data-tile=\"{name}\"]').textContent")
}

#[test]
fn the_page_shows_what_the_api_says_and_names_stay_text() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut grid = Grid::start(programs(), 2, 2);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    browser.show_at(1280, 900, false);
    browser.open(&format!("http://{}/", grid.http()));
    browser.until(IS_LIVE);
    build(&grid, folder.path());
    let status = api(&grid, "status");
    let finished = &status["tasks_finished"];
    browser.until(&format!(
        "document.body.innerText.includes('{finished} since the start')"
    ));
    assert_eq!(browser.value(&tile("Workers")), "2");
    let lookups = status["cache_misses_reported"].as_u64().expect("a number");
    browser.until(&format!(
        "document.body.innerText.includes('0 of {lookups} lookups')"
    ));
    // The lane of a worker opens by the keyboard, and says what it compiled.
    browser.value("document.querySelector('.lane-head').focus()");
    let enter = json!({ "type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
    browser.command("Input.dispatchKeyEvent", &enter);
    browser
        .until("document.querySelector('.panel:not([hidden])')?.innerText.includes('Round trip')");

    // A worker whose name is a script, and a source: they are text.
    let name = "<img src=x onerror=document.title='hacked'>";
    let mut command = worker(programs(), grid.folder(), name, &grid.address(), 1);
    let mut odd = Daemon::start("odd", &mut command, grid.folder().join("odd.log"));
    browser.until("document.querySelectorAll('.lane').length === 3");
    browser.until(
        "[...document.querySelectorAll('.name')].some((it) => it.textContent.includes('onerror'))",
    );
    assert_eq!(
        browser.value("document.querySelectorAll('img[src=x]').length"),
        0
    );
    assert_eq!(browser.value("document.title"), "Hybrid-Grid");
    odd.end(Signal::SIGTERM);

    let left = Delay::watch(
        &mut browser,
        "workers.length === 1",
        &format!("{} === '1'", tile("Workers")),
    );
    grid.workers[0].end(Signal::SIGKILL);
    left.check(&mut browser);
    browser.until("document.getElementById('events-list').innerText.includes('left')");
    // The coordinator goes away and comes back: so does the page, by itself.
    grid.coordinator.signal(Signal::SIGSTOP);
    browser.until("document.getElementById('link').dataset.state === 'lost'");
    grid.coordinator.signal(Signal::SIGCONT);
    browser.until(IS_LIVE);
    let complaints: Vec<&String> = browser
        .complaints
        .iter()
        // While it was away.
        .filter(|one| !one.contains("net::ERR_") && !one.contains("WebSocket"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// Milliseconds from what the API says to the same on the page.
const SHOWN_MS_MAX: u64 = 2_000;

/// Measures on the page how long after the API it shows something.
struct Delay;

impl Delay {
    /// Begins to look at `workers`, the API's list of them, by one expression, and at the page,
    /// whenever it changes, by another. Neither is true yet.
    fn watch(browser: &mut Browser, of_api: &str, of_page: &str) -> Delay {
        let script = format!(
            "(() => {{
               const seen = window.seen = {{ api: null, page: null }};
               const look = () => {{
                 if (seen.page === null && ({of_page})) seen.page = performance.now();
               }};
               look();
               const all = {{ subtree: true, childList: true, characterData: true, attributes: true }};
               new MutationObserver(look).observe(document.body, all);
               const ask = async () => {{
                 const workers = await (await fetch('/api/v1/workers')).json();
                 if ({of_api}) seen.api = performance.now();
                 else setTimeout(ask, 20);
               }};
               return ask().then(() => seen.page === null && seen.api === null);
             }})()"
        );
        assert_eq!(browser.value(&script), true, "{of_page} already");
        Delay
    }

    /// Waits until both have shown it.
    fn check(self, browser: &mut Browser) {
        browser.until("window.seen.api !== null");
        let in_time = format!("performance.now() > window.seen.api + {SHOWN_MS_MAX}");
        browser.until(&format!("window.seen.page !== null || {in_time}"));
        let seen = browser.value("window.seen");
        let (api, page) = (seen["api"].as_f64(), seen["page"].as_f64());
        let late_ms = page.zip(api).map(|(page, api)| page - api);
        eprintln!("shown {late_ms:?} ms after the API");
        assert!(
            late_ms.is_some_and(|ms| ms <= SHOWN_MS_MAX as f64),
            "not shown in time: {seen}"
        );
    }
}

#[test]
fn a_breaker_that_opens_is_shown_at_once() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let grid = Grid::start(programs(), 1, 2);
    browser.show_at(1280, 900, false);
    browser.open(&format!("http://{}/", grid.http()));
    browser.until(IS_LIVE);
    browser.until("document.querySelectorAll('.lane').length === 1");
    let open = Delay::watch(
        &mut browser,
        "workers[0].circuit === 'open'",
        "document.querySelector('.lane .state').textContent === 'breaker open'",
    );
    // It can take no task: there is no folder for one.
    let tasks = grid.folder().join("worker-1/tasks");
    fs::rename(&tasks, tasks.with_extension("away")).expect("its folder of tasks");
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    open.check(&mut browser);
    browser.until("document.getElementById('events-list').innerText.includes('breaker opened')");

    // It is opened for longer each time, and compiles well again when it can: what the page
    // says of it then is what the API and the metrics say.
    fs::rename(tasks.with_extension("away"), &tasks).expect("its folder of tasks");
    browser.until(
        "fetch('/api/v1/workers').then((it) => it.json()).then((it) => it[0].circuit !== 'open')",
    );
    browser.value("document.querySelector('.lane-head').click()");
    fs::remove_dir_all(folder.path().join("cache")).expect("a cache");
    fs::remove_file(folder.path().join("f0.o")).expect("an object");
    build(&grid, folder.path());
    let worker = &api(&grid, "workers")[0];
    let number = |name: &str| worker[name].as_u64().expect("a number");
    assert!(number("tasks_failed") >= 3, "{worker}");
    let says = |what: &str| {
        format!(
            "document.querySelector('.panel').innerText.replace(/\\s+/g, ' ').includes('{what}')"
        )
    };
    let tasks = format!(
        "Tasks {} finished, {} failed",
        number("tasks_finished"),
        number("tasks_failed")
    );
    browser.until(&says(&tasks));
    let circuit = worker["circuit"].as_str().expect("a word");
    browser.until(&says(&format!("Breaker {circuit}")));
    let state = ["closed", "half-open", "open"];
    let state = state.iter().position(|one| *one == circuit);
    let metrics = grid.get("/metrics").expect("metrics");
    let shown = metric(&metrics, "hybridgrid_circuit_state{worker=\"worker-1\"}");
    assert_eq!(Some(shown as usize), state, "{circuit}");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// `tests/axe` fetches axe-core and says where it is.
#[test]
fn axe_finds_no_serious_fault() {
    let Some(script) = std::env::var_os("HG_AXE").map(PathBuf::from) else {
        return skip(
            "axe-core on the dashboard",
            "HG_AXE is not set: see tests/axe",
        );
    };
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let script = fs::read_to_string(script).expect("axe-core's script");
    let grid = Grid::start(programs(), 2, 2);
    let folder = tempfile::tempdir().expect("a folder");
    write_sources(folder.path());
    build(&grid, folder.path());
    for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        browser.show_at(width, 900, is_dark);
        browser.open(&format!("http://{}/", grid.http()));
        browser.until(IS_LIVE);
        browser.value("document.querySelector('.lane-head').click()");
        browser.value(&script);
        let found = browser.value(
            "axe.run().then((result) => JSON.stringify(result.violations.map((one) => \
             [one.impact, one.id, one.nodes.map((node) => node.html).slice(0, 3)])))",
        );
        let found = found.as_str().unwrap_or_default().to_owned();
        assert_eq!(found, "[]", "{width} wide, dark: {is_dark}");
    }
}
