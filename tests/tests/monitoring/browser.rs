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

use crate::shared::{api, build, write_sources};

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

    grid.workers[0].end(Signal::SIGKILL);
    browser.until(&format!("{} === '1'", tile("Workers")));
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
