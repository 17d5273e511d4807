//! Workers that answer for what they did not do: their results reach nobody, and
//! what they call themselves harms no reader.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hg_proto::v1::{self, Chunk, Done, Output, TaskResult, from_worker};
use hg_proto::wire::limits::HEARTBEAT_MS;
use hg_tests::command::run_within;
use hg_tests::grid::Grid;
use hg_tests::hostile::{assert_bounded, build_under, greeting, hello, resident, wait_dropped};
use hg_tests::impostor::{Chosen, Impostor, announced, for_impostors, forged};
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::{PATIENCE, Running, until};
use hg_tests::tls_peer::socket;
use nix::sys::signal::Signal;

/// A result with `travels` before it.
fn result(dispatch_id: u64, outputs: Vec<Output>, travels: Vec<u8>) -> [from_worker::Kind; 2] {
    [
        from_worker::Kind::Chunk(Chunk {
            dispatch_id,
            blob: 0,
            data: travels,
            last: true,
        }),
        from_worker::Kind::Done(Done {
            dispatch_id,
            result: Some(TaskResult {
                outputs,
                ..TaskResult::default()
            }),
        }),
    ]
}

/// What the hostile worker gave was thrown away, and the build is as a plain one.
fn assert_reached_nobody(what: &str, project: &Project, make: Running) {
    let wrapped = make.finish();
    let plain = run_within(&mut project.plain_make(&["-j2"]), PATIENCE);
    project.assert_same_as(what, &plain, wrapped);
    let told = project.told();
    assert!(!told.contains("remote  hostile"), "{what}: {told}");
    assert!(told.contains("result-corrupt"), "{what}: {told}");
}

type Lie = fn(&mut Output, &mut Vec<u8>);

#[test]
fn results_that_do_not_fit_their_content_reach_nobody() {
    let lies: [(&str, Lie); 4] = [
        ("another digest", |output, _| output.digest = vec![7; 32]),
        ("another size", |output, _| output.size += 1),
        ("changed on the way", |_, travels| {
            if let Some(last) = travels.last_mut() {
                *last ^= 1;
            }
        }),
        ("a bomb", |output, travels| {
            // One byte, a million times and more (RFC 8878, section 3.1.1.2).
            let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
            for _ in 0..100_000 {
                // Blocks of type RLE, 128 KiB each.
                let head = (128_u32 << 10) << 3 | 1 << 1;
                bomb.extend(&head.to_le_bytes()[..3]);
                bomb.push(b'x');
            }
            output.size = 100_000 * (128 << 10);
            output.encoded_size = bomb.len() as u64;
            *travels = bomb;
        }),
    ];
    for (number, (what, lie)) in lies.into_iter().enumerate() {
        let Chosen {
            grid: _grid,
            impostor: mut liar,
            project,
            make,
            dispatch,
        } = Chosen::new(number as u8);
        let task = dispatch.task.expect("a task");
        let (mut output, mut travels) = announced(&forged("a liar"), &task.outputs[0]);
        lie(&mut output, &mut travels);
        output.encoded_size = travels.len() as u64;
        let [chunk, done] = result(dispatch.dispatch_id, vec![output], travels);
        if let from_worker::Kind::Chunk(chunk) = chunk {
            // In pieces that may be.
            let pieces: Vec<&[u8]> = chunk.data.chunks(60_000).collect();
            for (at, piece) in pieces.iter().enumerate() {
                liar.say(from_worker::Kind::Chunk(Chunk {
                    data: piece.to_vec(),
                    last: at + 1 == pieces.len(),
                    ..chunk
                }));
            }
        }
        liar.say(done);
        drop(liar);
        assert_reached_nobody(what, &project, make);
    }
}

/// They are what they are said to be, digest and all.
#[test]
fn what_is_no_object_of_the_target_reaches_nobody() {
    let elf = |kind: u8, machine: u8, len: usize| {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([kind, 0, machine, 0]);
        elf.resize(len, 0);
        elf
    };
    let contents = [
        ("nothing", Vec::new()),
        ("text", b"int main(void) { return 0; }\n".repeat(9)),
        ("a header alone", elf(1, 62, 30)),
        ("another machine's", elf(1, 22, 900)),
        ("a program", elf(2, 62, 900)),
    ];
    for (number, (what, content)) in contents.into_iter().enumerate() {
        let Chosen {
            grid: _grid,
            impostor: mut liar,
            project,
            make,
            dispatch,
        } = Chosen::new(number as u8);
        let task = dispatch.task.expect("a task");
        let (output, travels) = announced(&content, &task.outputs[0]);
        for kind in result(dispatch.dispatch_id, vec![output], travels) {
            liar.say(kind);
        }
        drop(liar);
        assert_reached_nobody(what, &project, make);
    }
}

#[test]
fn who_claims_a_thousand_slots_draws_few_tasks() {
    let grid = Grid::insecure(programs(), 1, 2);
    let all = v1::Hello {
        slots: hg_proto::wire::limits::SLOTS_MAX,
        cores: hg_proto::wire::limits::SLOTS_MAX,
        speed_milli: u32::MAX,
        ..hello(1)
    };
    let mut boaster = Impostor::join_as(&grid, all);
    grid.wait_for_workers(2);
    let project = Project::of(16);
    project.in_plaintext();
    let mut make = project.hgbuild_make(&grid.address(), &["-j16"]);
    let make = Running::start(for_impostors(&mut make));
    boaster.dispatch();
    let mut most = 0;
    until(&grid.coordinator, "eight objects", || {
        let listed = grid.get("/api/v1/workers").ok()?;
        let listed: serde_json::Value = serde_json::from_str(&listed).ok()?;
        let workers = listed.as_array()?;
        let number = |name: &str, field: &str| {
            let named = workers.iter().find(|worker| worker["name"] == name)?;
            named[field].as_u64()
        };
        most = most.max(number("hostile", "running").unwrap_or(0));
        // The honest one gets the rest, while nobody knows that the other does nothing.
        (number("worker-1", "tasks_finished")? >= 8).then_some(())
    });
    assert!((1..=8).contains(&most), "{most} of 16 at once");
    drop(boaster);
    let wrapped = make.finish();
    let plain = run_within(&mut project.plain_make(&["-j16"]), PATIENCE);
    project.assert_same_as("a thousand slots", &plain, wrapped);
}

/// Its link lives, and its heartbeats come. No core here may take over, and no other
/// worker either.
#[test]
fn who_says_that_a_compile_began_and_nothing_more_is_given_up() {
    let mut grid = Grid::insecure(programs(), 1, 1);
    let mut silent = Impostor::join(&grid, 1);
    grid.workers.clear();
    grid.wait_for_workers(1);
    let project = Project::of(1);
    project.in_plaintext();
    let mut make = project.hgbuild_make(&grid.address(), &[]);
    let make = Running::start(for_impostors(&mut make));
    let dispatch_id = silent.dispatch().dispatch_id;
    silent.say(from_worker::Kind::Need(v1::Need {
        dispatch_id,
        digests: Vec::new(),
    }));
    let begun = v1::Begun {
        dispatch_id,
        cpu_us: Some(0),
        ended: false,
    };
    silent.say(from_worker::Kind::Begun(begun));
    let (mut beats, mut beaten) = (0, Instant::now());
    until(&grid.coordinator, "the compile given up", || {
        if beaten.elapsed() >= Duration::from_millis(HEARTBEAT_MS.into()) {
            (beats, beaten) = (beats + 1, Instant::now());
            silent.say(from_worker::Kind::Begun(begun));
            silent.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
                sequence: beats,
                ..v1::Heartbeat::default()
            }));
        }
        project.told().contains("gets no processor").then_some(())
    });
    assert!(beats > 5, "{beats}: before its time");
    let wrapped = make.finish();
    let plain = run_within(&mut project.plain_make(&[]), PATIENCE);
    project.assert_same_as("a silent worker", &plain, wrapped);
}

#[test]
fn nobody_answers_for_a_task_that_another_has() {
    let grid = Grid::insecure(programs(), 1, 1);
    let mut one = Impostor::join(&grid, 1);
    grid.wait_for_workers(2);
    let mut other = socket(&grid.address()).expect("a connection");
    // It offers nothing, and is given nothing.
    other.write_all(&greeting(hello(2))).expect("a hello");
    grid.wait_for_workers(3);
    grid.workers[0].signal(Signal::SIGSTOP);
    let project = Project::of(1);
    project.in_plaintext();
    let mut make = project.hgbuild_make(&grid.address(), &[]);
    let make = Running::start(for_impostors(&mut make));
    let dispatch = one.dispatch();
    let task = dispatch.task.expect("a task");
    let (output, travels) = announced(&forged("the other"), &task.outputs[0]);
    for kind in result(dispatch.dispatch_id, vec![output], travels) {
        let _ = other.write_all(&hg_tests::hostile::encoded(kind));
    }
    wait_dropped(&grid, "unknown_dispatch", 1);
    // The task is still the first one's, which gives it up.
    grid.workers[0].signal(Signal::SIGCONT);
    drop(one);
    let wrapped = make.finish();
    let plain = run_within(&mut project.plain_make(&[]), PATIENCE);
    project.assert_same_as("another's task", &plain, wrapped);
}

#[test]
fn capabilities_without_end() {
    let grid = Grid::insecure(programs(), 2, 2);
    let rest = resident(&grid.coordinator);
    let toolchain = |number: usize| v1::Toolchain {
        family: v1::Family::Clang.into(),
        language: v1::Language::Cxx.into(),
        version: "v".repeat(100),
        target: "<img src=x onerror=alert(1)>".into(),
        digest: number.to_be_bytes().repeat(4),
        ..v1::Toolchain::default()
    };
    build_under(&grid, "capabilities", || {
        let mut peers = Vec::new();
        for number in 0..200_u8 {
            let mut peer = socket(&grid.address()).expect("a connection");
            let offers = (0..64).map(|n| toolchain(usize::from(number) * 64 + n));
            let all = v1::Hello {
                toolchains: offers.collect(),
                slots: hg_proto::wire::limits::SLOTS_MAX,
                cores: u32::MAX,
                memory_bytes: u64::MAX,
                speed_milli: u32::MAX,
                ..hello(number)
            };
            let _ = peer.write_all(&greeting(all));
            peers.push(peer);
        }
        // One who can do more than there is: nothing that a build asks for.
        until(&grid.coordinator, "all of them", || {
            let listed = grid.get("/api/v1/workers").ok()?;
            (listed.matches("\"hostile").count() >= 50).then_some(())
        });
        assert_bounded("capabilities", &grid, rest);
    });
    grid.wait_for_workers(2);
    assert_bounded("capabilities", &grid, rest);
}

#[test]
fn names_are_data_for_whoever_reads_them() {
    let grid = Grid::insecure(programs(), 1, 1);
    let name = "\"} 1\nforged_total 7\n</script><img src=x onerror=alert(1)>\\\u{202e}";
    let nasty = v1::Hello {
        name: name.into(),
        architecture: "<b>".into(),
        os: "\"',;{}".into(),
        program_version: "\u{1b}]0;x\u{7}<svg/onload=1>".into(),
        ..hello(1)
    };
    let _peer = Impostor::join_as(&grid, nasty);
    grid.wait_for_workers(2);
    let mut peer = socket(&grid.http()).expect("a connection");
    let ask = "GET /api/v1/workers HTTP/1.1\r\nHost: localhost\r\n\r\n";
    peer.write_all(ask.as_bytes()).expect("a request");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    // No browser takes it for a page.
    for header in [
        "content-type: application/json",
        "x-content-type-options: nosniff",
        "content-security-policy: default-src 'none'",
    ] {
        assert!(head.contains(header), "no {header} in {head}");
    }
    let listed: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let names: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|worker| worker["name"].as_str())
        .collect();
    let shown = names
        .iter()
        .find(|name| name.contains("<img"))
        .expect("its name");
    let odd = |c: char| c.is_control() || c == '\u{202e}';
    assert!(!shown.contains(odd), "{shown:?}");
    let metrics = grid.get("/metrics").expect("metrics");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("hybridgrid_"), "{line}");
    }
}
