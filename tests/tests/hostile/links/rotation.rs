//! New secrets without a flag day, and with one.

use std::fs;
use std::path::Path;

use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::token::Token;
use hg_tests::command::run_within;
use hg_tests::daemon::Daemon;
use hg_tests::grid::{Grid, worker};
use hg_tests::hostile::{assert_remote, refused};
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::{PATIENCE, until};

use super::{coord, join};

/// A worker and a client that joined from afar, each with its token in a file.
struct Joined {
    grid: Grid,
    project: Project,
}

impl Joined {
    fn start() -> Joined {
        let mut grid = Grid::start(programs(), 0, 1);
        let folder = grid.folder().to_path_buf();
        join_worker(&grid);
        let mut command = worker(programs(), &folder, "joined", &grid.far_address(), 2);
        let log = folder.join("joined.log");
        grid.workers
            .push(Daemon::start("joined", &mut command, log));
        grid.wait_for_workers(1);
        let project = Project::of(4);
        let joined = Joined { grid, project };
        joined.join_client();
        joined
    }

    fn worker(&self) -> &Daemon {
        &self.grid.workers[0]
    }

    fn join_client(&self) {
        let token = self.grid.token(&["--role", "client", "--name", "user"]);
        let at = self.grid.far_address();
        let mut command = self.project.hgbuild(&at, &["join"]);
        let outcome = run_within(command.env("HG_TOKEN", token), PATIENCE);
        assert!(outcome.ok(), "{}", outcome.words());
    }

    fn worker_token(&self) -> Token {
        kept(&self.grid.folder().join("joined/token"))
    }

    fn client_token(&self) -> Token {
        kept(&self.project.home().join(".hybridgrid/token"))
    }

    /// Builds anew, from afar.
    fn build(&self) -> hg_tests::command::Outcome {
        self.project.clean_objects();
        let _ = fs::remove_file(self.project.home().join("events.jsonl"));
        let _ = fs::remove_dir_all(self.project.home().join(".hybridgrid/run"));
        let mut make = self
            .project
            .hgbuild_make(&self.grid.far_address(), &["-j2"]);
        run_within(&mut make, PATIENCE)
    }
}

fn join_worker(grid: &Grid) {
    let token = grid.token(&["--role", "worker", "--name", "pi"]);
    let state = grid.folder().join("joined");
    let at = grid.far_address();
    let words = ["--coordinator", &at, "--state", &state.to_string_lossy()];
    let outcome = join(grid, true, &words, &token);
    assert!(outcome.ok(), "{}", outcome.words());
}

fn kept(path: &Path) -> Token {
    let stored: Option<Stored> = credentials::stored(path).expect("a token");
    stored.expect("a file").token
}

#[test]
fn old_and_new_hold_together_and_files_are_renewed() {
    let joined = Joined::start();
    let (worker, client) = (joined.worker_token(), joined.client_token());
    assert_remote("before", &joined.project, joined.build());
    coord(&joined.grid, &["rotate"]);
    // The worker's link is the same, and is told meanwhile.
    until(joined.worker(), "a new token", || {
        (joined.worker_token() != worker).then_some(())
    });
    assert_remote("after", &joined.project, joined.build());
    for (old, new) in [
        (worker, joined.worker_token()),
        (client, joined.client_token()),
    ] {
        assert_ne!(old.claims.key, new.claims.key);
        assert_ne!(old.fingerprint, new.fingerprint);
        assert_eq!(
            (old.claims.role, &old.claims.name),
            (new.claims.role, &new.claims.name)
        );
    }
    assert_eq!(joined.worker().stderr().matches("linked as").count(), 1);
    // What is left of the old ones can end now: nobody is out.
    let ended = ["rotate", "--secret", "--overlap", "1h"];
    let current = joined.worker_token();
    coord(&joined.grid, &ended);
    until(joined.worker(), "another new token", || {
        (joined.worker_token() != current).then_some(())
    });
    joined.grid.wait_for_workers(1);
    assert_remote("at the end", &joined.project, joined.build());
}

#[test]
fn without_an_overlap_all_must_join_anew() {
    let joined = Joined::start();
    let client = joined.client_token();
    assert_remote("before", &joined.project, joined.build());
    // As after a theft: whoever has an old token is out at once.
    coord(&joined.grid, &["rotate", "--overlap", "0s"]);
    joined.grid.wait_for_workers(0);
    let outcome = joined.build();
    assert!(outcome.ok(), "{}", outcome.words());
    let told = joined.project.told();
    assert!(
        told.contains("grid-unreachable") && !told.contains("remote"),
        "{told}"
    );
    until(joined.worker(), "the reason", || {
        let words = "not the coordinator that the token is of";
        joined.worker().stderr().contains(words).then_some(())
    });
    // The file is as it was: nobody was given a new one.
    assert_eq!(joined.client_token(), client);
    // Processes of the coordinator's own user here go on by themselves.
    let mut local = joined.project.hgbuild(&joined.grid.address(), &["workers"]);
    let outcome = run_within(&mut local, PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
    // And whoever is given a new token does, a worker that runs included.
    join_worker(&joined.grid);
    joined.join_client();
    joined.grid.wait_for_workers(1);
    assert_remote("joined anew", &joined.project, joined.build());
}

#[test]
fn a_secret_that_ends_takes_its_links_along() {
    let joined = Joined::start();
    let before = refused(&joined.grid, "unknown_token") + refused(&joined.grid, "expired_token");
    // The certificate stays: the old token gets as far as the coordinator.
    coord(&joined.grid, &["rotate", "--secret", "--overlap", "0s"]);
    joined.grid.wait_for_workers(0);
    let outcome = joined.build();
    assert!(outcome.ok(), "{}", outcome.words());
    let told = joined.project.told();
    assert!(
        told.contains("grid-refused") && !told.contains("remote"),
        "{told}"
    );
    let after = refused(&joined.grid, "unknown_token") + refused(&joined.grid, "expired_token");
    assert!(after > before);
}
