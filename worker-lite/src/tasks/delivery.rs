//! A toolchain that a client brings: its contents to files, a trial, and then it is
//! offered. In a thread of its own. Unaware of sockets and of the link's state.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_channel::Receiver;
use hg_proto::compiler::mathematics;
use hg_proto::compiler::shipment;
use hg_proto::v1::{
    Chunk, Done, Failed, Failure, FromWorker, Need, Shipment, Task, TaskResult, failure::Code,
    from_worker::Kind,
};
use hg_proto::wire::blob::BlobError;
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame;

use crate::files::shipments::Shipments;
use crate::inputs::blobs::Sink;
use crate::inputs::validate::{self, Input, failure};
use crate::log::{self, Level};
use crate::sandbox::facade::Sandbox;
use crate::tasks::control::Control;
use crate::tasks::toolchains::Compiler;
use crate::tasks::trial;

/// A delivery that may be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What is brought.
    pub list: Arc<Shipment>,
    /// Its contents, each once.
    pub inputs: Vec<Input>,
}

impl Delivery {
    /// Checks a task that brings a toolchain.
    ///
    /// # Errors
    /// The failure to answer with.
    pub fn of(task: Task) -> Result<Self, Failure> {
        let refused = |why: &str| failure(Code::Refused, why);
        let inputs = validate::shipped_inputs(&task.inputs)?;
        let list = task.shipment.ok_or_else(|| refused("no shipment"))?;
        shipment::check(&list).map_err(|why| refused(&why))?;
        let machine = (std::env::consts::ARCH, std::env::consts::OS);
        if (&*list.architecture, &*list.os) != machine {
            let (architecture, os) = machine;
            return Err(refused(&format!("a toolchain not for {os} {architecture}")));
        }
        if !list.mathematics.is_empty() && list.mathematics != mathematics::variant() {
            let why = "its mathematical library computes otherwise on this processor";
            return Err(refused(&format!("a toolchain not for this machine: {why}")));
        }
        let announced = inputs.iter().map(|input| (input.digest, input.size));
        if !announced.eq(shipment::contents(&list)) {
            return Err(refused("inputs that are not the shipment's contents"));
        }
        Ok(Delivery {
            list: Arc::new(list),
            inputs,
        })
    }
}

impl Delivery {
    /// What stands for the toolchain.
    pub fn digest(&self) -> Digest {
        shipment::digest(&self.list)
    }
}

/// What a delivery is given.
pub struct Setting {
    /// What is brought.
    pub delivery: Delivery,
    /// As the coordinator numbers it.
    pub dispatch_id: u64,
    /// A name that no other job has.
    pub name: String,
    /// Where task folders lie.
    pub tasks: PathBuf,
    /// Where toolchains are kept.
    pub shipments: Arc<Shipments>,
    /// What holds its trial.
    pub sandbox: Arc<Sandbox>,
    /// Parts of contents; closed when the delivery is cancelled.
    pub chunks: Receiver<Arc<Chunk>>,
    /// Sends a frame ahead of any output: what follows it must not overtake it.
    pub send_ahead: Box<dyn Fn(Vec<u8>) + Send>,
    /// Told which toolchains went for this one.
    pub on_gone: Box<dyn Fn(Vec<Digest>) + Send>,
    /// Shared with the link.
    pub control: Arc<Control>,
    /// Told how many contents are lacking, before the coordinator is asked for them.
    pub lacks: Box<dyn Fn(usize) + Send>,
}

/// Takes the delivery. Gives the last that the coordinator hears of it, and what is offered
/// from now on.
pub fn run(setting: &Setting) -> (FromWorker, Option<Compiler>) {
    let dispatch_id = setting.dispatch_id;
    let mut added = None;
    let kind = match take(setting) {
        Ok(compiler) => {
            added = Some(compiler);
            Kind::Done(Done {
                dispatch_id,
                result: Some(TaskResult::default()),
            })
        }
        Err(failure) => Kind::Failed(Failed {
            dispatch_id,
            failure: Some(setting.control.cancelled().unwrap_or(failure)),
        }),
    };
    (FromWorker { kind: Some(kind) }, added)
}

/// What the coordinator hears of a delivery whose thread panicked.
pub fn panicked(dispatch_id: u64) -> FromWorker {
    let failure = failure(Code::Worker, "a bug in the worker; its log says more");
    FromWorker {
        kind: Some(Kind::Failed(Failed {
            dispatch_id,
            failure: Some(failure),
        })),
    }
}

fn take(setting: &Setting) -> Result<Compiler, Failure> {
    let list = &setting.delivery.list;
    let room = setting.shipments.make_room(list);
    let room = room.map_err(|why| failure(Code::Refused, why))?;
    if !room.gone.is_empty() {
        // At once: nobody is to be sent a task for what is not here.
        (setting.on_gone)(room.gone.clone());
    }
    let lacking = setting.shipments.lacking(list);
    (setting.lacks)(lacking.len());
    let need = Need {
        dispatch_id: setting.dispatch_id,
        digests: lacking.iter().map(|d| d.as_bytes().to_vec()).collect(),
    };
    send(setting, Kind::Need(need))?;
    let part = setting
        .shipments
        .contents()
        .join(format!("{}.part", setting.name));
    let received = receive(setting, lacking, &part);
    // It is not there once it came whole.
    let _ = fs::remove_file(&part);
    received?;
    let was_kept = setting.shipments.has(&setting.delivery.digest());
    let digest = setting.shipments.keep(list);
    let digest = digest.map_err(|error| trouble(&error))?;
    let compiler = Compiler::shipped(digest, list, setting.shipments.contents());
    let compiler = compiler.ok_or_else(|| failure(Code::Refused, "of no known family"))?;
    if was_kept {
        // It has worked here, and may be in use.
        return Ok(compiler);
    }
    let tried = trial::try_compiler(&compiler, &setting.sandbox, &setting.tasks);
    // What is wanted from now on is the tree form's.
    setting.sandbox.forget_roots(&compiler.tools);
    if let Err(why) = tried {
        setting.shipments.forget(&digest);
        return Err(failure(Code::Refused, format!("does not work here: {why}")));
    }
    log::line(
        Level::Info,
        format_args!(
            "toolchain {} {} {} {}: a client's",
            &digest.to_hex()[..16],
            compiler.family.name(),
            shown(&compiler.toolchain.version),
            compiler.language.name(),
        ),
    );
    Ok(compiler)
}

/// A client's text for the log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Takes chunks until all of `lacking` is there; one content after the other, each in
/// `part` until it is whole.
fn receive(setting: &Setting, mut lacking: BTreeSet<Digest>, part: &Path) -> Result<(), Failure> {
    let inputs = &setting.delivery.inputs;
    let mut open: Option<(usize, Sink<File>)> = None;
    while !lacking.is_empty() {
        let chunk = setting.chunks.recv_blocking();
        let chunk = chunk.map_err(|_| failure(Code::Cancelled, "cancelled"))?;
        let at = chunk.blob as usize;
        let wrong = |error: BlobError| match error {
            BlobError::NotAsAnnounced(why) => failure(Code::Input, why),
            BlobError::Io(error) => trouble(&error),
        };
        let awaited = inputs.get(at).filter(|i| lacking.contains(&i.digest));
        let (mut sink, input) = match (open.take(), awaited) {
            (Some((opened, sink)), Some(input)) if opened == at => (sink, input),
            (None, Some(input)) => {
                let file = File::create(part).map_err(|error| trouble(&error))?;
                let sink = Sink::of(file, input).map_err(|error| trouble(&error))?;
                (sink, input)
            }
            _ => return Err(failure(Code::Input, format!("no input {at} is expected"))),
        };
        sink.push(&chunk.data).map_err(wrong)?;
        if chunk.last {
            drop(sink.finish().map_err(wrong)?);
            let came = setting.shipments.came(&input.digest, part);
            came.map_err(|error| trouble(&error))?;
            lacking.remove(&input.digest);
        } else {
            open = Some((at, sink));
        }
    }
    Ok(())
}

/// This machine's own, its disk most likely.
fn trouble(error: &io::Error) -> Failure {
    failure(Code::Worker, format!("a toolchain's file: {error}"))
}

fn send(setting: &Setting, kind: Kind) -> Result<(), Failure> {
    let frame = frame::encode(&FromWorker { kind: Some(kind) })
        .map_err(|error| failure(Code::Worker, error.to_string()))?;
    // Where nothing more fits the link stands still, which ends it.
    (setting.send_ahead)(frame);
    Ok(())
}
