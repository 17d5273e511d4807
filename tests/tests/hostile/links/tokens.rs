//! Whoever shows no token, another one's, or one that is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hg_coord::commands::dial::Bearing;
use hg_coord::trust::secrets::{self, now_s};
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1::{
    self, DrainWorkerRequest, ListWorkersRequest, ReportCacheHitRequest, SubmitRequest,
    WatchEventsRequest, from_worker, submit_request, submit_response, to_worker,
};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::hostile::{
    assert_bounded, build_now, build_under, dropped, hello, refused, resident, task, toolchain,
    wait_dropped,
};
use hg_tests::programs::programs;
use hg_tests::running::{PATIENCE, until};
use hg_tests::tls_peer::{TlsPeer, hung_up, socket};
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;
use tonic::Code;

use super::{client, client_at, coord, fingerprint, parsed, runtime, status};

/// What comes of a submission.
type Answers = tonic::Streaming<v1::SubmitResponse>;

/// Between two heartbeats.
const LOOK: Duration = Duration::from_millis(200);

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
    let other = secrets::open(elsewhere.path()).expect("another coordinator's secrets");
    let mut of_other = other.token(Role::Client, "victim", 0).expect("a token");
    // The connection is to this coordinator all the same.
    of_other.fingerprint = parsed(&good).fingerprint;
    let ours = secrets::reread(&grid.state()).expect("the coordinator's secrets");
    let late = ours.keyring.mint(Role::Client, "late", 1, now_s() - 1);
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
        stay: false,
    };
    let answers = [
        status(&mut client).await,
        code(client.list_workers(ListWorkersRequest::default()).await),
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
        stay: false,
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

/// What a look at the status brings: how it is answered, and a token to be kept.
async fn renewal(client: &mut Bearing) -> (Code, Option<Token>) {
    let answer = client.get_status(v1::GetStatusRequest {}).await;
    let Ok(answer) = answer else {
        return (code(answer), None);
    };
    let text = answer.metadata().get("hg-renewal");
    let text = text.map(|text| text.to_str().expect("a token's text"));
    (Code::Ok, text.map(parsed))
}

#[test]
fn a_revocation_is_not_outrun_by_a_renewal() {
    let grid = Grid::start(programs(), 0, 1);
    let pin = fingerprint(&grid);
    let before = secrets::reread(&grid.state()).expect("the coordinator's secrets");
    let made = |name| before.keyring.mint(Role::Client, name, 1_000, 0);
    let old = made("leaver").expect("a key");
    coord(&grid, &["rotate", "--secret"]);
    let look = |token: &Token| {
        let text = token.to_text();
        runtime().block_on(async { renewal(&mut client(&grid, pin, &text).await).await })
    };
    // As old as the one that it replaces, so that a revocation ends both.
    let (answer, new) = look(&old);
    assert_eq!(answer, Code::Ok);
    let new = new.expect("a new token");
    assert_eq!((new.claims.issued_s, new.fingerprint), (1_000, pin));
    assert_eq!(look(&new), (Code::Ok, None));
    // One that names another certificate, to be given one that names ours.
    for bit in 0..8 {
        let mut flipped = new.clone();
        flipped.fingerprint[7] ^= 1 << bit;
        assert_eq!(look(&flipped), (Code::Unauthenticated, None), "bit {bit}");
    }
    // Not a moment later than the command says so.
    coord(&grid, &["revoke", "leaver"]);
    assert_eq!(look(&old), (Code::Unauthenticated, None));
    assert_eq!(look(&new), (Code::Unauthenticated, None));
}

#[test]
fn holders_that_ask_for_new_tokens_all_the_time_are_out_when_the_command_ends() {
    let grid = Grid::start(programs(), 0, 1);
    let pin = fingerprint(&grid);
    let first = parsed(&grid.token(&["--role", "client", "--name", "leaver"]));
    let (address, stop) = (grid.address(), AtomicBool::new(false));
    let held = thread::scope(|scope| {
        let holders: Vec<_> = (0..6u8)
            .map(|number| {
                let (address, stop, first) = (&address, &stop, &first);
                let mut held = first.clone();
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        held.fingerprint[20] ^= number;
                        let text = held.to_text();
                        let look =
                            async { renewal(&mut client_at(address, pin, &text).await).await };
                        held = match runtime().block_on(look) {
                            (_, Some(new)) => new,
                            _ => first.clone(),
                        };
                    }
                    held
                })
            })
            .collect();
        coord(&grid, &["revoke", "leaver"]);
        stop.store(true, Ordering::Relaxed);
        let ended = holders.into_iter().map(|holder| holder.join());
        ended
            .map(|held| held.expect("a holder"))
            .collect::<Vec<_>>()
    });
    for token in held {
        let text = token.to_text();
        let answer =
            runtime().block_on(async { status(&mut client(&grid, pin, &text).await).await });
        assert_eq!(answer, Code::Unauthenticated, "{:?}", token.claims);
    }
}

#[test]
fn a_revocation_ends_a_silent_link_and_a_submission_that_runs() {
    let grid = Grid::start(programs(), 0, 1);
    let pin = fingerprint(&grid);
    let token = grid.token(&["--role", "worker", "--name", "leaver"]);
    let mut silent = TlsPeer::worker(&grid.address(), pin);
    silent.say(from_worker::Kind::Hello(v1::Hello {
        token,
        toolchains: vec![toolchain(v1::Language::C)],
        ..hello(9)
    }));
    grid.wait_for_workers(1);

    let token = grid.token(&["--role", "client", "--name", "submitter"]);
    let runtime = runtime();
    let mut replies = runtime.block_on(async {
        let kind = v1::submit_request::Kind::Task(task(v1::Language::C));
        let first = SubmitRequest { kind: Some(kind) };
        // It stays open, as that of a client that waits.
        let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut client = client(&grid, pin, &token).await;
        let replies = client.submit_task(requests).await.expect("a stream");
        replies.into_inner()
    });
    let mut hear = || runtime.block_on(replies.message()).map(|reply| reply?.kind);
    let accepted = hear().expect("an answer");
    let is_accepted = matches!(accepted, Some(v1::submit_response::Kind::Accepted(_)));
    assert!(is_accepted, "{accepted:?}");
    let started = hear().expect("an answer");
    let is_started = matches!(started, Some(v1::submit_response::Kind::Started(_)));
    assert!(is_started, "{started:?}");

    coord(&grid, &["revoke", "submitter"]);
    assert_eq!(code(hear()), Code::Unauthenticated);
    // The worker is told, and says nothing.
    let is_cancel = |kind| matches!(kind, to_worker::Kind::Cancel(_));
    while !silent.hear().is_some_and(is_cancel) {}
    coord(&grid, &["revoke", "leaver"]);
    assert_eq!(silent.goodbye(), "the token was revoked");
    grid.wait_for_workers(0);
}

/// A worker without a token's end, and a submission that it has and whose answers are
/// still to come, by the bearer of `token`.
fn running(grid: &Grid, token: &str) -> (TlsPeer, Runtime, Bearing, Answers) {
    let honest = grid.token(&["--role", "worker", "--name", "honest"]);
    let worker = played(grid, &honest, 1, 1_000);
    let runtime = runtime();
    let (user, answers) = runtime.block_on(async {
        let mut user = client(grid, fingerprint(grid), token).await;
        let answers = submit(&mut user).await;
        (user, answers)
    });
    (worker, runtime, user, answers)
}

/// The worker is still there.
fn beat(worker: &mut TlsPeer) {
    worker.say(from_worker::Kind::Heartbeat(v1::Heartbeat::default()));
}

/// How the service ends a submission: its code, or the end with a compiler's answer.
async fn ends(answers: &mut Answers) -> Code {
    loop {
        match answers.message().await {
            Err(status) => return status.code(),
            Ok(None) => panic!("no end"),
            Ok(Some(answer)) => {
                if let Some(submit_response::Kind::Finished(_)) = answer.kind {
                    return Code::Ok;
                }
            }
        }
    }
}

#[test]
fn a_token_that_comes_to_its_own_end_ends_no_compile_that_runs() {
    let grid = Grid::start(programs(), 0, 1);
    let ours = secrets::reread(&grid.state()).expect("the coordinator's secrets");
    let short = ours
        .keyring
        .mint(Role::Client, "short", now_s(), now_s() + 3);
    let short = short.expect("a key").to_text();
    let (mut worker, runtime, mut user, mut answers) = running(&grid, &short);
    // Its own end, and a command that means somebody else.
    until(&grid.coordinator, "the end of a token", || {
        beat(&mut worker);
        let code = runtime.block_on(status(&mut user));
        (code == Code::Unauthenticated).then_some(())
    });
    grid.token(&["--role", "client", "--name", "somebody"]);
    coord(&grid, &["revoke", "somebody"]);
    answer(&mut worker, 40);
    assert_eq!(runtime.block_on(ends(&mut answers)), Code::Ok);
}

#[test]
fn a_secret_whose_overlap_is_over_ends_what_runs_by_the_clock() {
    let grid = Grid::start(programs(), 0, 1);
    let token = grid.token(&["--role", "client", "--name", "old"]);
    let (mut worker, runtime, _user, mut answers) = running(&grid, &token);
    coord(&grid, &["rotate", "--secret", "--overlap", "3s"]);
    // Nobody commands anything from here on.
    let end = until(&grid.coordinator, "an end", || {
        beat(&mut worker);
        let end = async { tokio::time::timeout(LOOK, ends(&mut answers)).await };
        runtime.block_on(end).ok()
    });
    assert_eq!(end, Code::Unauthenticated);
    // Its worker was given a token of the new secret, and is still there.
    let is_cancel = |kind| matches!(kind, to_worker::Kind::Cancel(_));
    while !worker.hear().is_some_and(is_cancel) {}
    grid.wait_for_workers(1);
}

/// What `hg-coord WORDS` does for the state of `grid`.
fn outcome(grid: &Grid, words: &[&str]) -> Outcome {
    let mut command = scrubbed(&programs().coordinator, grid.folder(), grid.folder());
    run(command.args(words).arg("--state").arg(grid.state()))
}

#[test]
fn tokens_are_listed_with_who_was_seen_and_what_is_revoked() {
    let mut grid = Grid::start(programs(), 0, 1);
    let pin = fingerprint(&grid);
    let [seen, _unseen] =
        ["seen", "unseen"].map(|name| grid.token(&["--role", "client", "--name", name]));
    grid.token(&["--role", "worker", "--name", "pi", "--expires", "30d"]);
    // One that was made before there was a list, in the form of that time.
    let ours = secrets::reread(&grid.state()).expect("the coordinator's secrets");
    let older = ours.keyring.mint(Role::Admin, "older", 1_000, 0);
    let older = older.expect("a key");
    let older = Token {
        secret: older
            .claims
            .secret_without_fingerprint(&ours.keyring.keys[0].secret),
        ..older
    };
    let look = |token: &str| {
        runtime().block_on(async { status(&mut client(&grid, pin, token).await).await })
    };
    let listed = |name: &str| {
        let listed = outcome(&grid, &["tokens"]);
        assert!(listed.ok(), "{}", listed.words());
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let row = text
            .lines()
            .find(|row| row.starts_with(&format!("{name} ")));
        row.unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(listed("older").is_empty());
    assert_eq!((look(&seen), look(&older.to_text())), (Code::Ok, Code::Ok));
    let row = listed("unseen");
    assert_eq!(
        (&row[1][..], &row[3..]),
        ("client", &["never", "never", "good"].map(str::to_owned)[..])
    );
    let row = listed("seen");
    assert!(row[4].ends_with('Z') && row[5] == "good", "{row:?}");
    let row = listed("older");
    assert_eq!(
        (&row[1][..], &row[2][..]),
        ("admin", "1970-01-01T00:16:40Z")
    );
    let row = listed("pi");
    assert!(row[1] == "worker" && row[3].ends_with('Z'), "{row:?}");

    let revoked = outcome(&grid, &["revoke", "seen"]);
    assert!(revoked.ok(), "{}", revoked.words());
    let words = String::from_utf8_lossy(&revoked.stdout).into_owned();
    assert_eq!(
        words,
        "seen: revoked, and the running coordinator acts by it\n"
    );
    assert_eq!(listed("seen")[5], "revoked");
    assert!(outcome(&grid, &["revoke", "older"]).ok());
    assert_eq!(look(&older.to_text()), Code::Unauthenticated);
    let never = outcome(&grid, &["revoke", "sene"]);
    assert_eq!(never.code, Some(1), "{}", never.words());
    let words = String::from_utf8_lossy(&never.stderr).into_owned();
    assert!(
        words.contains("sene is revoked, but was never given"),
        "{words}"
    );
    assert!(listed("sene").join(" ").ends_with("never given"));

    // It is kept over an end, and changed while nobody runs.
    grid.coordinator.end(Signal::SIGKILL);
    let revoked = outcome(&grid, &["revoke", "unseen"]);
    let words = String::from_utf8_lossy(&revoked.stdout).into_owned();
    assert!(
        revoked.ok() && words.contains("no coordinator runs"),
        "{words}"
    );
    let listed = outcome(&grid, &["tokens"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.ok() && text.contains("older"), "{}", listed.words());
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

/// A worker that the test plays, of the compiler that no machine has.
fn played(grid: &Grid, token: &str, instance: u8, speed_milli: u32) -> TlsPeer {
    let mut worker = TlsPeer::worker(&grid.address(), fingerprint(grid));
    worker.say(from_worker::Kind::Hello(v1::Hello {
        name: "pi".into(),
        token: token.into(),
        slots: hg_proto::wire::limits::SLOTS_MAX,
        cores: hg_proto::wire::limits::SLOTS_MAX,
        speed_milli,
        toolchains: vec![toolchain(v1::Language::C)],
        ..hello(instance)
    }));
    grid.wait_for_workers(1);
    worker
}

/// Submits a task of one byte; comes back when it is placed or waits.
async fn submit(client: &mut Bearing) -> Answers {
    let one = SubmitRequest {
        kind: Some(submit_request::Kind::Task(task(v1::Language::C))),
    };
    // The stream stays open: a client that closes it sends no inputs.
    let requests = tokio_stream::iter([one]).chain(tokio_stream::pending());
    let answers = client.submit_task(requests).await;
    let mut answers = answers.expect("answers").into_inner();
    let first = answers.next().await.expect("an answer").expect("no error");
    let is_accepted = matches!(first.kind, Some(submit_response::Kind::Accepted(_)));
    assert!(is_accepted, "{first:?}");
    answers
}

/// The compiler's answer to the next task: an error, after `wall_ms`.
fn answer(worker: &mut TlsPeer, wall_ms: u64) {
    let dispatch = std::iter::from_fn(|| worker.hear()).find_map(|kind| match kind {
        to_worker::Kind::Dispatch(dispatch) => Some(dispatch),
        _ => None,
    });
    let dispatch_id = dispatch.expect("a task").dispatch_id;
    let usage = v1::Usage {
        wall_us: wall_ms * 1_000,
        ..v1::Usage::default()
    };
    worker.say(from_worker::Kind::Done(v1::Done {
        dispatch_id,
        result: Some(v1::TaskResult {
            exit_code: 1,
            usage: Some(usage),
            ..v1::TaskResult::default()
        }),
    }));
}

/// Slots that have a task, and tasks that wait.
async fn load(client: &mut Bearing) -> (u32, u32) {
    let status = client.get_status(v1::GetStatusRequest {}).await;
    let status = status.expect("a status").into_inner();
    (status.slots_busy, status.queued)
}

/// What a worker has shown is its token's: another one's worker takes the name, and has
/// neither the slots that were proven nor the speed; nor does it spoil that.
#[test]
fn a_workers_name_is_worth_what_its_own_holder_has_shown() {
    const TASKS: u32 = 24;
    let grid = Grid::start(programs(), 0, 1);
    let [honest, thief] =
        ["honest", "thief"].map(|name| grid.token(&["--role", "worker", "--name", name]));
    let speed = || {
        let listed = grid.get("/api/v1/workers").expect("a list");
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        listed[0]["speed_milli"].as_u64().expect("a speed")
    };
    runtime().block_on(async {
        let user = grid.token(&["--role", "client", "--name", "user"]);
        let mut user = client(&grid, fingerprint(&grid), &user).await;
        let mut worker = played(&grid, &honest, 1, 1_000);
        for _ in 0..TASKS {
            let mut answers = submit(&mut user).await;
            answer(&mut worker, 40);
            while let Some(Ok(_)) = answers.next().await {}
        }
        let learned = speed();
        drop(worker);
        grid.wait_for_workers(0);

        let thieves = played(&grid, &thief, 2, 3_000);
        assert_eq!(speed(), 3_000, "as another was learned to be: {learned}");
        let mut open = Vec::new();
        for _ in 0..TASKS {
            open.push(submit(&mut user).await);
        }
        let (busy, queued) = load(&mut user).await;
        assert_eq!(busy + queued, TASKS);
        assert!((1..=8).contains(&busy), "{busy} of {TASKS} at once");
        drop((open, thieves));
        grid.wait_for_workers(0);

        let mut worker = played(&grid, &honest, 3, 1_000);
        assert_eq!(speed(), learned, "as the other one made it");
        let mut open = Vec::new();
        for _ in 0..TASKS {
            open.push(submit(&mut user).await);
        }
        assert_eq!(load(&mut user).await, (TASKS, 0));
        (0..TASKS).for_each(|_| answer(&mut worker, 40));
    });
}
