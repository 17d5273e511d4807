//! Somebody else at the coordinator's address: nothing of a token or a source goes
//! there, and nobody falls back to plaintext.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use hg_tests::command::{run, run_within};
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, worker};
use hg_tests::h2;
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::{PATIENCE, until};
use hg_tests::tls_peer::{Listener, certificate};

use super::join;

/// What would tell of a token or a source in the open.
const SECRETS: [&str; 4] = ["hgt1.", "TIMES", "printf", "authorization"];

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes
        .windows(words.len())
        .any(|part| part == words.as_bytes())
}

/// Builds against `listener` with a good token of `grid`: all of it stays here.
fn build_against(what: &str, grid: &Grid, listener: &Listener) {
    let project = Project::of(4);
    let mut make = project.hgbuild_make(&listener.address, &["-j2"]);
    make.env("HG_TOKEN", grid.token(&["--role", "client"]));
    let wrapped = run_within(&mut make, PATIENCE);
    let plain = run(&mut project.plain_make(&["-j2"]));
    project.assert_same_as(what, &plain, wrapped);
    let events = project.events();
    let is_down = |reason: &str| {
        let code = reason.split(':').next().unwrap_or_default();
        ["grid-unreachable", "grid-down", "grid-broken"].contains(&code)
    };
    let stayed = |e: &hg_tests::event::Event| e.place == "local" && is_down(&e.reason);
    assert!(events.iter().all(stayed), "{what}: {}", project.told());
    assert!(
        project.told().contains("grid-unreachable"),
        "{}",
        project.told()
    );
}

/// A worker with a good token of `grid` that is led to `listener`; gives its log
/// once it has failed to link `times` times.
fn work_against(grid: &Grid, listener: &Listener, folder: &Path, words: &str, times: usize) {
    let mut command = worker(programs(), folder, "led-astray", &listener.address, 1);
    command.env("HG_TOKEN", grid.token(&["--role", "worker"]));
    let worker = Daemon::start("worker", &mut command, folder.join("worker.log"));
    until(&worker, words, || {
        (worker.stderr().matches(words).count() >= times).then_some(())
    });
}

/// Whoever joins there is told why not, and keeps nothing.
fn join_against(grid: &Grid, listener: &Listener, words: &str) {
    let at = ["--coordinator", &listener.address];
    let state = grid.folder().join("nobody");
    let state = state.to_string_lossy();
    for (worker, role, more) in [
        (false, "client", vec![]),
        (true, "worker", vec!["--state", &state]),
    ] {
        let token = grid.token(&["--role", role]);
        let outcome = join(grid, worker, &[&at, &more[..]].concat(), &token);
        assert!(!outcome.ok(), "{}", outcome.words());
        assert!(outcome.words().contains(words), "{}", outcome.words());
        assert!(!outcome.words().contains("hgt1."), "{}", outcome.words());
    }
    assert!(!grid.folder().join(".hybridgrid/token").exists());
    assert!(!grid.folder().join("nobody/token").exists());
}

#[test]
fn another_certificate_is_told_nothing() {
    let grid = Grid::start(programs(), 0, 1);
    let impostor = Listener::with_tls(certificate(), |_| Ok(()));
    build_against("an impostor", &grid, &impostor);
    let words = "not the coordinator that the token is of";
    join_against(&grid, &impostor, words);
    let folder = tempfile::tempdir().expect("a folder");
    work_against(&grid, &impostor, folder.path(), words, 2);
    impostor.caught(|caught| {
        assert!(caught.raw.len() >= 5, "{} came", caught.raw.len());
        let plain = String::from_utf8_lossy(&caught.plain);
        assert!(plain.is_empty(), "it was told {plain:?}");
        for raw in &caught.raw {
            for secret in SECRETS {
                assert!(!contains(raw, secret), "{secret} in the open");
            }
        }
    });
}

#[test]
fn nobody_falls_back_to_plaintext() {
    let grid = Grid::start(programs(), 0, 1);
    let answers = AtomicUsize::new(0);
    // A coordinator in plaintext, as a worker or a client would like it.
    let plain = Listener::start(move |mut ear| {
        let first = h2::frame(h2::SETTINGS, 0, 0, &[]);
        let answer: &[u8] = match answers.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => &first,
            _ => b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\n\r\n",
        };
        ear.write_all(answer)?;
        let mut rest = [0; 4096];
        while std::io::Read::read(&mut ear, &mut rest)? > 0 {}
        Ok(())
    });
    build_against("plaintext", &grid, &plain);
    join_against(&grid, &plain, "does not speak TLS");
    let folder = tempfile::tempdir().expect("a folder");
    work_against(&grid, &plain, folder.path(), "does not speak TLS", 3);
    plain.caught(|caught| {
        assert!(caught.raw.len() >= 5, "{} came", caught.raw.len());
        for raw in &caught.raw {
            // A TLS handshake, an alert at its end, and nothing else.
            assert_eq!(raw.first(), Some(&22));
            for secret in SECRETS.iter().chain(&["PRI *", "hostile", "led-astray"]) {
                assert!(!contains(raw, secret), "{secret} in the open");
            }
        }
    });
}
