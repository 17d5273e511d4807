//! A gRPC client that isn't ours: Python's grpcio, stubs generated from proto/.

use std::fs;
use std::path::Path;
use std::process::Command;

use hg_tests::command::{run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::{checkout, programs};
use hg_tests::skip;

const HELLO: &str = "#include <stdio.h>\n#define WHO \"grid\"\n\
                     int main(void) { return puts(\"hello, \" WHO) < 0; }\n";

#[test]
fn python_checks_health_lists_workers_and_compiles() {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc_python");
    let script = checkout().join("tests/grpc_python/run");
    // PyPI's settings are in the caller's environment.
    let prepared = run(Command::new(&script).arg("prepare").arg(&environment));
    if !prepared.ok() {
        return skip(
            "gRPC from Python",
            &format!("no Python or no PyPI: {}", prepared.words()),
        );
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    fs::write(home.join("hello.c"), HELLO).expect("hello.c");
    let gcc = |words: &str| {
        let outcome = run(scrubbed("gcc", home, home).args(words.split(' ')));
        assert!(outcome.ok(), "gcc {words}: {}", outcome.words());
    };
    gcc("-O2 -c hello.c -o local.o");
    gcc("-E -fdirectives-only hello.c -o hello.i");

    let grid = Grid::start(programs(), 2, 1);
    let mut client = scrubbed(&script, home, home);
    client
        .env("HG_TOKEN", grid.token(&["--role", "client"]))
        .arg("compile")
        .arg(&environment)
        .args([&grid.address(), "hello.i", "grid.o"]);
    let outcome = run(&mut client);
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.ok(), "{}", outcome.words());
    assert!(said.contains("health: SERVING"), "{said}");
    assert!(said.contains("workers: worker-1 worker-2"), "{said}");
    assert!(said.contains("started: "), "{said}");
    let [local, remote] = ["local.o", "grid.o"].map(|name| fs::read(home.join(name)).expect(name));
    assert!(
        local == remote,
        "the object differs from the local compiler's"
    );
}
