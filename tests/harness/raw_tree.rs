//! A client of the grid that sends tasks of the tree form as a test makes them,
//! past everything that hgbuild would do or refuse.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hg_coord::commands::dial;
use hg_proto::compiler::probe;
use hg_proto::compiler::toolchain::Language;
use hg_proto::secure::token::Token;
use hg_proto::v1::{self, SubmitRequest, submit_request, submit_response};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::CHUNK_BYTES_MAX;
use hg_proto::wire::plain_path::plain;
use hg_worker_lite::inputs::blobs::Sink;
use tokio_stream::StreamExt;

use crate::command::{Outcome, run, scrubbed};
use crate::grid::Grid;
use crate::programs::programs;
use crate::running::until;
use crate::skip;

/// What one task may take.
const TASK_TIME_MAX: Duration = Duration::from_secs(120);

/// A task, and what its inputs hold.
#[derive(Clone)]
pub struct TreeTask {
    /// As it is sent.
    pub task: v1::Task,
    /// By the number of the input.
    pub contents: Vec<Vec<u8>>,
}

/// What came of a task.
pub struct Answer {
    /// As the worker says it.
    pub result: v1::TaskResult,
    /// By the number of the output; what was not made is empty.
    pub outputs: Vec<Vec<u8>>,
    /// How many contents the worker asked for.
    pub needed: usize,
    /// Bytes of them.
    pub sent_bytes: usize,
}

/// A grid of one worker, with two slots, that takes tasks of the tree form; `None`:
/// none does here, as is said of `what`.
pub fn grid(what: &str) -> Option<Grid> {
    let grid = Grid::start(programs(), 1, 2);
    let workers = until(&grid.coordinator, "toolchains", || {
        let list = grid.get("/api/v1/workers").ok()?;
        list.contains("\"digest\"").then_some(list)
    });
    if !workers.contains("\"sandbox\":\"full\"") {
        skip(what, &grid.workers[0].stderr());
        return None;
    }
    Some(grid)
}

/// This machine's `driver` for `language`, for tasks of the tree form; `None`: there
/// is none.
pub fn toolchain(driver: &Path, language: Language) -> Option<v1::Toolchain> {
    probe::probe(driver, None).ok()?.tree_toolchain(language)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    let words = line.split_whitespace();
    words.map(|word| word.as_bytes().to_vec()).collect()
}

impl TreeTask {
    /// The compile that `arguments` says, in `folder`, as which it writes `outputs`.
    /// Its inputs are what the compiler itself lists.
    ///
    /// # Panics
    /// There is no such compiler, or it lists nothing.
    pub fn of(
        driver: &Path,
        language: Language,
        folder: &Path,
        arguments: &str,
        outputs: &[&str],
    ) -> TreeTask {
        let cwd = folder.as_os_str().as_encoded_bytes();
        let mut list = scrubbed(driver, folder, folder);
        let skipped = |word: &&str| !word.starts_with("-M") && !word.ends_with(".d");
        list.args(arguments.split_whitespace().filter(skipped));
        let listed = run(list.args(["-M", "-MF", "/proc/self/fd/1", "-MT", "x"]));
        let text = String::from_utf8_lossy(&listed.stdout).replace("\\\n", " ");
        let names = text.split_whitespace().filter(|name| *name != "x:");
        let mut paths: Vec<Vec<u8>> = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            let path = plain(cwd, name.as_bytes());
            if seen.insert(path.clone()) {
                paths.push(path);
            }
        }
        let mut task = TreeTask {
            task: v1::Task {
                toolchain: toolchain(driver, language),
                arguments: words(arguments),
                working_directory: cwd.to_vec(),
                outputs: outputs
                    .iter()
                    .map(|output| plain(cwd, output.as_bytes()))
                    .collect(),
                environment: vec![v1::EnvironmentVariable {
                    name: b"LC_ALL".to_vec(),
                    value: b"C.UTF-8".to_vec(),
                }],
                source: "tree".into(),
                client: "raw".into(),
                queue_ms_max: 30_000,
                tree: true,
                ..v1::Task::default()
            },
            contents: Vec::new(),
        };
        for path in paths {
            let real = Path::new(std::str::from_utf8(&path).expect("a path"));
            let content = fs::read(real).expect("a file that is listed");
            task.add(&path, content);
        }
        assert!(!task.contents.is_empty(), "{}", listed.words());
        task
    }

    /// One more input.
    pub fn add(&mut self, path: &[u8], content: Vec<u8>) {
        self.task.inputs.push(v1::Input {
            path: path.to_vec(),
            digest: Digest::of(&content).as_bytes().to_vec(),
            size: content.len() as u64,
            encoding: v1::Encoding::Identity.into(),
            encoded_size: content.len() as u64,
        });
        self.contents.push(content);
    }

    /// Another content for the input at `path`.
    ///
    /// # Panics
    /// There is no such input.
    pub fn edit(&mut self, path: &[u8], content: &[u8]) {
        let mut inputs = self.task.inputs.iter();
        let at = inputs.position(|input| input.path == path);
        let at = at.expect("an input");
        let input = &mut self.task.inputs[at];
        input.digest = Digest::of(content).as_bytes().to_vec();
        input.size = content.len() as u64;
        input.encoded_size = input.size;
        self.contents[at] = content.to_vec();
    }

    /// What the compiler does here: what it says, and its outputs, which are gone
    /// afterwards.
    pub fn locally(&self, driver: &Path) -> (Outcome, Vec<Vec<u8>>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let folder = PathBuf::from(text(&self.task.working_directory));
        let mut command: Command = scrubbed(driver, &folder, &folder);
        command.args(self.task.arguments.iter().map(|word| text(word)));
        let outcome = run(&mut command);
        let outputs = self.task.outputs.iter().map(|path| {
            let content = fs::read(text(path)).unwrap_or_default();
            let _ = fs::remove_file(text(path));
            content
        });
        (outcome, outputs.collect())
    }
}

/// Sends tasks to `grid`.
pub struct RawClient {
    address: String,
    token: Token,
}

impl RawClient {
    /// With a token of its own.
    pub fn new(grid: &Grid) -> RawClient {
        let token = grid.token(&["--role", "client"]);
        RawClient {
            address: grid.address(),
            token: Token::parse(&token).expect("a token"),
        }
    }

    /// Sends a task to its end.
    ///
    /// # Errors
    /// What the grid says instead of a result.
    ///
    /// # Panics
    /// There is no answer in time.
    pub fn submit(&self, task: &TreeTask) -> Result<Answer, v1::Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let patience = tokio::time::timeout(TASK_TIME_MAX, self.exchange(task));
            patience.await.expect("an answer in time")
        })
    }

    async fn exchange(&self, task: &TreeTask) -> Result<Answer, v1::Failure> {
        let client = dial::client(&self.address, Some(&self.token)).await;
        let mut client = client.expect("a connection");
        // Answers are not read while the link is full: room for all that is sent.
        let (requests, stream) = tokio::sync::mpsc::unbounded_channel();
        let send = |kind| {
            let sent = requests.send(SubmitRequest { kind: Some(kind) });
            sent.expect("a stream");
        };
        send(submit_request::Kind::Task(task.task.clone()));
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(stream);
        let answers = client.submit_task(stream).await;
        let mut answers = answers.map_err(|status| refusal(&status))?.into_inner();
        let mut encoded = vec![Vec::new(); task.task.outputs.len()];
        let (mut needed, mut sent_bytes) = (0, 0);
        while let Some(answer) = answers.next().await {
            match answer.map_err(|status| refusal(&status))?.kind {
                Some(submit_response::Kind::Need(need)) => {
                    needed += need.digests.len();
                    for digest in &need.digests {
                        let mut inputs = task.task.inputs.iter();
                        let at = inputs.position(|input| input.digest == *digest);
                        let at = at.expect("a digest of the task's");
                        sent_bytes += task.contents[at].len();
                        for chunk in chunks(need.attempt, at as u32, &task.contents[at]) {
                            send(submit_request::Kind::Chunk(chunk));
                        }
                    }
                }
                Some(submit_response::Kind::Chunk(chunk)) => {
                    encoded[chunk.output as usize].extend(chunk.data);
                }
                Some(submit_response::Kind::Finished(finished)) => {
                    let result = finished.result.expect("a result");
                    let outputs = task.task.outputs.iter().zip(&encoded);
                    let outputs = outputs.map(|(path, encoded)| decoded(&result, path, encoded));
                    return Ok(Answer {
                        outputs: outputs.collect(),
                        result,
                        needed,
                        sent_bytes,
                    });
                }
                Some(submit_response::Kind::Failure(failure)) => return Err(failure),
                _ => {}
            }
        }
        panic!("no answer");
    }
}

/// What the coordinator says no to with a status.
fn refusal(status: &tonic::Status) -> v1::Failure {
    v1::Failure {
        code: v1::failure::Code::Refused.into(),
        detail: status.to_string(),
        ..v1::Failure::default()
    }
}

fn chunks(attempt: u32, input: u32, content: &[u8]) -> Vec<v1::InputChunk> {
    let count = content.len().div_ceil(CHUNK_BYTES_MAX).max(1);
    let chunk = |at: usize| v1::InputChunk {
        attempt,
        input,
        data: content[at * CHUNK_BYTES_MAX..content.len().min((at + 1) * CHUNK_BYTES_MAX)].to_vec(),
        last: at + 1 == count,
    };
    (0..count).map(chunk).collect()
}

fn decoded(result: &v1::TaskResult, path: &[u8], encoded: &[u8]) -> Vec<u8> {
    let mut outputs = result.outputs.iter();
    let Some(output) = outputs.find(|output| output.path == path) else {
        return Vec::new();
    };
    let digest = Digest::try_from(&output.digest[..]).expect("a digest");
    let sink = Sink::new(
        Vec::new(),
        output.encoding(),
        output.encoded_size,
        output.size,
        digest,
    );
    let mut sink = sink.expect("zstd");
    sink.push(encoded).expect("an output");
    sink.finish().expect("an output")
}
