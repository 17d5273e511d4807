//! A coordinator that means harm to those who trust it: hgbuild writes the outputs
//! of a task, or nothing, and what it was told of itself stays within its lines.

use std::fs;
use std::io;
use std::path::PathBuf;

use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::tls;
use hg_proto::secure::token::{Claims, Role, Token};
use hg_proto::v1::{self, Output, OutputChunk, TaskResult, submit_response::Kind};
use hg_tests::command::{Outcome, run, run_within, scrubbed};
use hg_tests::fake_grid::{accepted, answer, end, head, meet, say, started, task};
use hg_tests::folder::{differences, snapshot};
use hg_tests::impostor::{announced, forged};
use hg_tests::project::Project;
use hg_tests::running::PATIENCE;
use hg_tests::skip;
use hg_tests::tls_peer::{Ear, Identity, Listener, certificate};

/// Moves a terminal's cursor, sets its title, and begins a line of its own.
const ESCAPES: &str = "evil\x1b[2J\x1b]0;owned\x07\r\nhgbuild: all is well\u{9b}31m";

/// A finished task: content and result.
fn finish(ear: &mut Ear, worker: &str, result: TaskResult, travels: &[u8]) -> io::Result<()> {
    say(ear, accepted())?;
    say(ear, started(1, worker))?;
    let chunk = |attempt, output| OutputChunk {
        attempt,
        output,
        data: travels.to_vec(),
        last: true,
    };
    // Of an attempt that there is not.
    say(ear, Kind::Chunk(chunk(7, 3)))?;
    say(ear, Kind::Chunk(chunk(1, 0)))?;
    let finished = v1::Finished {
        audit: false,
        attempt: 1,
        result: Some(result),
        worker: worker.into(),
        queue_ms: 0,
        ..v1::Finished::default()
    };
    say(ear, Kind::Finished(finished))?;
    end(ear, "0")
}

/// What is made of the path that the client asked for.
type Twist = Box<dyn Fn(Output) -> TaskResult + Send + Sync>;

fn named(path: impl Into<Vec<u8>>) -> Twist {
    let path = path.into();
    Box::new(move |good| TaskResult {
        outputs: vec![Output {
            path: path.clone(),
            ..good
        }],
        ..TaskResult::default()
    })
}

#[test]
fn nothing_but_the_outputs_of_the_task_is_written() {
    let canary = tempfile::tempdir().expect("a folder");
    let victim = canary.path().join("victim.o");
    fs::write(&victim, "as it was").expect("a file");
    let absolute = victim.to_string_lossy().into_owned();
    let fresh = canary.path().join("fresh.o").to_string_lossy().into_owned();
    let many = |good: Output, more: Output| TaskResult {
        outputs: vec![good, more],
        ..TaskResult::default()
    };
    let named_too = |path: &str| -> Twist {
        let path = path.as_bytes().to_vec();
        Box::new(move |good: Output| {
            let more = Output {
                path: path.clone(),
                ..good.clone()
            };
            many(good, more)
        })
    };
    let twists: Vec<(&str, Twist)> = vec![
        ("dots", named("../escaped.o")),
        ("more dots", named("x/../../../escaped.o")),
        ("an absolute path", named(absolute.as_str())),
        ("an absolute path to nothing", named(fresh.as_str())),
        ("a file at home", named("../.bashrc")),
        ("the source", named("f00.c")),
        ("no name", named("")),
        ("NUL", named(&b"f00.o\0../escaped.o"[..])),
        ("another task's", named("f01.o")),
        ("a folder", named("f00.o/x")),
        ("two of them", named_too("../escaped.o")),
        ("two of one name", named_too("f00.o")),
        ("one more, elsewhere", named_too(&fresh)),
        (
            "a hundred thousand",
            Box::new(|good| TaskResult {
                outputs: vec![good; 100_000],
                ..TaskResult::default()
            }),
        ),
        (
            "one that was not expected",
            Box::new(|good| TaskResult {
                outputs: vec![good],
                unexpected: vec![b"../escaped.o".to_vec(), ESCAPES.into()],
                ..TaskResult::default()
            }),
        ),
    ];
    for (what, twist) in twists {
        let project = Project::of(2);
        project.in_plaintext();
        let plain = run(&mut project.plain_make(&["-j2"]));
        let listener = Listener::start(move |mut ear| {
            let task = answer(&mut ear)?;
            let asked = task.outputs.first().cloned().unwrap_or_default();
            let (good, travels) = announced(&forged("a coordinator"), &asked);
            finish(&mut ear, "nobody", twist(good), &travels)
        });
        let before = snapshot(project.home()).expect("a tree");
        let mut make = project.hgbuild_make(&listener.address, &["-j2"]);
        let wrapped = run_within(&mut make, PATIENCE);
        project.assert_same_as(what, &plain, wrapped);
        let told = project.told();
        assert!(!told.contains(" remote "), "{what}: {told}");
        assert!(listener.caught(|caught| caught.raw.len()) >= 2, "{what}");
        let after = snapshot(project.home()).expect("a tree");
        let odd: Vec<String> = differences(&before, &after)
            .into_iter()
            .filter(|line| {
                let own = [
                    "there/f00.o:",
                    "there/f01.o:",
                    "events.jsonl:",
                    ".hybridgrid",
                ];
                !own.iter().any(|own| line.starts_with(own))
            })
            .collect();
        assert!(odd.is_empty(), "{what}: {odd:#?}");
        let kept = fs::read(&victim).expect("the canary");
        assert_eq!(kept, b"as it was", "{what}");
        let there = fs::read_dir(canary.path()).expect("the canary's folder");
        assert_eq!(there.count(), 1, "{what}");
    }
}

/// The control case of the test above: with the right name it is believed.
#[test]
fn a_well_formed_result_is_taken() {
    let project = Project::of(1);
    project.in_plaintext();
    let listener = Listener::start(|mut ear| {
        let task = answer(&mut ear)?;
        let (good, travels) = announced(&forged("a coordinator"), &task.outputs[0]);
        let result = TaskResult {
            outputs: vec![good],
            ..TaskResult::default()
        };
        finish(&mut ear, "nobody", result, &travels)
    });
    let outcome = run_within(&mut project.hgbuild_make(&listener.address, &[]), PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
    let object = fs::read(project.there().join("f00.o")).expect("an object");
    assert_eq!(object, forged("a coordinator"));
}

/// One compile of hgbuild with everything said.
fn compile(project: &Project, address: &str, words: &[&str]) -> Outcome {
    let mut command = project.hgbuild(address, words);
    run_within(command.env("HG_LOG", "debug"), PATIENCE)
}

fn assert_plain(what: &str, outcome: &Outcome) {
    let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!text.contains(odd), "{what}: {text:?}");
    assert!(!text.contains("\nhgbuild: all is well"), "{what}: {text:?}");
    assert!(text.contains("evil"), "{what}: it says nothing: {text:?}");
}

#[test]
fn what_it_says_of_itself_stays_within_a_line() {
    let gcc = ["gcc", "-O1", "-c", "-o", "f00.o", "f00.c"];
    let project = Project::of(1);
    project.in_plaintext();
    let worker = Listener::start(|mut ear| {
        let task = answer(&mut ear)?;
        let (good, travels) = announced(&forged("a coordinator"), &task.outputs[0]);
        let result = TaskResult {
            outputs: vec![good],
            ..TaskResult::default()
        };
        finish(&mut ear, ESCAPES, result, &travels)
    });
    let outcome = compile(&project, &worker.address, &gcc);
    assert!(outcome.ok(), "{}", outcome.words());
    assert_plain("a worker's name", &outcome);

    let failure = || {
        Listener::start(|mut ear| {
            answer(&mut ear)?;
            say(
                &mut ear,
                Kind::Failure(v1::Failure {
                    code: v1::failure::Code::Worker.into(),
                    detail: ESCAPES.into(),
                    ..v1::Failure::default()
                }),
            )?;
            end(&mut ear, "0")
        })
    };
    let outcome = compile(&project, &failure().address, &gcc);
    assert!(outcome.ok(), "{}", outcome.words());
    assert_plain("a failure", &outcome);
    let fallback = [&["--no-fallback"][..], &gcc].concat();
    let outcome = compile(&project, &failure().address, &fallback);
    assert_eq!(outcome.code, Some(75), "{}", outcome.words());
    assert_plain("a failure without fallback", &outcome);

    let unexpected = Listener::start(|mut ear| {
        let task = answer(&mut ear)?;
        let (good, travels) = announced(&forged("a coordinator"), &task.outputs[0]);
        let result = TaskResult {
            outputs: vec![good],
            unexpected: vec![ESCAPES.into()],
            ..TaskResult::default()
        };
        finish(&mut ear, "nobody", result, &travels)
    });
    let outcome = compile(&project, &unexpected.address, &gcc);
    assert!(outcome.ok(), "{}", outcome.words());
    assert_plain("an output's name", &outcome);
}

#[test]
fn a_compilers_words_are_passed_on_as_they_are() {
    let clang = ["clang", "-O1", "-c", "-o", "f00.o", "f00.c"];
    let project = Project::of(1);
    project.in_plaintext();
    let mut probe = scrubbed("sh", project.home(), project.home());
    if !run(probe.args(["-c", "clang --version"])).ok() {
        return skip("a compiler's words", "no clang");
    }
    // As a source with such names makes a compiler say them; not all of it UTF-8.
    let words = [ESCAPES.as_bytes(), &[0xff, 0xfe, b'\n']].concat();
    let sent = words.clone();
    let listener = Listener::start(move |mut ear| {
        let task = answer(&mut ear)?;
        let (good, travels) = announced(&forged("a coordinator"), &task.outputs[0]);
        let result = TaskResult {
            outputs: vec![good],
            stderr: sent.clone(),
            ..TaskResult::default()
        };
        finish(&mut ear, "nobody", result, &travels)
    });
    let mut command = project.hgbuild(&listener.address, &clang);
    let outcome = run_within(&mut command, PATIENCE);
    assert!(outcome.ok(), "{}", outcome.words());
    assert_eq!(outcome.stderr, words, "{}", outcome.words());
    assert_eq!(outcome.stdout, b"");
}

/// A client that has joined a coordinator of the test's own.
struct Joined {
    project: Project,
    identity: Identity,
    token: Token,
}

fn made(role: Role, name: &str, key: u32, fingerprint: [u8; 32]) -> Token {
    let claims = Claims {
        role,
        key,
        issued_s: 1,
        expires_s: 0,
        name: name.into(),
    };
    Token {
        secret: claims.secret(&[7; 32], &fingerprint),
        claims,
        fingerprint,
    }
}

impl Joined {
    fn new() -> Joined {
        let identity = certificate();
        let token = made(Role::Client, "me", 1, tls::fingerprint(&identity.0));
        Joined {
            project: Project::of(1),
            identity,
            token,
        }
    }

    fn file(&self) -> PathBuf {
        self.project.home().join(".hybridgrid/token")
    }

    /// Compiles with a coordinator that offers `renewal`; what is kept then.
    fn offered(&self, what: &str, renewal: &str) -> Token {
        let stored = Stored {
            token: self.token.clone(),
            coordinator: None,
        };
        credentials::store(&self.file(), &stored).expect("a stored token");
        let identity = (self.identity.0.clone(), self.identity.1.clone_key());
        let renewal = renewal.to_owned();
        let listener = Listener::with_tls(identity, move |session| {
            meet(session)?;
            task(session)?;
            head(session, &[("hg-renewal", &renewal)])?;
            end(session, "13")
        });
        let gcc = ["gcc", "-O1", "-c", "-o", "f00.o", "f00.c"];
        let mut command = self.project.hgbuild(&listener.address, &gcc);
        let outcome = run_within(&mut command, PATIENCE);
        assert!(outcome.ok(), "{what}: {}", outcome.words());
        // It did get there, and heard the answer.
        let told = self.project.told();
        assert!(told.contains("gRPC status 13"), "{what}: {told}");
        fs::remove_dir_all(self.project.home().join(".hybridgrid/run")).expect("notes");
        let kept = credentials::stored(&self.file()).expect("a token");
        kept.expect("a file").token
    }
}

#[test]
fn a_new_token_is_kept_only_if_it_is_for_the_same_holder() {
    let joined = Joined::new();
    let pin = joined.token.fingerprint;
    let good = made(Role::Client, "me", 2, pin);
    assert_eq!(joined.offered("a good one", &good.to_text()), good);
    for (what, renewal) in [
        ("a worker's", made(Role::Worker, "me", 2, pin).to_text()),
        ("an admin's", made(Role::Admin, "me", 2, pin).to_text()),
        (
            "somebody else's",
            made(Role::Client, "you", 2, pin).to_text(),
        ),
        ("nothing", String::new()),
        ("garbage", "hgt1.!!!!".into()),
        ("cut short", good.to_text()[..60].into()),
        ("something behind it", good.to_text() + "AAAA"),
        (
            "two lines",
            format!("{} {}", good.to_text(), good.to_text()),
        ),
        ("a huge one", format!("hgt1.{}", "A".repeat(10_000))),
    ] {
        assert_eq!(joined.offered(what, &renewal), joined.token, "{what}");
    }
}

/// What it says of a worker's time moves compiles to cores that are idle here, and
/// nothing else.
#[test]
fn a_compile_that_waited_for_a_processor_leaves_the_next_one_here() {
    for (wall_ms, next) in [(1_000, "local"), (110, "remote")] {
        let project = Project::of(2);
        project.in_plaintext();
        let listener = Listener::start(move |mut ear| {
            let task = answer(&mut ear)?;
            let asked = task.outputs.first().cloned().unwrap_or_default();
            let (good, travels) = announced(&forged("a coordinator"), &asked);
            let result = TaskResult {
                outputs: vec![good],
                usage: Some(v1::Usage {
                    wall_us: wall_ms * 1_000,
                    user_us: 100_000,
                    ..v1::Usage::default()
                }),
                ..TaskResult::default()
            };
            finish(&mut ear, "starved", result, &travels)
        });
        // The right to compile here what could travel is taken, and a core is idle.
        let run_folder = project.home().join(".hybridgrid/run");
        fs::create_dir_all(&run_folder).expect("a folder");
        let travel = fs::File::create(run_folder.join("travel.0")).expect("a slot");
        travel.lock().expect("a lock");
        for source in ["f00.c", "f01.c"] {
            let mut gcc = project.hgbuild(&listener.address, &["gcc", "-c", source]);
            let outcome = run_within(gcc.env("HG_LOCAL_SLOTS", "1"), PATIENCE);
            assert!(outcome.ok(), "{}", outcome.words());
        }
        let places: Vec<String> = project.events().into_iter().map(|e| e.place).collect();
        assert_eq!(places, ["remote", next], "{wall_ms} ms: {}", project.told());
    }
}
