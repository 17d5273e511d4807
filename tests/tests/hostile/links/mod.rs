//! Peers that speak TLS and the protocols in it, and have no business here: no
//! token or another one's, handshakes that are none or have no end, floods. Nothing
//! gets in, what is turned away is counted, and others' builds run on.

mod doors;
mod floods;
mod folders;
mod handshakes;
mod holders;
mod impostors;
mod pages;
mod pki;
mod rotation;
mod status;
mod tokens;

use hg_coord::commands::dial::{self, Bearing};
use hg_proto::secure::tls::Trust;
use hg_proto::secure::token::{Fingerprint, Token};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use tokio::runtime::Runtime;
use tonic::Code;

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// The grid's certificate, as one of its tokens names it.
fn fingerprint(grid: &Grid) -> Fingerprint {
    parsed(&grid.token(&["--role", "client"])).fingerprint
}

fn parsed(text: &str) -> Token {
    Token::parse(text).expect("a token")
}

/// A client that shows `bearer`, if anything.
async fn client(grid: &Grid, fingerprint: Fingerprint, bearer: &str) -> Bearing {
    client_at(&grid.address(), fingerprint, bearer).await
}

/// The same, of the grid at `address`, HOST:PORT.
async fn client_at(address: &str, fingerprint: Fingerprint, bearer: &str) -> Bearing {
    let channel = dial::channel(address, &Trust::Pinned(fingerprint)).await;
    dial::bearing(channel.expect("a connection"), bearer).expect("a header")
}

/// How the coordinator answers to a look at its status.
async fn status(client: &mut Bearing) -> Code {
    let answer = client.get_status(hg_proto::v1::GetStatusRequest {}).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// `hg-coord WORDS` for the state of `grid`.
fn coord(grid: &Grid, words: &[&str]) {
    let mut command = scrubbed(&programs().coordinator, grid.folder(), grid.folder());
    let outcome = run(command.args(words).arg("--state").arg(grid.state()));
    assert!(outcome.ok(), "{}", outcome.words());
}

/// `hgbuild join` or `hg-worker-lite join`: the token comes by the environment.
fn join(grid: &Grid, worker: bool, words: &[&str], token: &str) -> Outcome {
    let program = match worker {
        true => &programs().worker,
        false => &programs().client,
    };
    let mut command = scrubbed(program, grid.folder(), grid.folder());
    run(command.arg("join").args(words).env("HG_TOKEN", token))
}
