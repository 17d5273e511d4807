//! Whoever shows no token, another one's, or one that is over.

use std::time::Duration;

use hg_coord::trust::{self, now_s};
use hg_proto::token::{Role, Token};
use hg_proto::v1::{
    self, DrainWorkerRequest, ListWorkersRequest, ReportCacheHitRequest, SubmitRequest,
    WatchEventsRequest, from_worker,
};
use hg_tests::grid::Grid;
use hg_tests::hostile::{
    assert_bounded, build_now, build_under, dropped, hello, refused, resident, wait_dropped,
};
use hg_tests::programs::programs;
use hg_tests::running::{PATIENCE, until};
use hg_tests::tls_peer::{TlsPeer, hung_up, socket};
use tonic::Code;

use super::{client, coord, fingerprint, parsed, runtime, status};

/// What is shown, how that is counted, and how the service answers.
struct Bad {
    bearer: String,
    reason: &'static str,
    code: Code,
}

/// Tokens that are good for nothing.
fn void(grid: &Grid) -> Vec<Bad> {
    let good = grid.token(&["--role", "client", "--name", "victim"]);
    let forged = |change: fn(&mut Token)| {
        let mut token = parsed(&good);
        change(&mut token);
        token.to_text()
    };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = trust::open(elsewhere.path()).expect("another coordinator's secrets");
    let mut of_other = other.token(Role::Client, "victim", 0).expect("a token");
    // The connection is to this coordinator all the same.
    of_other.fingerprint = parsed(&good).fingerprint;
    let ours = trust::reread(&grid.state()).expect("the coordinator's secrets");
    let late = ours
        .keyring
        .mint(Role::Client, "late", 1, now_s() - 1, ours.newest());
    let revoked = grid.token(&["--role", "client", "--name", "leaver"]);
    coord(grid, &["revoke", "leaver"]);
    let unknown = [
        forged(|token| token.claims.role = Role::Admin),
        forged(|token| token.claims.name = "someone".into()),
        forged(|token| token.claims.expires_s = u64::MAX),
        forged(|token| token.claims.issued_s += 1),
        forged(|token| token.claims.key ^= 1),
        of_other.to_text(),
    ];
    let bad = |bearer: String, reason| Bad {
        bearer,
        reason,
        code: Code::Unauthenticated,
    };
    let mut all = vec![
        bad(String::new(), "no_token"),
        bad("hgt1.AAAA".into(), "bad_token"),
        bad("x".repeat(5_000), "bad_token"),
        bad(late.expect("a key").to_text(), "expired_token"),
        bad(revoked, "revoked_token"),
    ];
    all.extend(unknown.map(|text| bad(text, "unknown_token")));
    all
}

/// All that the service has to offer, without being let in.
async fn try_all(grid: &Grid, bad: &Bad) {
    let mut client = client(grid, fingerprint(grid), &bad.bearer).await;
    let before = refused(grid, bad.reason);
    let submit = tokio_stream::iter([SubmitRequest::default()]);
    let drain = DrainWorkerRequest {
        worker: "worker-1".into(),
    };
    let answers = [
        status(&mut client).await,
        code(client.list_workers(ListWorkersRequest {}).await),
        code(client.watch_events(WatchEventsRequest {}).await),
        code(client.submit_task(submit).await),
        code(client.drain_worker(drain).await),
        code(
            client
                .report_cache_hit(ReportCacheHitRequest::default())
                .await,
        ),
    ];
    assert_eq!(answers, [bad.code; 6], "{}: {}", bad.reason, bad.bearer);
    let counted = refused(grid, bad.reason) - before;
    assert_eq!(counted, 6, "{}: {}", bad.reason, bad.bearer);
}

fn code<T>(answer: Result<T, tonic::Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// A worker of that token is told why and dropped.
fn try_worker(grid: &Grid, token: &str, reason: &str) {
    let before = (refused(grid, reason), dropped(grid, reason));
    let mut peer = TlsPeer::worker(&grid.address(), fingerprint(grid));
    peer.say(from_worker::Kind::Hello(v1::Hello {
        token: token.to_owned(),
        ..hello(7)
    }));
    let words = peer.goodbye();
    assert!(words.contains("token"), "{reason}: {words:?}");
    assert!(hung_up(&mut peer.stream), "{reason}: the connection lives");
    let after = (refused(grid, reason), dropped(grid, reason));
    assert_eq!(after, (before.0 + 1, before.1 + 1), "{reason}");
}

#[test]
fn who_is_not_known_gets_nothing() {
    let grid = Grid::start(programs(), 2, 2);
    let rest = resident(&grid.coordinator);
    let void = void(&grid);
    build_under(&grid, "bad tokens", || {
        for bad in &void {
            // Read again within a second.
            until(&grid.coordinator, "revocations", || {
                let keyring = |code| (code == bad.code).then_some(());
                runtime().block_on(async {
                    keyring(status(&mut client(&grid, fingerprint(&grid), &bad.bearer).await).await)
                })
            });
            runtime().block_on(try_all(&grid, bad));
            // A hello so long is none.
            if bad.bearer.len() < 1_000 {
                try_worker(&grid, &bad.bearer, bad.reason);
            }
        }
    });
    grid.wait_for_workers(2);
    assert_bounded("bad tokens", &grid, rest);
}

#[test]
fn a_role_is_good_for_its_own_alone() {
    let grid = Grid::start(programs(), 1, 1);
    let [worker, user, admin] =
        ["worker", "client", "admin"].map(|role| grid.token(&["--role", role]));
    try_worker(&grid, &user, "wrong_role");
    try_worker(&grid, &admin, "wrong_role");
    let drain = || DrainWorkerRequest {
        worker: "nobody".into(),
    };
    runtime().block_on(async {
        let bad = Bad {
            bearer: worker,
            reason: "wrong_role",
            code: Code::PermissionDenied,
        };
        try_all(&grid, &bad).await;
        let pin = fingerprint(&grid);
        let mut user = client(&grid, pin, &user).await;
        assert_eq!(status(&mut user).await, Code::Ok);
        let answer = code(user.drain_worker(drain()).await);
        assert_eq!(answer, Code::PermissionDenied);
        let mut admin = client(&grid, pin, &admin).await;
        assert_eq!(code(admin.drain_worker(drain()).await), Code::NotFound);
    });
    grid.wait_for_workers(1);
}

#[test]
fn who_is_revoked_is_out_at_once_and_others_stay() {
    let grid = Grid::start(programs(), 1, 2);
    let pin = fingerprint(&grid);
    let [watcher, stays] =
        ["watcher", "stays"].map(|name| grid.token(&["--role", "client", "--name", name]));
    runtime().block_on(async {
        let mut watcher = client(&grid, pin, &watcher).await;
        let mut stays = client(&grid, pin, &stays).await;
        let events = watcher.watch_events(WatchEventsRequest {}).await;
        let mut events = events.expect("events").into_inner();
        coord(&grid, &["revoke", "watcher"]);
        // Nothing happens on the grid meanwhile that would wake it.
        let over = tokio::time::timeout(PATIENCE, async {
            while let Ok(Some(_)) = events.message().await {}
        });
        assert!(over.await.is_ok(), "the events go on");
        assert_eq!(status(&mut watcher).await, Code::Unauthenticated);
        assert_eq!(status(&mut stays).await, Code::Ok);
    });
    let token = grid.token(&["--role", "worker", "--name", "leaver"]);
    let mut leaver = TlsPeer::worker(&grid.address(), pin);
    leaver.say(from_worker::Kind::Hello(v1::Hello { token, ..hello(9) }));
    grid.wait_for_workers(2);
    coord(&grid, &["revoke", "leaver"]);
    // It goes on as if nothing were.
    let reason = (0..).find_map(|sequence| {
        leaver.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
            sequence,
            ..v1::Heartbeat::default()
        }));
        let pause = Duration::from_millis(200);
        assert!(grid.coordinator.lives_for(pause), "it ended");
        match leaver.hear() {
            Some(hg_proto::v1::to_worker::Kind::Goodbye(goodbye)) => Some(goodbye.reason),
            Some(_) => None,
            None => Some(String::new()),
        }
    });
    assert_eq!(reason.as_deref(), Some("the token was revoked"));
    wait_dropped(&grid, "revoked_token", 1);
    grid.wait_for_workers(1);
    build_now(&grid, "after a revocation");
}

#[test]
fn a_hello_is_good_once() {
    let grid = Grid::start(programs(), 1, 1);
    let pin = fingerprint(&grid);
    let hello = || {
        let token = grid.token(&["--role", "worker", "--name", "twice"]);
        from_worker::Kind::Hello(v1::Hello { token, ..hello(5) })
    };
    let mut peer = TlsPeer::worker(&grid.address(), pin);
    peer.say(hello());
    grid.wait_for_workers(2);
    peer.say(hello());
    assert_eq!(peer.goodbye(), "a second hello");
    wait_dropped(&grid, "second_hello", 1);
    grid.wait_for_workers(1);

    // Who listened has the bytes of a good one, and says them again.
    let mut heard = TlsPeer::worker(&grid.address(), pin);
    heard.say(hello());
    grid.wait_for_workers(2);
    let tape = heard.stream.sock.tape.clone();
    drop(heard);
    grid.wait_for_workers(1);
    let (joined, failed) = (joined(&grid), dropped(&grid, "tls_failed"));
    let mut again = socket(&grid.address()).expect("a connection");
    let _ = std::io::Write::write_all(&mut again, &tape);
    assert!(hung_up(&mut again), "the replay lives");
    wait_dropped(&grid, "tls_failed", failed + 1);
    assert_eq!(self::joined(&grid), joined, "{}", grid.coordinator.stderr());
}

/// How many workers the coordinator has told of.
fn joined(grid: &Grid) -> usize {
    grid.coordinator.stderr().matches(" joined from ").count()
}
